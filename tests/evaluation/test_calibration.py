"""Calibration error, and temperatures that a fold's own rows have no say in."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from biomass_pl.evaluation.calibration import (
    TEMPERATURES,
    calibrated_by_fold,
    cross_fitted_temperatures,
    expected_calibration_error,
    fit_temperature,
    log_probabilities,
    reliability_bins,
    scaled_probabilities,
)
from biomass_pl.evaluation.class_scores import log_loss


def two_classes(confidence: list[float]) -> np.ndarray:
    """Probabilities of two classes, the first of them predicted."""
    first = np.array(confidence)
    return np.stack([first, 1 - first], axis=1)


def too_sure(photos: int, *, factor: float, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits so many times as large as those that the true classes were drawn by, and these classes."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1.5, (photos, classes))
    truth = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)
    return factor * logits, truth


def test_the_error_worked_by_hand():
    # Four bins; the third holds .5 (right), .7 (wrong), the last one .8 (wrong) and 1 (right).
    truth, probabilities = np.array([0, 1, 1, 0]), two_classes([0.5, 0.7, 0.8, 1.0])
    bins = reliability_bins(truth, probabilities, bins=4)
    assert bins.photos.tolist() == [0, 0, 2, 2]
    assert bins.confidence == pytest.approx([0, 0, 0.6, 0.9])
    assert bins.accuracy == pytest.approx([0, 0, 0.5, 0.5])
    assert bins.calibration_error == pytest.approx((2 * 0.1 + 2 * 0.4) / 4)


@pytest.mark.parametrize(("edge", "place"), [(0.5, 2), (0.75, 3), (1.0, 3)])
def test_a_bin_holds_its_lower_edge_and_the_last_one_both(edge, place):
    assert reliability_bins(np.array([0]), two_classes([edge]), bins=4).photos.argmax() == place


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), photos=st.integers(1, 60), classes=st.integers(2, 6), sharp=st.floats(0.05, 5))
def test_the_error_is_that_of_torchmetrics(seed, photos, classes, sharp):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, photos)
    probabilities = 0.999 * generator.dirichlet(np.full(classes, sharp), photos) + 0.001 / classes
    # A confidence of exactly 1 would be in a bin of its own there.
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(truth), num_classes=classes, n_bins=15, norm="l1"
    )
    assert expected_calibration_error(truth, probabilities) == pytest.approx(float(expected), abs=1e-6)


def test_the_error_of_nothing_or_of_what_is_not_finite_is_not_defined():
    assert math.isnan(expected_calibration_error(np.array([0]), two_classes([math.nan])))
    assert math.isnan(expected_calibration_error(np.zeros(0, dtype=int), np.zeros((0, 2))))


@pytest.mark.parametrize("right", [60, 75, 90])
def test_a_temperature_worked_by_hand(right):
    # All photos have the same two logits, 3 apart: the best probability is the share of right ones.
    truth = (np.arange(100) >= right).astype(int)
    logits = np.tile([3.0, 0.0], (100, 1))
    temperature = fit_temperature(logits, truth)
    assert temperature == pytest.approx(3 / math.log(right / (100 - right)), rel=1e-4)
    assert scaled_probabilities(logits, temperature)[0] == pytest.approx([right / 100, 1 - right / 100], abs=1e-4)


@pytest.mark.parametrize("factor", [0.4, 1.0, 2.5])
def test_the_temperature_undoes_what_made_logits_too_large(factor):
    logits, truth = too_sure(20_000, factor=factor)
    assert fit_temperature(logits, truth) == pytest.approx(factor, rel=0.05)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), factor=st.floats(0.3, 4))
def test_no_other_temperature_has_a_smaller_loss(seed, factor):
    logits, truth = too_sure(80, factor=factor, seed=seed)
    best = fit_temperature(logits, truth)
    least = log_loss(truth, scaled_probabilities(logits, best))
    for other in (0.9 * best, 1.1 * best, 1.0, *TEMPERATURES):
        if TEMPERATURES[0] <= other <= TEMPERATURES[1]:
            assert least <= log_loss(truth, scaled_probabilities(logits, other)) + 1e-9


def test_logits_and_logarithms_of_their_probabilities_have_one_temperature():
    logits, truth = too_sure(300, factor=2)
    logarithms = log_probabilities(scaled_probabilities(logits, 1))
    assert fit_temperature(logarithms, truth) == pytest.approx(fit_temperature(logits, truth), rel=1e-5)


def test_what_is_always_right_is_sharpened_to_the_bound():
    # Two classes .2 apart: 1 / (1 + e^-4) at the smallest temperature.
    logits = np.tile([0.2, 0.0], (10, 1))
    assert fit_temperature(logits, np.zeros(10, dtype=int)) == pytest.approx(TEMPERATURES[0], rel=1e-3)


def test_a_temperature_of_one_changes_nothing_and_none_changes_the_order():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), 50)
    assert scaled_probabilities(log_probabilities(probabilities), 1) == pytest.approx(probabilities)
    warm = scaled_probabilities(log_probabilities(probabilities), 3)
    assert np.array_equal(warm.argsort(axis=1), probabilities.argsort(axis=1)) and warm.max() < probabilities.max()


def test_a_probability_of_zero_has_a_finite_logarithm():
    assert log_probabilities(np.array([[0.0, 1.0]]))[0] == pytest.approx([-52 * math.log(2), 0])


FOLDS = np.arange(90) % 3


def test_the_temperature_of_a_fold_is_fitted_on_the_others():
    logits, truth = too_sure(90, factor=2)
    temperatures = cross_fitted_temperatures(logits, truth, FOLDS)
    assert list(temperatures) == [0, 1, 2]
    for fold, temperature in temperatures.items():
        assert temperature == fit_temperature(logits[fold != FOLDS], truth[fold != FOLDS])


def test_the_rows_of_a_fold_have_no_say_in_its_temperature():
    logits, truth = too_sure(90, factor=2)
    before = cross_fitted_temperatures(logits, truth, FOLDS)
    own = FOLDS == 1
    after = cross_fitted_temperatures(
        np.where(own[:, None], -5 * logits, logits), np.where(own, (truth + 1) % 4, truth), FOLDS
    )
    assert after[1] == before[1]
    assert after[0] != before[0] and after[2] != before[2]


def test_a_fold_alone_has_no_temperature():
    logits, truth = too_sure(10, factor=2)
    assert cross_fitted_temperatures(logits, truth, np.full(10, 4)) == {4: None}


def test_a_fold_that_diverged_leaves_the_others_without_a_temperature():
    logits, truth = too_sure(90, factor=2)
    diverged = np.where((FOLDS == 1)[:, None], np.nan, logits)
    temperatures = cross_fitted_temperatures(diverged, truth, FOLDS)
    assert temperatures[0] is None and temperatures[2] is None
    assert temperatures[1] == fit_temperature(logits[FOLDS != 1], truth[FOLDS != 1])


def test_every_fold_is_scaled_by_its_own_temperature():
    probabilities, folds = two_classes([0.8, 0.8, 0.8, 0.8]), np.array([0, 1, 2, 0])
    scaled = calibrated_by_fold(probabilities, folds, {0: 2.0, 1: 1.0, 2: None})
    # Odds of 4 at temperature 2 are odds of 2.
    assert scaled[[0, 3]] == pytest.approx(np.array([[2 / 3, 1 / 3]] * 2))
    assert scaled[1] == pytest.approx([0.8, 0.2]) and np.isnan(scaled[2]).all()
    assert probabilities[0] == pytest.approx([0.8, 0.2])
