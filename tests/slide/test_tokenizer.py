"""The tokenizer: round trips, special tokens, what is stored, and weights that it does not fit."""

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomass_pl.errors import ConfigError, DataError, RunError, WeightsError
from biomass_pl.slide.tokenizer import BOS, EOS, PAD, SMALLEST_VOCABULARY, UNK, BytePairTokenizer, train_tokenizer

REPORTS = ["Sections of skin show a naevus.", "Sections of skin show a melanoma.", "The margins are free."]

TRAINED = train_tokenizer(REPORTS, vocab_size=400, max_length=40)
LONG = train_tokenizer(REPORTS, vocab_size=400, max_length=10_000)


@given(st.text())
def test_any_text_comes_back_from_its_tokens(text):
    ids = LONG.encode(text)
    assert (ids[0], ids[-1]) == (BOS, EOS)
    assert not {PAD, BOS, EOS, UNK} & set(ids[1:-1])
    assert LONG.decode(ids) == text


def test_words_of_the_reports_are_tokens():
    assert [TRAINED.decode([token]) for token in TRAINED.encode(REPORTS[0])[1:-1]] == [
        *("Sections", " of", " skin", " show", " a", " naevus", ".")
    ]


def test_a_long_text_is_cut_and_keeps_its_end():
    short = train_tokenizer(REPORTS, vocab_size=400, max_length=5)
    ids = short.encode(REPORTS[0])
    assert ids == [*TRAINED.encode(REPORTS[0])[:4], EOS]
    assert short.max_length == len(ids) == 5
    assert short.encode("")[-1] == EOS and len(short.encode("Sections of skin")) == 5


def test_special_tokens_written_in_a_report_are_text():
    for tokenizer in (LONG, BytePairTokenizer.from_json(LONG.to_json(), source="x"), pickle.loads(pickle.dumps(LONG))):
        assert tokenizer.encode("a <eos> b <pad>")[1:-1].count(EOS) == 0
        assert tokenizer.decode(tokenizer.encode("a <eos> b <pad>")) == "a <eos> b <pad>"


def test_padding_and_ends_are_not_decoded():
    assert TRAINED.decode([*TRAINED.encode("The skin"), PAD, PAD]) == "The skin"


def test_the_same_reports_give_the_same_tokenizer_in_any_order():
    again = train_tokenizer(iter(REPORTS[::-1]), vocab_size=400, max_length=40)
    assert again.to_json() == TRAINED.to_json()
    assert again.fingerprint == TRAINED.fingerprint
    assert len({TRAINED.fingerprint, LONG.fingerprint}) == 2
    other = train_tokenizer(["Another hospital's report."], vocab_size=400, max_length=40)
    assert other.fingerprint != TRAINED.fingerprint


def test_a_stored_tokenizer_is_the_same():
    stored = BytePairTokenizer.from_json(TRAINED.to_json(), source="last.ckpt")
    assert (stored.vocab_size, stored.max_length) == (TRAINED.vocab_size, 40)
    assert stored.fingerprint == TRAINED.fingerprint
    assert stored.encode(REPORTS[2]) == TRAINED.encode(REPORTS[2])


def test_the_vocabulary_is_as_large_as_asked_or_as_the_reports_allow():
    assert TRAINED.vocab_size < 400
    few = train_tokenizer(REPORTS, vocab_size=SMALLEST_VOCABULARY, max_length=40)
    assert few.vocab_size == SMALLEST_VOCABULARY == 260
    assert len(few.encode("skin")) == 6  # a token for each letter
    assert train_tokenizer(REPORTS, vocab_size=270, max_length=40).vocab_size == 270


def without(key: str) -> str:
    return json.dumps({**json.loads(TRAINED.to_json()), key: None})


@pytest.mark.parametrize("text", ["", "{}", "[1]", TRAINED.to_json()[:200]])
def test_a_damaged_tokenizer_is_refused(text):
    with pytest.raises(RunError, match=r"tokenizer in last\.ckpt cannot be read"):
        BytePairTokenizer.from_json(text, source="last.ckpt")


@pytest.mark.parametrize(
    "text", [without("post_processor"), without("truncation"), TRAINED.to_json().replace("<pad>", "[PAD]")]
)
def test_a_foreign_tokenizer_is_refused(text):
    with pytest.raises(RunError, match=r"tokenizer in last\.ckpt does not put texts between"):
        BytePairTokenizer.from_json(text, source="last.ckpt")


def test_weights_of_other_tokens_are_refused():
    size = TRAINED.vocab_size
    TRAINED.check_fits(vocab_size=size, context_length=40, fingerprint=TRAINED.fingerprint)
    with pytest.raises(WeightsError, match=f"has {size} tokens, but best.ckpt was made for {size + 1}"):
        TRAINED.check_fits(vocab_size=size + 1, context_length=40, source="best.ckpt")
    with pytest.raises(WeightsError, match="cuts texts to 40 tokens, but the network has only 39 positions"):
        TRAINED.check_fits(vocab_size=size, context_length=39)
    with pytest.raises(WeightsError, match="trained with another tokenizer"):
        TRAINED.check_fits(vocab_size=size, context_length=40, fingerprint=LONG.fingerprint)


@pytest.mark.parametrize(("size", "length", "message"), [(259, 40, "260"), (400, 2, "max_length: 2")])
def test_sizes_that_hold_no_text_are_refused(size, length, message):
    with pytest.raises(ConfigError, match=message):
        train_tokenizer(REPORTS, vocab_size=size, max_length=length)


@pytest.mark.parametrize("reports", [[], ["", " \n"]])
def test_no_reports_are_refused(reports):
    with pytest.raises(DataError, match="no report with any text"):
        train_tokenizer(reports, vocab_size=400, max_length=40)
