"""Scores of photos that belong to one of K classes, and how sure they are. No torch.

Every score is over all K classes. A class that is absent from the truth and from the predictions scores 0, as in
scikit-learn when it is given all labels: it lowers a macro mean, where torchmetrics would leave it out.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)
"""What a probability of 0 counts as in a log-loss, as in scikit-learn."""


SCORES = (
    "accuracy",
    "f1_macro",
    "balanced_accuracy",
    "f1_weighted",
    "precision_macro",
    "precision_weighted",
    "recall_macro",
    "recall_weighted",
    "log_loss",
)
"""What `class_scores` returns, by name."""


@dataclass(frozen=True, kw_only=True)
class PerClass:
    """Scores of each class, 0 where nothing was predicted or nothing is true.

    Args:
        precision: Share of the photos predicted as the class that are of it (K,).
        recall: Share of the photos of the class that were predicted as it (K,).
        f1: Harmonic mean of both (K,).
        photos: Photos of the class (K,).
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    photos: np.ndarray


def per_class_scores(truth: np.ndarray, predicted: np.ndarray, classes: int) -> PerClass:
    """Precision, recall and F1 of each class.

    Args:
        truth: Class numbers (photos,).
        predicted: Class numbers (photos,).
        classes: How many classes there are, K.
    """
    scores = precision_recall_fscore_support(truth, predicted, labels=range(classes), zero_division=0)
    return PerClass(**dict(zip(("precision", "recall", "f1", "photos"), scores, strict=True)))


def class_scores(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Scores of predicted probabilities; the predicted class is the most probable one, of equals the first.

    Args:
        truth: Class numbers (photos,), at least one.
        probabilities: A row per photo that sums to 1 (photos, K).

    Returns:
        `accuracy`; `f1_macro`, `balanced_accuracy` (mean recall of the classes that have photos), `f1_weighted`,
        `precision_macro`, `precision_weighted`, `recall_macro`, `recall_weighted` (by the photos of a class) and
        `log_loss`. NaN where a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(SCORES, float("nan"))
    predicted = probabilities.argmax(axis=1)
    found = per_class_scores(truth, predicted, probabilities.shape[1])
    means = {
        f"{name}_{kind}": float(np.average(values, weights=weights))
        for name, values in (("f1", found.f1), ("precision", found.precision), ("recall", found.recall))
        for kind, weights in (("macro", None), ("weighted", found.photos))
    }
    scores = {
        "accuracy": float(np.mean(predicted == truth)),
        "balanced_accuracy": float(found.recall[found.photos > 0].mean()),
        "log_loss": log_loss(truth, probabilities),
        **means,
    }
    return {name: scores[name] for name in SCORES}


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative logarithm of the true class's probability.

    Args:
        truth: Class numbers (photos,).
        probabilities: A row per photo (photos, K).
    """
    # scikit-learn's own warns of rows that sum to 1 only to the last bit of float32.
    of_truth = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(of_truth, SMALLEST_PROBABILITY)).mean())


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Photos by true class (rows) and predicted class (columns) (K, K).

    Args:
        truth: Class numbers (photos,).
        predicted: Class numbers (photos,).
        classes: How many classes there are, K.
    """
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def bootstrap_class_scores(
    truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray, *, classes: int, draws: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """`accuracy` and `f1_macro` of resampled data, whole groups drawn with replacement.

    Args:
        truth: Class numbers (photos,).
        predicted: Class numbers (photos,).
        groups: What is drawn together, such as the source of each photo (photos,).
        classes: How many classes there are, K.
        draws: How often to draw.
        seed: Another seed gives other draws.

    Returns:
        Both by name, a value per draw.
    """
    hits, photos, answers = _resampled_counts(truth, predicted, groups, classes=classes, draws=draws, seed=seed)
    both = photos + answers
    f1 = np.divide(2 * hits, both, out=np.zeros(both.shape), where=both > 0)
    return {"accuracy": hits.sum(axis=1) / photos.sum(axis=1), "f1_macro": f1.mean(axis=1)}


def _resampled_counts(
    truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray, *, classes: int, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each draw, by class: photos predicted rightly, photos, and predictions (draws, K)."""
    group = pd.factorize(groups)[0]
    count = int(group.max()) + 1
    # Sides of a confusion matrix and its diagonal, for each group: accuracy and F1 depend on nothing else.
    counts = np.zeros((count, 3, classes), dtype=np.int64)
    np.add.at(counts[:, 1], (group, truth), 1)
    np.add.at(counts[:, 2], (group, predicted), 1)
    right = truth == predicted
    np.add.at(counts[:, 0], (group[right], truth[right]), 1)
    # Groups with equal counts are interchangeable: most have a single photo, and so one of few forms.
    forms, groups_of_form = np.unique(counts.reshape(count, -1), axis=0, return_counts=True)
    times = np.random.default_rng(seed).multinomial(count, groups_of_form / count, size=draws)
    drawn = (times.astype(np.float64) @ forms).reshape(draws, 3, classes)
    return drawn[:, 0], drawn[:, 1], drawn[:, 2]
