"""Blends: exact weights, from other folds than those they blend; the gain and its interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from sklearn.metrics import r2_score

from biomass_pl.evaluation.blending import best_of, blend, blend_weights, gain_over
from biomass_pl.evaluation.drawn_scores import drawn_mean_r2

ROWS = 40
FOLDS = np.arange(ROWS) % 4


def planted(models: int = 3, targets: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions with errors of their own, larger from model to model, and the truth."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(5, 2, (ROWS, targets))
    errors = generator.normal(size=(models, ROWS, targets)) * np.arange(1, models + 1)[:, None, None]
    return truth + errors, truth


# Weights


def test_two_opposite_errors_cancel():
    truth = np.array([[1.0], [2.0], [4.0]])
    error = np.array([[0.3], [-0.6], [0.9]])
    weights = blend_weights(np.stack([truth + error, truth - 2 * error]), truth)
    assert weights == pytest.approx([2 / 3, 1 / 3])


def test_a_model_that_only_adds_error_gets_nothing():
    truth = np.array([[1.0], [2.0], [4.0]])
    error = np.array([[0.3], [-0.6], [0.9]])
    assert blend_weights(np.stack([truth + error, truth + 2 * error]), truth).tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_the_best_of_those_that_sum_to_one(seed):
    predictions, truth = planted(seed=seed)
    spread = truth.std(axis=0)

    def error(weights: np.ndarray) -> float:
        return np.square((np.tensordot(weights, predictions, axes=1) - truth) / spread).sum()

    found = minimize(
        error, np.full(3, 1 / 3), bounds=[(0, 1)] * 3, constraints={"type": "eq", "fun": lambda w: w.sum() - 1}
    )
    weights = blend_weights(predictions, truth)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    assert weights == pytest.approx(found.x, abs=1e-3) and error(weights) <= error(found.x) + 1e-9


def test_targets_count_alike_whatever_their_unit():
    predictions, truth = planted()
    units = np.array([1.0, 1e4])
    assert blend_weights(predictions * units, truth * units) == pytest.approx(blend_weights(predictions, truth))


def test_unknown_targets_count_for_nothing():
    predictions, truth = planted()
    truth[::3, 0] = np.nan
    known = predictions.copy()
    known[:, ::3, 0] = 1e6  # what is said of them does not matter
    assert blend_weights(known, truth) == pytest.approx(blend_weights(predictions, truth))


def test_perfect_and_equal_predictions_have_weights_too():
    _, truth = planted()
    assert blend_weights(np.stack([truth, truth]), truth).sum() == pytest.approx(1)


@given(
    values=arrays(float, (3, 6, 2), elements=st.floats(-1e3, 1e3)),
    truth=arrays(float, (6, 2), elements=st.floats(-1e3, 1e3)),
)
def test_weights_are_shares_whatever_is_blended(values, truth):
    weights = blend_weights(values, truth)
    assert weights.shape == (3,) and (weights >= 0).all() and weights.sum() == pytest.approx(1)


# Nesting


def test_every_fold_is_blended_by_the_weights_of_the_others():
    predictions, truth = planted()
    blended = blend(predictions, truth, FOLDS)
    for fold in range(4):
        own = fold == FOLDS
        weights = blend_weights(predictions[:, ~own], truth[~own])
        assert np.array_equal(blended.fold_weights[fold], weights)
        assert blended.predictions[own] == pytest.approx(np.tensordot(weights, predictions[:, own], axes=1))
    assert np.array_equal(blended.weights, blend_weights(predictions, truth))


def test_truth_of_held_out_rows_changes_nothing_in_their_blend():
    predictions, truth = planted()
    poisoned = truth.copy()
    poisoned[FOLDS == 2] = predictions[2][FOLDS == 2]  # the worst model is perfect there
    before, after = blend(predictions, truth, FOLDS), blend(predictions, poisoned, FOLDS)
    assert np.array_equal(before.predictions[FOLDS == 2], after.predictions[FOLDS == 2])
    assert not np.array_equal(before.predictions[FOLDS != 2], after.predictions[FOLDS != 2])


def test_predictions_of_held_out_rows_change_nothing_in_the_weights_of_their_fold():
    predictions, truth = planted()
    poisoned = predictions.copy()
    poisoned[:, FOLDS == 2] = 1e6
    before, after = blend(predictions, truth, FOLDS), blend(poisoned, truth, FOLDS)
    assert np.array_equal(before.fold_weights[2], after.fold_weights[2])
    assert not np.array_equal(before.fold_weights[0], after.fold_weights[0])


# Scores and gain


def test_the_gain_is_that_of_the_scores_and_lies_in_its_interval():
    predictions, truth = planted(models=2)
    blended = blend(predictions, truth, FOLDS).predictions

    def score(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return drawn_mean_r2(truth, values, np.ones(2), counts)

    assert best_of(predictions, score) == 0 and best_of(predictions[::-1], score) == 1
    gain = gain_over(predictions[0], blended, score, np.arange(ROWS) // 2, draws=200)
    assert gain["gain"] == pytest.approx(r2_score(truth, blended) - r2_score(truth, predictions[0]))
    assert gain["gain_ci_lower"] < gain["gain"] < gain["gain_ci_upper"]
    nothing = gain_over(predictions[0], predictions[0], score, np.arange(ROWS), draws=50)
    assert nothing["gain_ci_lower"] == nothing["gain_ci_upper"] == 0
