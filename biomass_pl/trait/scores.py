"""R2, RMSE and MAE of numbers of any unit, some of them not measured. No torch."""

from collections.abc import Callable, Mapping

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
    return float(mean_r2_of_draws(truth, prediction, weights)(np.ones((1, len(truth))))["mean_r2"][0])


def mean_r2_of_draws(
    truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray
) -> Callable[[np.ndarray], Mapping[str, np.ndarray]]:
    """`mean_r2` as a function of how often each photo counts (draws, photos), a value per draw."""

    def scores(times: np.ndarray) -> Mapping[str, np.ndarray]:
        if not np.isfinite(prediction).all():
            return {"mean_r2": np.full(len(times), np.nan)}
        columns = zip(truth.T, prediction.T, strict=True)
        r2 = np.stack([_weighted_r2(true, predicted, times) for true, predicted in columns], axis=1)
        counted = np.where(np.isnan(r2), 0.0, weights)
        return {"mean_r2": ratio((np.nan_to_num(r2) * counted).sum(axis=1), counted.sum(axis=1))}

    return scores


def _weighted_r2(truth: np.ndarray, prediction: np.ndarray, times: np.ndarray) -> np.ndarray:
    """R2 over the photos with a true value, each as often as `times` (draws, photos) says; (draws,)."""
    known = ~np.isnan(truth)
    true, times = truth[known], times[:, known].astype(np.float64)
    if len(true) < 2 or np.ptp(true) == 0:
        return np.full(len(times), np.nan)
    true = true - true.mean()  # no digits are lost in squares of what lies far from 0
    error = times @ (prediction[known] - truth[known]) ** 2
    spread = times @ true**2 - ratio((times @ true) ** 2, times.sum(axis=1), otherwise=0.0)
    # What rounding leaves of equal values is no spread.
    spread[spread < 1e-12 * (times @ true**2)] = 0.0
    return 1 - ratio(error, spread)
