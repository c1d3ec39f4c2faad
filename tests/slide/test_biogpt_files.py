"""Folders of a BioGPT: what is read of them, and one message for each file that cannot be used."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from biomass_pl.errors import WeightsError
from biomass_pl.slide.biogpt_files import file_in, read_sizes, read_state, read_text
from tests.slide.tiny_biogpt import LAYERS, WIDTH, tiny_biogpt


@pytest.fixture
def folder(tmp_path) -> Path:
    tiny_biogpt(tmp_path / "biogpt")
    return tmp_path / "biogpt"


def test_sizes_are_those_of_the_saved_network(folder):
    sizes = read_sizes(folder)
    assert (sizes.width, sizes.layers, sizes.heads, sizes.tied_head) == (WIDTH, LAYERS, 2, True)


def test_a_configuration_may_leave_out_what_every_biogpt_has(folder):
    path = folder / "config.json"
    expected, config = read_sizes(folder), json.loads(path.read_text())
    for name in ("tie_word_embeddings", "hidden_act", "scale_embedding", "pad_token_id", "intermediate_size"):
        del config[name]
    path.write_text(json.dumps(config))
    assert read_sizes(folder) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, r"config\.json is that of a gpt2 model, not of BioGPT\. Download"),
        ({"hidden_size": "16"}, r"hidden_size is 16, and not a number from 1 on"),
        ({"num_hidden_layers": 1}, r"num_hidden_layers is 1, and not a number from 2 on"),
        ({"num_attention_heads": None}, r"num_attention_heads is None"),
        ({"vocab_size": True}, r"vocab_size is True"),
        ({"hidden_act": "relu"}, r"hidden_act is relu, and gelu in every BioGPT known here"),
        ({"scale_embedding": False}, r"scale_embedding is False"),
        ({"pad_token_id": 5}, r"pad_token_id is 5, and 1 in every"),
        ({"intermediate_size": 60}, r"intermediate_size is 60, and 64 in every"),
    ],
    ids=str,
)
def test_the_configuration_of_another_network_is_refused(change, message, folder):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WeightsError, match=message):
        read_sizes(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_or_folder_that_is_not_there_is_named_with_where_it_comes_from(name, folder):
    (folder / name).unlink()
    named = "model.safetensors or pytorch_model.bin" if name == "model.safetensors" else name
    with pytest.raises(WeightsError, match=rf"has no {named}\. Download .* of microsoft/biogpt from huggingface\.co"):
        read_sizes(folder) and read_state(folder)
    with pytest.raises(WeightsError, match=r"There is no folder nowhere\. Download .*--model\.biogpt\.folder FOLDER"):
        file_in(Path("nowhere"), name)


def test_text_that_is_none_is_refused(tmp_path):
    (tmp_path / "merges.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(WeightsError, match=r"merges\.txt cannot be read .*Download it again"):
        read_text(tmp_path / "merges.txt")


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pytorch_model.bin", Malicious()),
        ("pytorch_model.bin", {"biogpt.layer_norm.weight": Malicious()}),
        ("pytorch_model.bin", [1]),
        ("pytorch_model.bin", {"biogpt.layer_norm.weight": "text"}),
        ("pytorch_model.bin", None),
        ("model.safetensors", None),
    ],
)
def test_weights_that_cannot_be_read_are_refused_and_code_is_never_executed(name, content, folder, monkeypatch):
    monkeypatch.chdir(folder)
    Path("model.safetensors").unlink()
    with Path(name).open("wb") as file:
        if content is None:
            file.write(b"damaged")
        elif isinstance(content, Malicious):
            pickle.dump(content, file)
        else:
            torch.save(content, file)
    with pytest.raises(WeightsError, match=rf"{name} holds no weights \(.*\)\. Download it again"):
        read_state(Path())
    assert not Path("ran").exists()
