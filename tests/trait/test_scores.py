"""Scores of numbers of which some were not measured, and the same of drawn photos."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from biomass_pl.evaluation.drawn_scores import drawn_mean_r2
from biomass_pl.trait.scores import mean_r2, target_scores

NAN = math.nan


def test_the_scores_of_a_target_worked_by_hand():
    # errors 1, -1 and 0; spread 2 of the mean 2
    scores = target_scores(np.array([1.0, 2.0, NAN, 3.0]), np.array([2.0, 1.0, 7.0, 3.0]))
    assert scores == {
        "r2": pytest.approx(0.0),
        "rmse": pytest.approx(math.sqrt(2 / 3)),
        "mae": pytest.approx(2 / 3),
        "photos": 3,
    }


@pytest.mark.parametrize(
    ("truth", "prediction", "defined"),
    [
        ([1.0, 1.0, NAN], [1.0, 2.0, 3.0], {"rmse", "mae"}),
        ([1.0, NAN], [1.0, 2.0], {"rmse", "mae"}),
        ([NAN, NAN], [1.0, 2.0], set()),
        ([1.0, 2.0], [1.0, math.inf], set()),
    ],
)
def test_scores_that_are_not_defined_are_nan(truth, prediction, defined):
    scores = target_scores(np.array(truth), np.array(prediction))
    assert {name for name in ("r2", "rmse", "mae") if not math.isnan(scores[name])} == defined


def test_the_mean_weighs_the_targets_that_have_a_score():
    truth = np.array([[1.0, 5.0, 1.0], [3.0, 5.0, 2.0], [NAN, 5.0, NAN]])
    prediction = np.array([[1.0, 5.0, 2.0], [3.0, 5.0, 1.0], [9.0, 5.0, 9.0]])
    # R2 of 1, none, and 1 - 2 / .5
    assert mean_r2(truth, prediction, np.array([3.0, 5.0, 1.0])) == pytest.approx((3 * 1 + 1 * -3) / 4)
    assert math.isnan(mean_r2(truth[:, [1]], prediction[:, [1]], np.ones(1)))
    assert math.isnan(mean_r2(truth, np.where(prediction == 9, np.inf, prediction), np.ones(3)))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), offset=st.sampled_from([0.0, 1e6]))
def test_r2_is_that_of_scikit_learn_and_that_of_drawn_photos_that_of_their_copies(seed, offset):
    rng = np.random.default_rng(seed)
    truth = rng.normal(offset, 3, (12, 2))
    truth[rng.random(truth.shape) < 0.3] = np.nan
    prediction = rng.normal(offset, 3, (12, 2))
    counts = rng.multinomial(12, np.full(12, 1 / 12), size=4)
    expected = []
    for drawn in counts:
        rows = np.repeat(np.arange(12), drawn)
        columns = [(truth[rows, column], prediction[rows, column]) for column in range(2)]
        known = [(true[~np.isnan(true)], predicted[~np.isnan(true)]) for true, predicted in columns]
        scores = [r2_score(true, predicted) for true, predicted in known if len(np.unique(true)) > 1]
        expected.append(np.mean(scores) if scores else np.nan)
    np.testing.assert_allclose(drawn_mean_r2(truth, prediction, np.ones(2), counts), expected, rtol=1e-6)
