"""Whether predicted probabilities can be believed, and the temperature that makes them so. No torch.

Calibration error and temperature scaling as in Guo et al. 2017, "On Calibration of Modern Neural Networks".
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from biomass_pl.evaluation.class_scores import SMALLEST_PROBABILITY

BINS = 15
"""Equal bins of confidence, as the error is usually given."""

TEMPERATURES = (0.05, 20.0)
"""Bounds of a fitted temperature. One that is always right would be sharpened without end."""


@dataclass(frozen=True, kw_only=True)
class ReliabilityBins:
    """Photos by the probability of their predicted class; a bin holds its lower edge, the last one 1 too.

    Args:
        photos: Photos of each bin (bins,).
        confidence: Their mean probability of the predicted class; 0 in an empty bin (bins,).
        accuracy: Share of them that is predicted rightly; 0 in an empty bin (bins,).
    """

    photos: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def calibration_error(self) -> float:
        """Mean distance of confidence and accuracy over the photos (ECE, l1)."""
        return float(np.sum(self.photos * np.abs(self.confidence - self.accuracy)) / self.photos.sum())


def reliability_bins(truth: np.ndarray, probabilities: np.ndarray, *, bins: int = BINS) -> ReliabilityBins:
    """Sorts photos into equal bins of confidence.

    Args:
        truth: Class numbers (photos,).
        probabilities: A row per photo (photos, K).
        bins: How many bins from 0 to 1.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    edges = np.linspace(0, 1, bins + 1)
    places = np.minimum(np.searchsorted(edges, confidence, side="right") - 1, bins - 1)
    photos = np.bincount(places, minlength=bins)
    sums = [np.bincount(places, values, minlength=bins) for values in (confidence, right)]
    means = [np.divide(total, photos, out=np.zeros(bins), where=photos > 0) for total in sums]
    return ReliabilityBins(photos=photos, confidence=means[0], accuracy=means[1])


def expected_calibration_error(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean distance of confidence and accuracy of the predicted class, in 15 equal bins (l1).

    Args:
        truth: Class numbers (photos,).
        probabilities: A row per photo (photos, K).

    Returns:
        0 at best; NaN without photos or where a probability is not finite.
    """
    if len(truth) == 0 or not np.isfinite(probabilities).all():
        return float("nan")
    return reliability_bins(truth, probabilities).calibration_error


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Natural logarithms; a probability of 0 counts as the smallest one.

    Args:
        probabilities: A row per photo (photos, K).
    """
    logarithms: np.ndarray = np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))
    return logarithms


def fit_temperature(log_probs: np.ndarray, truth: np.ndarray) -> float:
    """The temperature whose scaled probabilities have the smallest log-loss.

    Args:
        log_probs: Logits or logarithms of probabilities (photos, K).
        truth: Class numbers (photos,).

    Returns:
        Above 1 where the predictions are too sure, below where they are not sure enough; within `TEMPERATURES`.
    """
    photos = np.arange(len(truth))

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(log_probs / np.exp(log_temperature), axis=1)
        return float(-scaled[photos, truth].mean())

    # The loss is convex in 1 / T, so that it has one minimum over log T too.
    found: Any = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(found.x))


def scaled_probabilities(log_probs: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities at a temperature.

    Args:
        log_probs: Logits or logarithms of probabilities (photos, K).
        temperature: 1 changes nothing, more makes them less sure.
    """
    return np.asarray(softmax(log_probs / temperature, axis=1))


def cross_fitted_temperatures(log_probs: np.ndarray, truth: np.ndarray, folds: np.ndarray) -> dict[int, float | None]:
    """A temperature per fold, fitted on the rows of all other folds: those of the fold have no say in their own.

    Args:
        log_probs: Logarithms of out-of-fold probabilities (photos, K).
        truth: Class numbers (photos,).
        folds: The fold that held each photo out (photos,).

    Returns:
        By fold; None where there is no other fold, or one whose predictions are not finite.
    """
    finite = np.isfinite(log_probs).all(axis=1)
    temperatures: dict[int, float | None] = {}
    for fold in np.unique(folds).tolist():
        others = folds != fold
        known = others.any() and finite[others].all()
        temperatures[fold] = fit_temperature(log_probs[others], truth[others]) if known else None
    return temperatures


def calibrated_by_fold(
    probabilities: np.ndarray, folds: np.ndarray, temperatures: dict[int, float | None]
) -> np.ndarray:
    """Probabilities scaled by the temperature of their fold; NaN in a fold without.

    Args:
        probabilities: A row per photo (photos, K).
        folds: The fold that held each photo out (photos,).
        temperatures: What `cross_fitted_temperatures` returned.
    """
    scaled = np.full(probabilities.shape, np.nan)
    for fold, temperature in temperatures.items():
        if temperature is not None:
            rows = folds == fold
            scaled[rows] = scaled_probabilities(log_probabilities(probabilities[rows]), temperature)
    return scaled
