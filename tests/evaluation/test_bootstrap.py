"""Intervals of scores over groups: worked by hand, and what must change nothing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.errors import ConfigError
from biomass_pl.evaluation import bootstrap as module
from biomass_pl.evaluation.bootstrap import Bootstrap, ratio, scores_with_intervals, weighted_mean

VALUES = np.array([1.0, 2.0, 3.0, 10.0])
PATIENTS = np.array(["a", "a", "a", "b"])


def mean(weights: np.ndarray) -> dict[str, np.ndarray]:
    return {"score": weighted_mean(VALUES[: weights.shape[1]], weights)}


def test_one_draw_means_no_intervals():
    assert scores_with_intervals(mean, PATIENTS, Bootstrap()) == {"score": 4.0}


def test_whole_patients_are_drawn():
    # Twice a: 2. Both: 4. Twice b: 10; with shares of 1/4, 1/2 and 1/4.
    found = scores_with_intervals(mean, PATIENTS, Bootstrap(draws=8000, confidence=0.9))
    assert list(found) == ["score", "score_mean", "score_ci_lower", "score_ci_upper"]
    assert found["score"] == 4 and found["score_ci_lower"] == 2 and found["score_ci_upper"] == 10
    assert found["score_mean"] == pytest.approx(2 / 4 + 4 / 2 + 10 / 4, abs=0.1)
    drawn = set()
    scores_with_intervals(
        lambda weights: drawn.update(map(tuple, weights)) or mean(weights), PATIENTS, Bootstrap(draws=50)
    )
    assert drawn == {(1, 1, 1, 1), (2, 2, 2, 0), (0, 0, 0, 2)}


def test_confidence_is_the_share_of_draws_inside():
    groups = np.arange(200)
    values = np.random.default_rng(0).normal(size=200)
    widths = []
    for confidence in (0.5, 0.95):
        found = scores_with_intervals(
            lambda weights: {"score": weighted_mean(values, weights)},
            groups,
            Bootstrap(draws=4000, confidence=confidence),
        )
        widths.append(found["score_ci_upper"] - found["score_ci_lower"])
    deviation = values.std() / math.sqrt(200)  # the mean of draws is nearly normal
    assert widths == pytest.approx([2 * 0.6745 * deviation, 2 * 1.96 * deviation], rel=0.06)


def test_the_seed_settles_the_draws():
    first, same, other = (
        scores_with_intervals(mean, PATIENTS, Bootstrap(draws=40, seed=seed))["score_mean"] for seed in (1, 1, 2)
    )
    assert first == same != other


@given(st.permutations(range(6)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_items_changes_nothing(order):
    values, patients = np.array([3.0, 1, 4, 1, 5, 9]), np.array(["p", "q", "p", "r", "q", "s"])
    expected, found = (
        scores_with_intervals(
            lambda weights, rows=rows: {"score": weighted_mean(values[rows], weights)},
            patients[rows],
            Bootstrap(draws=30),
        )
        for rows in (np.arange(6), np.array(order))
    )
    assert found == pytest.approx(expected)


def test_draws_in_parts_are_the_draws_at_once(monkeypatch):
    expected = scores_with_intervals(mean, PATIENTS, Bootstrap(draws=25))
    monkeypatch.setattr(module, "_MOST_WEIGHTS", 16)  # four draws at a time
    sizes = []
    found = scores_with_intervals(
        lambda weights: sizes.append(len(weights)) or mean(weights), PATIENTS, Bootstrap(draws=25)
    )
    assert found == expected and sizes == [1, 4, 4, 4, 4, 4, 4, 1]


def test_draws_without_a_score_are_left_out():
    def only_without_b(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"score": np.where(weights[:, 3] > 0, np.nan, 2.5)}

    found = scores_with_intervals(only_without_b, PATIENTS, Bootstrap(draws=50))
    assert math.isnan(found["score"])
    assert [found[f"score_{part}"] for part in ("mean", "ci_lower", "ci_upper")] == [2.5, 2.5, 2.5]


def test_a_score_that_is_never_defined_has_no_interval():
    found = scores_with_intervals(
        lambda weights: {"score": np.full(len(weights), np.nan)}, PATIENTS, Bootstrap(draws=5)
    )
    assert all(math.isnan(value) for value in found.values()) and len(found) == 4


def test_a_single_patient_has_no_interval():
    found = scores_with_intervals(mean, np.array(["a"] * 4), Bootstrap(draws=10))
    assert found["score"] == 4
    assert all(math.isnan(found[f"score_{part}"]) for part in ("mean", "ci_lower", "ci_upper"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"draws": 0}, "0 bootstrap draws"), ({"confidence": 1.0}, "is 1.0"), ({"confidence": 0.0}, "is 0.0")],
)
def test_settings_that_cannot_work_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        Bootstrap(**settings)


def test_nothing_divided_by_nothing():
    assert np.isnan(ratio(np.array([0.0]), np.array([0]))).all()
    assert ratio(np.array([1, 3]), np.array([0, 2]), otherwise=0).tolist() == [0, 1.5]
