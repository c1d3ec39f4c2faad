"""R2, RMSE and MAE of numbers of any unit, some of them not measured. No torch."""

import numpy as np

from biomass_pl.evaluation.bootstrap import ratio


def target_scores(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """`r2`, `rmse`, `mae` and `photos` of one target, over the photos on which it was measured.

    Args:
        truth: Numbers (photos,), NaN where not measured.
        prediction: Numbers (photos,).

    Returns:
        R2 is NaN where all true values are equal, or there are fewer than two; all but `photos` are where there is none
        or a prediction is not finite.
    """
    known = ~np.isnan(truth)
    error = prediction[known] - truth[known]
    if not known.any() or not np.isfinite(error).all():
        return {"r2": np.nan, "rmse": np.nan, "mae": np.nan, "photos": int(known.sum())}
    return {
        "r2": float(_weighted_r2(truth, prediction, np.ones((1, len(truth))))[0]),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.abs(error).mean()),
        "photos": int(known.sum()),
    }


def mean_r2(truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray) -> float:
    """Weighted mean of the R2 of all targets that have one.

    Args:
        truth: Numbers (photos, targets), NaN where not measured.
        prediction: Numbers (photos, targets).
        weights: What each target counts (targets,).

    Returns:
        At most 1; NaN where no target has an R2, or a prediction is not finite.
    """
    return float(drawn_mean_r2(truth, prediction, weights, np.ones((1, len(truth))))[0])


def drawn_mean_r2(truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`mean_r2` when each photo counts as often as it was drawn (draws, photos); a value per draw (draws,)."""
    if not np.isfinite(prediction).all():
        return np.full(len(counts), np.nan)
    columns = zip(truth.T, prediction.T, strict=True)
    r2 = np.stack([_weighted_r2(true, predicted, counts) for true, predicted in columns], axis=1)
    counted = np.where(np.isnan(r2), 0.0, weights)
    return ratio((np.nan_to_num(r2) * counted).sum(axis=1), counted.sum(axis=1))


def _weighted_r2(truth: np.ndarray, prediction: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """R2 over the photos with a true value, each as often as `counts` (draws, photos) says; (draws,)."""
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
