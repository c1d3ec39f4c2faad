"""The score of ISIC 2024: area of the ROC region above 80 % true positive rate. No torch.

All functions turn the ROC curve round: benign lesions are the hits and scores are negated. What lies above a true
positive rate of 0.8 then lies left of a false positive rate of 0.2. Scores are negated, never taken from 1, because
1 - score makes ties of small scores.
"""

import math

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

MIN_TPR = 0.8


def partial_auc(truth: np.ndarray, score: np.ndarray, *, min_tpr: float = MIN_TPR) -> float:
    """Area under the ROC curve and above a true positive rate, not scaled.

    Lesions with equal scores make one straight segment of the curve. Only the order of the scores matters.
    Definition: https://www.kaggle.com/competitions/isic-2024-challenge/overview/evaluation

    Args:
        truth: 0 benign, 1 malignant (lesions,).
        score: Higher is more likely malignant (lesions,); logits and probabilities do alike.
        min_tpr: The true positive rate.

    Returns:
        From 0 to 1 - `min_tpr`, which is 0.2; 0.02 for a constant score. NaN where only one class occurs or a
        score is not finite.
    """
    if not _is_defined(truth, score):
        return math.nan
    missed, spared, _ = roc_curve(1 - truth, -score.astype(np.float64), drop_intermediate=False)
    return _area(missed, spared, width=1 - min_tpr)


def area_under_roc(truth: np.ndarray, score: np.ndarray) -> float:
    """Area under the whole ROC curve.

    Args:
        truth: 0 benign, 1 malignant (lesions,).
        score: Higher is more likely malignant (lesions,).

    Returns:
        From 0 to 1. NaN where only one class occurs or a score is not finite.
    """
    return float(roc_auc_score(truth, score.astype(np.float64))) if _is_defined(truth, score) else math.nan


def lesion_scores(truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """`pauc` above 80 % true positive rate, and `auc`; NaN where these are not defined.

    Args:
        truth: 0 benign, 1 malignant (lesions,).
        score: Higher is more likely malignant (lesions,).
    """
    return {"pauc": partial_auc(truth, score), "auc": area_under_roc(truth, score)}


def bootstrap_partial_auc(
    truth: np.ndarray, score: np.ndarray, groups: np.ndarray, *, draws: int, seed: int = 0
) -> np.ndarray:
    """`partial_auc` of resampled data, whole groups drawn with replacement.

    Args:
        truth: 0 benign, 1 malignant (lesions,).
        score: Higher is more likely malignant (lesions,).
        groups: What is drawn together, such as the patient of each lesion (lesions,).
        draws: How often to draw.
        seed: Another seed gives other draws.

    Returns:
        A value per draw; draws without a malignant or without a benign lesion are left out. Empty where
        `partial_auc` is NaN.
    """
    if not _is_defined(truth, score):
        return np.empty(0)
    group = pd.factorize(groups)[0].astype(np.int64)
    count = int(group.max()) + 1
    # Lesions of one group, place and class are interchangeable: a draw only counts them.
    cell = 2 * _places(truth, score) + truth.astype(np.int64)
    distinct, lesions = np.unique(cell * count + group, return_counts=True)
    cells, members = np.divmod(distinct, count)
    size = 2 * (int(cells.max()) // 2 + 1)
    values = [
        _area_of_cells(np.bincount(cells, lesions * times[members], minlength=size))
        for times in np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    ]
    return np.array([value for value in values if not math.isnan(value)])


def partial_auc_of_draws(truth: np.ndarray, score: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`partial_auc` when each lesion counts as often as it was drawn.

    Args:
        truth: 0 benign, 1 malignant (lesions,).
        score: Higher is more likely malignant (lesions,).
        counts: How often each lesion counts, shape (draws, lesions).

    Returns:
        A value per draw; NaN where a class was not drawn, or where `partial_auc` is NaN.
    """
    if not _is_defined(truth, score):
        return np.full(len(counts), math.nan)
    cell = 2 * _places(truth, score) + truth.astype(np.int64)
    size = 2 * (int(cell.max()) // 2 + 1)
    return np.array([_area_of_cells(np.bincount(cell, times, minlength=size)) for times in counts])


def _is_defined(truth: np.ndarray, score: np.ndarray) -> bool:
    return bool(0 < truth.sum() < len(truth) and np.isfinite(score).all())


def _area_of_cells(weights: np.ndarray) -> float:
    """The score of benign and malignant lesions counted at each place of the curve, NaN without one of the classes."""
    spared, missed = weights.reshape(-1, 2).cumsum(axis=0).T
    if not (spared[-1] > 0 and missed[-1] > 0):
        return math.nan
    return _area(missed / missed[-1], spared / spared[-1], width=1 - MIN_TPR)


def _area(missed: np.ndarray, spared: np.ndarray, *, width: float) -> float:
    """Area under a curve that rises from abscissa 0, up to an abscissa; the segment that is cut is straight."""
    inside = missed <= width
    x = np.append(missed[inside], width)
    y = np.append(spared[inside], np.interp(width, missed, spared))
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2)


def _places(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Place of each lesion on the ROC curve, from the lowest score up; place 0 holds no malignant lesion.

    Benign lesions between two neighbouring malignant scores share a place: their order draws the same line.
    """
    malignant = np.unique(score[truth == 1])
    # Equal to a malignant score: odd sum. Between two of them: even.
    return np.searchsorted(malignant, score, side="left") + np.searchsorted(malignant, score, side="right")
