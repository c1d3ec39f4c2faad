"""Scores gathered over batches."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.pasture.scores import mean_r2, pasture_scores, target_scores, weighted_r2
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.training.epoch_scores import EpochScores


def grams(photos: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = 50 * torch.rand(photos, 5, generator=generator)
    return truth + torch.randn(photos, 5, generator=generator), truth


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(1, 5), min_size=2, max_size=6), seed=st.integers(0, 1000))
def test_scores_over_batches_equal_one_shot(sizes, seed):
    prediction, truth = grams(sum(sizes), seed)
    batched, once = EpochScores(score=pasture_scores), EpochScores(score=pasture_scores)
    for part, true in zip(prediction.split(sizes), truth.split(sizes), strict=True):
        batched.update(part, true)
    once.update(prediction, truth)
    assert batched.compute() == once.compute()


def test_scores_are_those_of_the_tables():
    prediction, truth = grams(12)
    scores = EpochScores(score=pasture_scores)
    scores.update(prediction, truth)
    as_table = truth.numpy().astype(np.float64), prediction.numpy().astype(np.float64)
    expected = {"weighted_r2": weighted_r2(*as_table), "mean_r2": mean_r2(*as_table)}
    expected |= {f"r2_{target}": values["r2"] for target, values in target_scores(*as_table).items()}
    assert scores.compute() == expected
    assert set(expected) == {"weighted_r2", "mean_r2", *(f"r2_{target}" for target in TARGETS)}


def test_scores_are_not_the_mean_of_the_batches_scores():
    prediction, truth = grams(8)
    truth[:4] += 100
    prediction[:4] += 100
    scores = EpochScores(score=pasture_scores)
    each = []
    for half in (slice(0, 4), slice(4, 8)):
        scores.update(prediction[half], truth[half])
        each.append(weighted_r2(truth[half].numpy(), prediction[half].numpy()))
    assert scores.compute()["weighted_r2"] > max(each)


def test_states_stay_float32_and_scores_are_plain_numbers():
    scores = EpochScores(score=pasture_scores)
    for _ in range(2):
        scores.update(*grams(3))
    computed = scores.compute()
    assert {state.dtype for state in [*scores.prediction, *scores.target]} == {torch.float32}
    assert all(type(score) is float for score in computed.values())


def test_a_large_common_offset_does_not_spoil_the_scores():
    # In float32 the squares of 10,000 g would lose what the scores are made of.
    prediction, truth = grams(50)
    truth, prediction = truth.round() + 10_000, prediction.round() + 10_000
    scores = EpochScores(score=pasture_scores)
    scores.update(prediction, truth)
    expected = weighted_r2(truth.double().numpy(), prediction.double().numpy())
    assert scores.compute()["weighted_r2"] == pytest.approx(expected, abs=1e-12)


def test_bfloat16_predictions_are_scored():
    prediction, truth = grams(6)
    scores = EpochScores(score=pasture_scores)
    scores.update(prediction.bfloat16(), truth)
    expected = weighted_r2(truth.numpy(), prediction.bfloat16().float().numpy())
    assert scores.compute()["weighted_r2"] == pytest.approx(expected, abs=1e-5)


def test_predictions_with_a_graph_are_scored():
    prediction, truth = grams(4)
    scores = EpochScores(score=pasture_scores)
    scores.update(prediction.requires_grad_(), truth)
    assert math.isfinite(scores.compute()["weighted_r2"])


def test_reset_forgets_the_epoch():
    scores = EpochScores(score=pasture_scores)
    scores.update(*grams(5, seed=1))
    scores.reset()
    scores.update(*grams(5, seed=2))
    fresh = EpochScores(score=pasture_scores)
    fresh.update(*grams(5, seed=2))
    assert scores.compute() == fresh.compute()


def test_a_diverged_prediction_gives_nan_and_no_error():
    prediction, truth = grams(4)
    scores = EpochScores(score=pasture_scores)
    scores.update(prediction * math.nan, truth)
    assert math.isnan(scores.compute()["weighted_r2"])
