"""Reports that a network writes: what the seed of a specimen depends on, and what text is left of any tokens."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biomass_pl.slide.captions import caption_texts, caption_tokens, specimen_seed
from biomass_pl.slide.token_choice import GenerationConfig
from biomass_pl.slide.tokenizer import BOS, EOS, PAD, SMALLEST_VOCABULARY, train_tokenizer
from tests.slide.networks import LANGUAGE_MODEL, bags, captioner

TOKENIZER = train_tokenizer(["Skin biopsy."], vocab_size=SMALLEST_VOCABULARY, max_length=50)


def test_a_specimen_has_the_same_seed_on_every_machine():
    assert specimen_seed(42, "T00001A") == 0x272D5694A7DE31A2
    seeds = {specimen_seed(seed, name) for seed in (0, 1) for name in ("a", "b", "1 a")}
    assert len(seeds) == 6 and all(0 <= seed < 2**63 for seed in seeds)


def test_tokens_are_padded_and_depend_on_the_name_alone():
    network, settings = captioner(), GenerationConfig(max_seq_len=10, min_seq_len=2, top_k=17)
    image = network.encode_image(*bags(3, 3, 3))
    tokens = caption_tokens(network, image, ["a", "b", "c"], settings=settings, seed=0)
    assert tokens.shape == (3, 10) and (tokens[:, 0] == BOS).all()
    for row in tokens.tolist():
        end = row.index(EOS)
        assert set(row[end + 1 :]) <= {PAD} and PAD not in row[:end]
    other = caption_tokens(network, image, ["a", "x", "c"], settings=settings, seed=0)
    assert torch.equal(tokens[[0, 2]], other[[0, 2]]) and not torch.equal(tokens[1], other[1])
    assert not torch.equal(tokens, caption_tokens(network, image, ["a", "b", "c"], settings=settings, seed=1))
    alone = caption_tokens(captioner(LANGUAGE_MODEL), None, ["a", "b"], settings=settings, seed=0)
    assert alone.shape == (2, 10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Skin biopsy: no tumour.", "Skin biopsy: no tumour."),
        ("First line.\nSecond line.\n", "First line.\nSecond line."),
        ("a\rb\x00c\x1bd\te", "a b c d e"),
        (" \n ", ""),
        ("Größe 3 µm → 5", "Größe 3 µm → 5"),
    ],
)
def test_texts_keep_characters_and_lines_and_no_control_codes(text, expected):
    padded = [*TOKENIZER.encode(text), PAD, PAD]
    assert caption_texts(TOKENIZER, [padded]) == [expected]


@given(st.lists(st.integers(0, SMALLEST_VOCABULARY - 1), max_size=30))
def test_any_tokens_give_a_text_that_a_table_can_hold(tokens):
    (text,) = caption_texts(TOKENIZER, [tokens])
    assert text == text.strip() and all(character.isprintable() or character == "\n" for character in text)
    assert text.encode().decode() == text
