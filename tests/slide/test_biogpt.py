"""BioGPT in a captioner: it says what the library's own network says, and what of it learns is what is asked for."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import BioGptForCausalLM

from biomass_pl.errors import ConfigError, RunError, WeightsError
from biomass_pl.slide.biogpt import BioGptPart, read_biogpt
from biomass_pl.slide.biogpt_files import BioGptSizes
from biomass_pl.slide.biogpt_settings import BioGptConfig
from biomass_pl.slide.coca import CaptionerConfig, SlideCaptioner
from biomass_pl.slide.generation import generate
from biomass_pl.slide.presets import PRESETS
from biomass_pl.slide.token_choice import GenerationConfig
from biomass_pl.slide.tokenizer import BOS, EOS, PAD
from tests.slide.networks import LANGUAGE_MODEL, PERCEIVER, bags, parameters
from tests.slide.tiny_biogpt import LAYERS, POSITIONS, WIDTH, save_tokens, tiny_biogpt

REPORTS = ["Skin biopsy with cyst, 5 mm.", "Colon and liver."]
PUBLISHED = BioGptSizes(vocab_size=42384, width=1024, layers=24, heads=16, positions=1024, tied_head=True)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> tuple[Path, BioGptForCausalLM]:
    """A folder with a BioGPT, and the network in it. Not to be changed."""
    folder = tmp_path_factory.mktemp("biogpt")
    return folder, tiny_biogpt(folder)


def captioner(folder: Path, config: CaptionerConfig = LANGUAGE_MODEL, **settings) -> SlideCaptioner:
    """A network with what is in a folder, in eval mode."""
    torch.manual_seed(0)
    local = read_biogpt(folder, BioGptConfig(folder=folder, **settings))
    network = SlideCaptioner(local.biogpt.of(config), input_dim=6, vocab_size=local.tokenizer.vocab_size)
    local.biogpt.freeze(network)
    local.load_into(network)
    return network.eval()


def swapped(ids: Tensor) -> Tensor:
    """BioGPT's ids of ours, and ours of BioGPT's: those of padding and beginning change places."""
    return torch.where(ids == PAD, BOS, torch.where(ids == BOS, PAD, ids))


def encoded(folder: Path) -> tuple[Tensor, Tensor]:
    """Tokens of the reports, padded, and where there are tokens."""
    tokenizer = read_biogpt(folder, BioGptConfig(folder=folder)).tokenizer
    rows = [torch.tensor(tokenizer.encode(report)) for report in REPORTS]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
    return tokens, torch.arange(tokens.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]


def assert_speaks_like(network: SlideCaptioner, original: BioGptForCausalLM, folder: Path) -> None:
    """States between the halves and logits are the same, of padded texts too."""
    tokens, valid = encoded(folder)
    states = network.text_states(tokens, valid)
    logits = network.decode(states, valid, None)
    for row, length in enumerate(valid.sum(dim=1)):
        expected = original(swapped(tokens[row : row + 1, :length]), output_hidden_states=True)
        between = expected.hidden_states[original.config.num_hidden_layers // 2]
        torch.testing.assert_close(states[row, :length], between[0], atol=1e-5, rtol=1e-5)
        theirs = expected.logits[0][:, swapped(torch.arange(network.vocab_size))]
        torch.testing.assert_close(logits[row, :length], theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rank", [0, 4])
@torch.no_grad()
def test_a_captioner_without_images_is_the_language_model(rank, original):
    folder, theirs = original
    assert_speaks_like(captioner(folder, lora_rank=rank), theirs, folder)  # new adapters change nothing yet


@pytest.mark.parametrize("sizes", [{"tied": False}, {"num_hidden_layers": 5}, {"num_attention_heads": 4}], ids=str)
@torch.no_grad()
def test_other_biogpts_are_as_exact(sizes, tmp_path):
    theirs = tiny_biogpt(tmp_path, **sizes)
    assert_speaks_like(captioner(tmp_path), theirs, tmp_path)


@pytest.mark.parametrize("form", ["bin", "without head", "half precision"])
@torch.no_grad()
def test_weights_are_read_in_each_form_that_there_is(form, original, tmp_path):
    theirs = original[1]
    tiny_biogpt(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    if form == "bin":
        torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")  # as downloaded: with a copy of the tied head
    elif form == "without head":
        theirs.biogpt.save_pretrained(tmp_path)
    else:
        theirs = tiny_biogpt(tmp_path).bfloat16()
        theirs.save_pretrained(tmp_path)
        theirs = theirs.float()
    assert_speaks_like(captioner(tmp_path), theirs, tmp_path)


@torch.no_grad()
def test_what_it_writes_with_its_cache_is_what_the_original_writes(original):
    folder, theirs = original
    network = captioner(folder)
    written = generate(network, None, settings=GenerationConfig(max_seq_len=20, min_seq_len=1, top_k=1), seeds=[0])[0]
    expected = [BOS]
    while len(expected) < 19 and expected[-1] != EOS:
        scores = theirs(swapped(torch.tensor([expected]))).logits[0, -1]
        scores[[0, 1]] = -torch.inf  # neither beginning nor padding is written
        expected.append(int(scores.argmax()))
    assert written == ([*expected, EOS] if expected[-1] != EOS else expected) and len(set(written)) > 2


@torch.no_grad()
def test_a_captioner_of_images_keeps_its_own_parts(original):
    network = captioner(original[0], PERCEIVER)
    features, valid = bags(3, 4)
    image = network.encode_image(features, valid)
    text = network.encode_text(*encoded(original[0]))
    assert image.embedding.shape == text.embedding.shape == (2, WIDTH)
    normed = network.text.pooler_norm(text.states)
    torch.testing.assert_close(text.embedding, network.text.pooler(normed, encoded(original[0])[1])[:, 0])
    assert len(network.text_groups()) == LAYERS // 2 + 2  # embeddings, layers, pooler
    without = captioner(original[0], replace(PERCEIVER, decoder=None))
    assert torch.equal(without.encode_text(*encoded(original[0])).states, text.states)


# What learns


def learning(network: SlideCaptioner) -> set[str]:
    return {name for name, weight in network.named_parameters() if weight.requires_grad}


def test_of_the_text_only_adapters_and_pooler_learn_by_default(original):
    found = learning(captioner(original[0], PERCEIVER))
    text = {name for name in found if name.startswith("text.")}
    adapters = {name for name in text if ".lora_" in name}
    assert len(adapters) == LAYERS // 2 * 3 * 2
    assert all(name.startswith(("text.pooler.", "text.pooler_norm.")) for name in text - adapters) and text - adapters
    assert not any(".attention." in name for name in found if name.startswith("decoder."))
    for part in ("cross_attention.query", "cross_norm", "attention_norm", "mlp.0", "mlp_norm"):
        assert f"decoder.transformer.layers.0.{part}.weight" in found
    assert "image.latents" in found and "decoder.head.weight" not in found  # it is the table of the text tower


def test_adapters_add_their_share(original):
    network = captioner(original[0], lora_rank=2, lora_alpha=6)
    query = network.text.transformer.layers[0].attention.query
    generator = torch.Generator().manual_seed(1)
    down, up = (torch.randn(shape, generator=generator) for shape in ((2, WIDTH), (WIDTH, 2)))
    with torch.no_grad():
        query.lora_A["default"].weight.copy_(down)
        query.lora_B["default"].weight.copy_(up)
    vectors = torch.randn(3, WIDTH, generator=generator)
    expected = query.base_layer(vectors) + 6 / 2 * vectors @ down.T @ up.T
    torch.testing.assert_close(query(vectors), expected)


@pytest.mark.parametrize(
    ("settings", "frozen"),
    [
        ({"frozen_attention": ()}, []),
        ({"frozen_attention": ("cross",)}, ["cross_attention"]),
        ({"frozen_attention": ("self", "cross")}, ["attention", "cross_attention"]),
    ],
    ids=str,
)
def test_attention_of_the_decoder_stands_still_where_asked(settings, frozen, original):
    network = captioner(original[0], PERCEIVER, lora_rank=0, **settings)
    still = {name for name, weight in network.named_parameters() if not weight.requires_grad}
    assert {name.split(".")[4] for name in still} == set(frozen)
    assert len(still) == len(frozen) * LAYERS // 2 * 8  # weights and biases of four projections


def test_the_published_network_has_its_published_sizes():
    part = BioGptPart(sizes=PUBLISHED, lora_rank=4, lora_alpha=4, frozen_attention=("self",))
    with torch.device("meta"):
        network = SlideCaptioner(
            part.of(PRESETS["coca_stage_2_perceiver"]), input_dim=1024, vocab_size=PUBLISHED.vocab_size
        )
        part.freeze(network)
    adapters = [weight for name, weight in network.named_parameters() if ".lora_" in name]
    still = [weight for name, weight in network.decoder.named_parameters() if ".attention." in name]
    assert len(adapters) == 72 and sum(weight.numel() for weight in adapters) == 294_912
    assert round(sum(weight.numel() for weight in still) / 1e6, 1) == 50.4
    assert not any(weight.requires_grad for weight in still)
    # Published: 527.8 million, 43.4 of them in a head of its own, whose bias is kept here, and 2048 in a second norm.
    tied = parameters(network) - 42384
    assert round((tied + 42385 * 1024 - 1024 + 2048 + 42384) / 1e6, 1) == 527.8


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folder": Path("x"), "lora_rank": -1}, r"model\.biogpt\.lora_rank is -1"),
        ({"folder": Path("x"), "lora_alpha": 0}, r"model\.biogpt\.lora_alpha is 0"),
        ({"lora_rank": 8}, r"no BioGPT\. Download config\.json, .* --model\.biogpt\.folder FOLDER"),
        ({"frozen_attention": ()}, r"no BioGPT\. Download config\.json"),
    ],
)
def test_settings_out_of_range_or_without_a_biogpt_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        BioGptConfig(**settings)


def test_cross_attention_that_is_not_there_does_not_stand_still(original):
    with pytest.raises(ConfigError, match=r"frozen_attention names cross, and this network has no cross-attention"):
        captioner(original[0], frozen_attention=("cross",))


def test_tokens_of_another_number_than_weights_are_refused(tmp_path):
    tiny_biogpt(tmp_path, vocab_size=200)
    with pytest.raises(
        WeightsError, match=r"tokenizer has 155 tokens, but the BioGPT in .*config\.json was made for 200"
    ):
        read_biogpt(tmp_path, BioGptConfig(folder=tmp_path))


def test_a_checkpoint_tells_its_biogpt(original):
    part = read_biogpt(original[0], BioGptConfig(folder=original[0], lora_rank=2)).biogpt
    assert part.sizes == BioGptSizes(
        vocab_size=save_tokens(original[0]), width=WIDTH, layers=LAYERS, heads=2, positions=POSITIONS, tied_head=True
    )
    assert BioGptPart.from_entry(part.to_entry(), source="x") == part
    assert BioGptPart.from_entry(None, source="x") is None
    for damaged in ([], "text", {}, part.to_entry() | {"sizes": {"width": 3}}, part.to_entry() | {"other": 1}):
        with pytest.raises(RunError, match=r"best\.ckpt does not tell its BioGPT: it is damaged"):
            BioGptPart.from_entry(damaged, source="best.ckpt")


def test_without_the_package_of_adapters_it_says_how_to_install_it(original, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    captioner(original[0], lora_rank=0)
    with pytest.raises(ConfigError, match=r"^peft is not installed\. Install it: pip install 'biomass-pl\[biogpt\]'$"):
        captioner(original[0])
