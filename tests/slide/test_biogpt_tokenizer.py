"""BioGPT's tokenizer: the tokens of its library between our special ones, what is stored, and what is refused."""

import json
import pickle
import sys
from pathlib import Path

import pytest
from transformers import BioGptTokenizer

from biomass_pl.errors import ConfigError, RunError, WeightsError
from biomass_pl.slide.biogpt_tokenizer import BioGptReportTokenizer
from biomass_pl.slide.stored_tokenizer import stored_tokenizer
from biomass_pl.slide.tokenizer import BOS, EOS, PAD, UNK, BytePairTokenizer, ReportTokenizer, train_tokenizer
from tests.slide.tiny_biogpt import save_tokens, tokens_of_letters

TEXTS = ["Skin biopsy with cyst (5-mm), and more.", "of", "", "Dead  tissue\nof colon; it is 3.5 mm.", "A&B"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("tokens")
    save_tokens(made)
    return made


@pytest.fixture(scope="module")
def tokenizer(folder) -> BioGptReportTokenizer:
    return BioGptReportTokenizer.from_folder(folder, max_length=60)


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_and_texts_are_those_of_the_library(text, tokenizer, folder):
    library = BioGptTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    expected = library.encode(text, add_special_tokens=False)
    ids = tokenizer.encode(text)
    assert ids == [BOS, *expected, EOS]
    assert tokenizer.decode(ids) == library.decode(expected, skip_special_tokens=True)


def test_words_of_the_vocabulary_are_single_tokens(tokenizer):
    vocabulary, _ = tokens_of_letters()
    assert tokenizer.encode("biopsy of") == [BOS, vocabulary["biopsy</w>"], vocabulary["of</w>"], EOS]
    assert tokenizer.decode([BOS, vocabulary["biopsy</w>"], EOS, PAD, PAD]) == "biopsy"
    assert tokenizer.vocab_size == len(vocabulary)


def test_a_long_text_is_cut_and_keeps_its_end(tokenizer):
    whole, cut = tokenizer.encode("of " * 58), tokenizer.encode("of " * 59)
    assert whole == cut and len(cut) == tokenizer.max_length == 60 and cut[-1] == EOS


def test_special_tokens_written_in_a_report_are_text_and_strange_letters_unknown(tokenizer):
    ids = tokenizer.encode("a </s> b <pad> <s>")[1:-1]
    assert not {PAD, BOS, EOS} & set(ids)
    assert tokenizer.encode("é")[1:-1] == [UNK] and tokenizer.decode([UNK]) == ""


def test_a_stored_tokenizer_is_the_same_and_needs_no_folder(tokenizer):
    for stored in (stored_tokenizer(tokenizer.to_json(), source="x"), pickle.loads(pickle.dumps(tokenizer))):
        assert isinstance(stored, BioGptReportTokenizer) and isinstance(stored, ReportTokenizer)
        assert stored.fingerprint == tokenizer.fingerprint and stored.max_length == 60
        assert all(stored.encode(text) == tokenizer.encode(text) for text in TEXTS)
    trained = train_tokenizer(TEXTS, vocab_size=300, max_length=9)
    assert isinstance(stored_tokenizer(trained.to_json(), source="x"), BytePairTokenizer)


def test_a_later_text_is_as_the_first_one(tokenizer):
    first = tokenizer.encode(TEXTS[0])
    first.append(5)
    assert tokenizer.encode(TEXTS[0]) == first[:-1]


@pytest.mark.parametrize(
    "change", ["{", '{"kind": "biogpt"}', '{"kind": "biogpt", "vocabulary": [], "merges": ""}', "[]"]
)
def test_a_damaged_tokenizer_is_refused(change):
    with pytest.raises(RunError, match=r"tokenizer in last\.ckpt cannot be read"):
        stored_tokenizer(change, source="last.ckpt")


def spoiled(folder: Path, to: Path, name: str, text: str) -> Path:
    for file in ("vocab.json", "merges.txt"):
        (to / file).write_text((folder / file).read_text())
    (to / name).write_text(text)
    return to


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("vocab.json", "{", r"vocab\.json is no JSON"),
        ("vocab.json", "[1]", r"vocab\.json holds no JSON object"),
        ("vocab.json", json.dumps({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}), r"special tokens are \{'<s>': 1"),
        ("vocab.json", json.dumps({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 9}), r"ids are not 0, 1, 2"),
        ("vocab.json", json.dumps({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": [4]}), r"ids are not 0, 1, 2"),
        ("merges.txt", "\n", r"there are no merges"),
    ],
)
def test_files_that_are_not_of_biogpt_are_refused(name, text, message, folder, tmp_path):
    with pytest.raises(WeightsError, match=message):
        BioGptReportTokenizer.from_folder(spoiled(folder, tmp_path, name, text), max_length=60)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_file_that_is_not_there_is_named(name, folder, tmp_path):
    (spoiled(folder, tmp_path, name, "") / name).unlink()
    with pytest.raises(WeightsError, match=rf"has no {name}\. Download config\.json, .* of microsoft/biogpt"):
        BioGptReportTokenizer.from_folder(tmp_path, max_length=60)


@pytest.mark.parametrize("package", ["transformers", "sacremoses"])
def test_a_missing_package_says_how_to_install_it(package, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ConfigError, match=rf"^{package} is not installed\. Install it: pip install 'biomass-pl\[biogpt\]'$"
    ):
        BioGptReportTokenizer.from_folder(folder, max_length=60)
