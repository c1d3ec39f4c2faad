"""R2 of numbers, some of them unknown, when items count as often as a bootstrap draws them. No torch."""

import numpy as np

from biomass_pl.evaluation.bootstrap import ratio


def drawn_mean_r2(truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Weighted mean of the R2 of all targets that have one.

    Args:
        truth: Numbers (items, targets), NaN where unknown.
        prediction: Numbers (items, targets).
        weights: What each target counts (targets,).
        counts: How often each item was drawn (draws, items).

    Returns:
        A value per draw (draws,); NaN where no target has an R2, or a prediction is not finite.
    """
    if not np.isfinite(prediction).all():
        return np.full(len(counts), np.nan)
    columns = zip(truth.T, prediction.T, strict=True)
    r2 = np.stack([drawn_r2(true, predicted, counts) for true, predicted in columns], axis=1)
    counted = np.where(np.isnan(r2), 0.0, weights)
    return ratio((np.nan_to_num(r2) * counted).sum(axis=1), counted.sum(axis=1))


def drawn_r2(truth: np.ndarray, prediction: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """R2 of one target over the items of which it is known.

    Args:
        truth: Numbers (items,), NaN where unknown.
        prediction: Numbers (items,).
        counts: How often each item was drawn (draws, items).

    Returns:
        A value per draw (draws,); NaN where nothing varies among the items drawn.
    """
    known = ~np.isnan(truth)
    true, counts = truth[known], counts[:, known].astype(np.float64)
    if len(true) < 2 or np.ptp(true) == 0:
        return np.full(len(counts), np.nan)
    true = true - true.mean()  # no digits are lost in squares of what lies far from 0
    error = counts @ (prediction[known] - truth[known]) ** 2
    spread = counts @ true**2 - ratio((counts @ true) ** 2, counts.sum(axis=1), otherwise=0.0)
    # What rounding leaves of equal values is no spread.
    spread[spread < 1e-12 * (counts @ true**2)] = 0.0
    return 1 - ratio(error, spread)
