"""Rules for the next token, worked by hand, and drawing from the probable ones."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biomass_pl.errors import ConfigError
from biomass_pl.slide.token_choice import GenerationConfig, choose, log_probabilities
from biomass_pl.slide.tokenizer import BOS, EOS, PAD, UNK

PLAIN = GenerationConfig(max_seq_len=6, min_seq_len=0)


def test_padding_beginning_and_unknown_are_never_written_and_the_rest_is_not_scaled_up():
    logits = torch.randn(2, 7)
    found = log_probabilities(logits, torch.full((2, 1), BOS), PLAIN)
    assert found[:, [PAD, BOS, UNK]].isneginf().all()
    kept = [EOS, 4, 5, 6]
    torch.testing.assert_close(found[:, kept], logits.log_softmax(dim=-1)[:, kept])


@pytest.mark.parametrize(("length", "allowed"), [(1, False), (3, False), (4, True)])
def test_a_report_does_not_end_early(length, allowed):
    settings = dataclasses.replace(PLAIN, min_seq_len=4)
    found = log_probabilities(torch.zeros(1, 6), torch.full((1, length), 5), settings)
    assert found[0, EOS].isfinite().item() is allowed
    assert found[0, [4, 5]].isfinite().all()


def test_the_last_token_is_the_end():
    found = log_probabilities(torch.zeros(1, 6), torch.full((1, 5), 5), PLAIN)
    assert found.isfinite()[0].nonzero().flatten().tolist() == [EOS]
    assert found[0, EOS].item() == pytest.approx(-math.log(6))


def test_repeated_tokens_lose():
    settings = dataclasses.replace(PLAIN, repetition_penalty=2.0)
    logits = torch.tensor([[0.0, 0, 0, 0, 3, -1, 3, -1], [0.0, 0, 0, 0, 3, -1, 3, -1]])
    texts = torch.tensor([[BOS, 4, 5], [BOS, 6, 6]])
    expected = torch.tensor([[0.0, 0, 0, 0, 1.5, -2, 3, -1], [0.0, 0, 0, 0, 3, -1, 1.5, -1]]).log_softmax(dim=-1)
    torch.testing.assert_close(log_probabilities(logits, texts, settings)[:, 4:], expected[:, 4:])


def test_half_precision_scores_become_single():
    assert log_probabilities(torch.zeros(1, 6).bfloat16(), torch.full((1, 1), BOS), PLAIN).dtype == torch.float32


SHARES = torch.tensor([[0.1, 0.4, 0.0, 0.2, 0.3]])
"""In order: token 1 (0.4), 4 (0.3), 3 (0.2), 0 (0.1); token 2 is not allowed."""


def drawn(number: float, **options: float) -> int:
    settings = dataclasses.replace(PLAIN, **{"top_k": 50, **options})
    return choose(SHARES.log(), torch.tensor([number]), settings).item()


@pytest.mark.parametrize(
    ("number", "token"),
    [(0.0, 1), (0.39, 1), (0.41, 4), (0.69, 4), (0.71, 3), (0.89, 3), (0.91, 0), (0.99999994, 0), (1.0, 0)],
)
def test_tokens_are_drawn_by_their_probability(number, token):
    assert drawn(number) == token


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({"top_k": 1}, [1, 1]),
        ({"top_k": 2}, [1, 4]),
        ({"top_k": 3}, [1, 3]),
        ({"top_p": 0.3}, [1, 1]),
        ({"top_p": 0.5}, [1, 4]),
        ({"top_p": 0.71}, [1, 3]),
        ({"top_p": 1.0}, [1, 0]),
        ({"temperature": 0.01}, [1, 1]),
        ({"top_k": 2, "top_p": 0.5}, [1, 1]),  # among two tokens, the first has 4 / 7
    ],
)
def test_only_the_probable_tokens_are_drawn(options, tokens):
    assert [drawn(0.0, **options), drawn(0.99, **options)] == tokens


def test_shares_begin_where_those_before_end():
    halves = torch.tensor([[0.5, 0.5]]).log().expand(3, 2)
    assert choose(halves, torch.tensor([0.0, 0.49, 0.5]), PLAIN).tolist() == [0, 0, 1]


def test_temperature_flattens_and_sharpens():
    # At temperature 2, shares go with their roots: 0.632, 0.548, 0.447, 0.316 of 1.943.
    assert [drawn(number, temperature=2.0) for number in (0.32, 0.33, 0.60, 0.61)] == [1, 4, 4, 3]


@given(st.integers(0, 2**32), st.floats(0, 1, exclude_max=True, width=32), st.integers(2, 12), st.floats(0.05, 1))
def test_a_token_that_is_not_allowed_is_never_drawn(seed, number, top_k, top_p):
    generator = torch.Generator().manual_seed(seed)
    logarithms = torch.randn(1, 9, generator=generator)
    allowed = torch.rand(1, 9, generator=generator) < 0.3
    allowed[0, 4] = True
    settings = dataclasses.replace(PLAIN, top_k=top_k, top_p=top_p)
    token = choose(logarithms.masked_fill(~allowed, float("-inf")), torch.tensor([number]), settings)
    assert allowed[0, token]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 6, "num_beam_groups": 4}, r"6 beams \(num_beams\) cannot be shared out evenly to 4 groups"),
        ({"num_beams": 2, "num_beam_groups": 3}, "give a multiple"),
        ({"num_beams": 0, "num_beam_groups": 1}, "0 beams"),
        ({"num_beam_groups": 0}, "0 groups"),
        ({"diversity_penalty": 0.0}, "all 3 groups of beams would find the same"),
        ({"max_seq_len": 2}, "max_seq_len 2"),
        ({"min_seq_len": 100}, "min_seq_len 100 must be from 0 to less than max_seq_len 100"),
        ({"min_seq_len": -1}, "min_seq_len -1"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ({"length_penalty": -1.0}, "length_penalty is -1.0"),
    ],
)
def test_settings_that_cannot_work_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        GenerationConfig(**options)


def test_one_group_needs_no_penalty():
    assert GenerationConfig(num_beam_groups=1, diversity_penalty=0.0).num_beams == 6
