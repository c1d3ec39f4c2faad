"""R2, RMSE and MAE of numbers of any unit, some of them not measured. No torch."""

import numpy as np

from biomass_pl.evaluation.drawn_scores import drawn_mean_r2, drawn_r2


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
        "r2": float(drawn_r2(truth, prediction, np.ones((1, len(truth))))[0]),
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
