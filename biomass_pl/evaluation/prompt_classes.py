"""Classes told apart by vectors: of sentences that describe them, or of a few examples. No torch.

Zero-shot classification as in Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
Supervision": the vectors of several sentences on a class are normalised, averaged and normalised again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from biomass_pl.errors import ConfigError, DataError, listed
from biomass_pl.evaluation.bootstrap import Bootstrap, scores_with_intervals
from biomass_pl.evaluation.probe import LinearProbe, fit_class_probe
from biomass_pl.evaluation.report import defined
from biomass_pl.evaluation.retrieval import unit_vectors
from biomass_pl.evaluation.weighted_class_scores import multi_class_scores, two_class_scores


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassPredictions:
    """What items were taken for.

    Args:
        ids: Names of the items.
        classes: Labels of the classes, K.
        truth: Number of each item's class (items,).
        probabilities: A row per item (items, K).
    """

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    truth: np.ndarray
    probabilities: np.ndarray

    def records(self) -> dict[str, dict[str, Any]]:
        """Of each item by its name: `true_label`, `predicted_label` and `probabilities`, None where not finite."""
        return {
            name: {
                "true_label": self.classes[truth],
                "predicted_label": self.classes[row.argmax()] if np.isfinite(row).all() else None,
                "probabilities": [defined(float(value)) for value in row],
            }
            for name, truth, row in zip(self.ids, self.truth, self.probabilities, strict=True)
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledVectors:
    """Vectors of items of which some belong to a class.

    Args:
        ids: Names of the items.
        vectors: A vector per item (items, D).
        labels: Label of the class of some items by name, text or number; names of other items say nothing.
    """

    ids: Sequence[str]
    vectors: np.ndarray
    labels: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassHead:
    """Classes as a linear layer on unit vectors.

    Args:
        classes: Labels of the classes, K.
        linear: Gives a logit per class.
    """

    classes: tuple[str, ...]
    linear: LinearProbe

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """Probability of each class (items, K) by vectors (items, D) of any length; NaN where one is not finite."""
        return np.asarray(softmax(self.linear.outputs(unit_vectors(vectors)), axis=1))


def cosine_head(vectors: Mapping[Any, np.ndarray], *, scale: float) -> ClassHead:
    """Classes by the cosine with their mean direction: zero-shot by sentences, few-shot by examples.

    Args:
        vectors: By label, the vectors of the sentences or examples that stand for the class (several, D), at least one.
        scale: What a cosine is multiplied by before the softmax; that of the contrastive loss.

    Raises:
        DataError: There are fewer than two classes, or one without a vector.
    """
    classes = _labels(vectors)
    directions = class_vectors(list(vectors.values())).astype(np.float64)
    return ClassHead(classes=classes, linear=LinearProbe(weight=scale * directions, bias=np.zeros(len(classes))))


def probe_head(examples: Mapping[Any, np.ndarray]) -> ClassHead:
    """Classes by logistic regression on the unit vectors of a few examples of each.

    Args:
        examples: By label, the vectors of the examples (examples, D), at least one.

    Raises:
        DataError: There are fewer than two classes, or one without an example.
    """
    classes = _labels(examples)
    vectors = np.concatenate([unit_vectors(several) for several in examples.values()])
    numbers = np.repeat(np.arange(len(classes)), [len(several) for several in examples.values()])
    return ClassHead(classes=classes, linear=fit_class_probe(vectors, numbers, len(classes)))


def classify(items: LabelledVectors, head: ClassHead, *, without: Collection[str] = ()) -> ClassPredictions:
    """Classifies the items that have a label.

    Args:
        items: Vectors and the true classes.
        head: The classes.
        without: Names of items that are left out, such as the examples that the classes were learned from.

    Raises:
        DataError: An item is of a class that the head does not know.
    """
    rows, truth = _queries(items, head.classes, without)
    return ClassPredictions(
        ids=tuple(items.ids[row] for row in rows),
        classes=head.classes,
        truth=truth,
        probabilities=head.probabilities(items.vectors[rows]),
    )


def class_vectors(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """One unit vector for each class (K, D): the mean of unit vectors.

    Args:
        vectors: Of each class one vector or more (vectors of the class, D).
    """
    return unit_vectors(np.stack([unit_vectors(several).mean(axis=0) for several in vectors]))


def classification_scores(
    predictions: ClassPredictions,
    patients: Mapping[str, str],
    bootstrap: Bootstrap,
    *,
    prefix: str,
    positive: str | None = None,
) -> dict[str, float]:
    """Scores of predicted classes, with intervals over patients.

    Args:
        predictions: What the items were taken for.
        patients: Whose each item is, by name: what is drawn together.
        bootstrap: How intervals are found.
        prefix: Stands before each name, such as `task_0_`.
        positive: Of two classes the label of the one that is looked for; that of `positive_class` where None.

    Returns:
        What `two_class_scores` or, of more than two classes, `multi_class_scores` names; intervals as
        `scores_with_intervals` names them.

    Raises:
        ConfigError: `positive` is none of two classes.
    """
    truth, probabilities = predictions.truth, predictions.probabilities
    number = _number_of_positive(predictions.classes, positive)

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        if len(predictions.classes) == 2:
            found = two_class_scores(truth, probabilities, weights, positive=number)
        else:
            found = multi_class_scores(truth, probabilities, weights)
        return {f"{prefix}{name}": values for name, values in found.items()}

    groups = np.array([patients[name] for name in predictions.ids], dtype=str)
    return scores_with_intervals(scores, groups, bootstrap)


def positive_class(classes: Sequence[str]) -> str:
    """The last label in order, by value where all are numbers: 1 of 0 and 1, 2 of 1 and 2, `yes` of `no` and `yes`.

    Args:
        classes: Labels, in whatever order a file names them.
    """
    try:
        return max(classes, key=float)
    except ValueError:
        return max(classes)


def _number_of_positive(classes: tuple[str, ...], positive: str | None) -> int:
    label = positive_class(classes) if positive is None else positive
    if label not in classes:
        raise ConfigError(f"The positive class is {label!r}; give one of {', '.join(classes)}.")
    return classes.index(label)


def _labels(vectors: Mapping[Any, np.ndarray]) -> tuple[str, ...]:
    """Labels of the classes as text, in the order given.

    Raises:
        DataError: There are fewer than two, or one without a vector.
    """
    classes = tuple(str(label) for label in vectors)
    if len(classes) < 2:
        raise DataError(f"A classification needs two classes or more, not {len(classes)}; describe the other ones too.")
    empty = [label for label, several in zip(classes, vectors.values(), strict=True) if not len(several)]
    if empty:
        raise DataError(f"These classes have neither a sentence nor an example; add one:\n{listed(empty)}")
    return classes


def _queries(
    items: LabelledVectors, classes: tuple[str, ...], without: Collection[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and class numbers of the items that are classified.

    Raises:
        DataError: An item is of an unknown class.
    """
    left_out = set(without)
    rows = [row for row, name in enumerate(items.ids) if name in items.labels and name not in left_out]
    labels = [str(items.labels[items.ids[row]]) for row in rows]
    unknown = [f"{items.ids[row]}: {label}" for row, label in zip(rows, labels, strict=True) if label not in classes]
    if unknown:
        raise DataError(
            f"The classes {', '.join(classes)} are described, but these are of others; describe them or leave them "
            f"out:\n{listed(unknown)}"
        )
    numbers = [classes.index(label) for label in labels]
    return np.array(rows, dtype=np.int64), np.array(numbers, dtype=np.int64)
