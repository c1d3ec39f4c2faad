"""Scores of predicted classes where items count several times or not at all, as in a bootstrap. No torch."""

import numpy as np

from biomass_pl.evaluation.bootstrap import ratio, weighted_mean

TWO_CLASS_SCORES = ("precision", "recall", "f1_score", "auc_roc")
MULTI_CLASS_SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc_roc")


def two_class_scores(
    truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, *, positive: int
) -> dict[str, np.ndarray]:
    """Scores of one class against the other, for each draw.

    Args:
        truth: Class numbers, 0 or 1 (items,).
        probabilities: A row per item (items, 2); the more probable class is predicted, of equals the first.
        weights: How often each item counts (draws, items).
        positive: The class that is looked for.

    Returns:
        `precision`, `recall`, `f1_score` (0 where nothing is predicted or true) and `auc_roc` (NaN where only one
        class occurs), each (draws,); all NaN without an item or where a probability is not finite.
    """
    if not (len(truth) and np.isfinite(probabilities).all()):
        return {name: np.full(len(weights), np.nan) for name in TWO_CLASS_SCORES}
    hits, items, answers = (counts[:, positive] for counts in _counts(truth, probabilities, weights))
    values = (
        ratio(hits, answers, otherwise=0),
        ratio(hits, items, otherwise=0),
        ratio(2 * hits, items + answers, otherwise=0),
        weighted_auc(truth == positive, probabilities[:, positive], weights),
    )
    return dict(zip(TWO_CLASS_SCORES, values, strict=True))


def multi_class_scores(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of three classes or more, for each draw.

    Args:
        truth: Class numbers (items,).
        probabilities: A row per item (items, K); the most probable class is predicted, of equals the first.
        weights: How often each item counts (draws, items).

    Returns:
        `accuracy`, `balanced_accuracy` (mean recall), `macro_f1` and `macro_auc_roc` (mean area of one class against
        all others), each (draws,). The means are over the classes that have items in the draw: nothing can be said of
        the others. All NaN without an item or where a probability is not finite; `macro_auc_roc` also with items of
        one class only.
    """
    if not (len(truth) and np.isfinite(probabilities).all()):
        return {name: np.full(len(weights), np.nan) for name in MULTI_CLASS_SCORES}
    hits, items, answers = _counts(truth, probabilities, weights)
    classes = range(probabilities.shape[1])
    areas = np.stack([weighted_auc(truth == number, probabilities[:, number], weights) for number in classes], axis=1)
    values = (
        weighted_mean(probabilities.argmax(axis=1) == truth, weights),
        _mean_where(items > 0, ratio(hits, items)),
        _mean_where(items > 0, ratio(2 * hits, items + answers)),
        _mean_where(np.isfinite(areas), areas),
    )
    return dict(zip(MULTI_CLASS_SCORES, values, strict=True))


def weighted_auc(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve for each draw (draws,); NaN where all drawn items are positive, or none is.

    Args:
        positive: Whether an item is positive (items,), at least one item.
        score: Higher is more likely positive (items,).
        weights: How often each item counts (draws, items).
    """
    order = np.argsort(score)
    first_of_equals = np.flatnonzero(np.diff(score[order], prepend=-np.inf) > 0)
    above, below = (
        np.add.reduceat(np.where(kind, weights, 0)[:, order], first_of_equals, axis=1).astype(np.float64)
        for kind in (positive, ~positive)
    )
    # A positive item is right about the negative ones below it, and half right about those with an equal score.
    right = (above * (below.cumsum(axis=1) - below / 2)).sum(axis=1)
    return ratio(right, above.sum(axis=1) * below.sum(axis=1))


def _counts(
    truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By class, for each draw: items predicted rightly, items, and predictions (draws, K)."""
    classes = np.eye(probabilities.shape[1], dtype=np.int64)
    true, predicted = classes[truth], classes[probabilities.argmax(axis=1)]
    return weights @ (true * predicted), weights @ true, weights @ predicted


def _mean_where(counted: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of some values of each row (draws,); NaN without any."""
    return ratio(np.where(counted, values, 0).sum(axis=1), counted.sum(axis=1))
