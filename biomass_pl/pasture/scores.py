"""The two R2 scores over all five targets, and R2, RMSE and MAE of each, over the values that are known. No torch."""

import numpy as np
from sklearn.metrics import r2_score

from biomass_pl.evaluation.bootstrap import ratio
from biomass_pl.pasture.targets import SCORE_WEIGHTS, TARGETS

_WEIGHTS = np.array([SCORE_WEIGHTS[target] for target in TARGETS])


def weighted_r2(truth: np.ndarray, prediction: np.ndarray) -> float:
    """The competition's score: one R2 over all known values pooled, each weighted by its target.

    Args:
        truth: Grams (photos, 5), NaN where unknown.
        prediction: Grams (photos, 5).

    Returns:
        At most 1; NaN where all true values are equal, so that there is nothing to explain, or a prediction
        is not finite.
    """
    weights = np.broadcast_to(_WEIGHTS, truth.shape)
    return _r2(truth.ravel(), prediction.ravel(), weights.ravel())


def weighted_r2_of_draws(truth: np.ndarray, prediction: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`weighted_r2` when each photo counts as often as it was drawn.

    Args:
        truth: Grams (photos, 5); NaN where unknown, which counts for nothing.
        prediction: Grams (photos, 5).
        counts: How often each photo counts, shape (draws, photos).

    Returns:
        A value per draw; NaN where all drawn values are equal.
    """
    weights = np.where(np.isfinite(truth), _WEIGHTS, 0.0)
    known = np.where(np.isfinite(truth), truth, 0.0)
    # The score depends on these sums alone, and those of a draw are sums over photos.
    terms = [weights, weights * known, weights * known**2, weights * (known - prediction) ** 2]
    weight, first, second, error = (counts @ np.stack([term.sum(axis=1) for term in terms], axis=1)).T
    spread = second - ratio(first**2, weight)
    return 1 - ratio(error, spread)


def mean_r2(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Weighted mean of the R2 of each target that is known at all; other scripts call this the weighted R2.

    Args:
        truth: Grams (photos, 5), NaN where unknown.
        prediction: Grams (photos, 5).

    Returns:
        At most 1; NaN where a target has the same true value in all photos, or a prediction is not finite.
    """
    known = ~np.isnan(truth).all(axis=0)
    if not known.any():
        return float("nan")
    scores = [_r2(*columns) for columns in zip(truth.T[known], prediction.T[known], strict=True)]
    return float(np.average(scores, weights=_WEIGHTS[known]))


def target_scores(truth: np.ndarray, prediction: np.ndarray) -> dict[str, dict[str, float]]:
    """R2, RMSE and MAE (grams) of each target that is known at all.

    Args:
        truth: Grams (photos, 5), NaN where unknown.
        prediction: Grams (photos, 5).
    """
    scores = {}
    for target, *columns in zip(TARGETS, truth.T, prediction.T, strict=True):
        true, predicted = _known(*columns)
        if len(true):
            scores[target] = {
                "r2": _r2(true, predicted),
                "rmse": float(np.sqrt(np.mean((predicted - true) ** 2))),
                "mae": float(np.mean(np.abs(predicted - true))),
            }
    return scores


def pasture_scores(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """`weighted_r2`, `mean_r2` and `r2_<target>` of the targets that are known at all.

    Args:
        truth: Grams (photos, 5), NaN where unknown.
        prediction: Grams (photos, 5).
    """
    scores = {"weighted_r2": weighted_r2(truth, prediction), "mean_r2": mean_r2(truth, prediction)}
    return scores | {f"r2_{target}": values["r2"] for target, values in target_scores(truth, prediction).items()}


def _known(*columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """The rows of columns of which the first is not NaN; the columns as they are where it is nowhere."""
    known = ~np.isnan(columns[0])
    return columns if known.all() else tuple(column[known] for column in columns)


def _r2(truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None) -> float:
    columns = (truth, prediction) if weights is None else (truth, prediction, weights)
    truth, prediction, *weighted = _known(*columns)
    # A diverged network predicts NaN, of which r2_score would make an error.
    if len(truth) < 2 or np.ptp(truth) == 0 or not np.isfinite(prediction).all():
        return float("nan")
    return float(r2_score(truth, prediction, sample_weight=weighted[0] if weighted else None))
