"""Questions about specimens as a network answers them: by vectors of prompts, of examples, and a probe. No torch."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from biomass_pl.evaluation.prompt_classes import ClassHead, cosine_head, probe_head
from biomass_pl.slide.classification_files import ClassificationTask
from biomass_pl.slide.prediction_table import (
    class_column,
    few_shot_name,
    probability_column,
    probe_name,
    zero_shot_name,
)

Vectors = Mapping[str, np.ndarray]
"""A vector by the name of a specimen, or by a text."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One way to answer a question.

    Args:
        name: What its columns and scores begin with.
        head: Tells the classes by vectors of images.
        labels: True class of each specimen that is asked about.
    """

    name: str
    head: ClassHead
    labels: Mapping[str, str]


def answers_to(
    questions: Sequence[ClassificationTask], *, prompts: Vectors, examples: Vectors, scale: float
) -> list[Answer]:
    """All ways to answer the questions by the vectors of one network.

    Args:
        questions: The questions.
        prompts: Vector of each prompt.
        examples: Vector of each specimen that is an example.
        scale: What cosines are multiplied by; that of the contrastive loss.
    """
    found: list[Answer] = []
    for number, question in enumerate(questions):
        if question.prompts is not None:
            head = cosine_head(_of_classes(question.prompts, prompts), scale=scale)
            found.append(Answer(name=zero_shot_name(number), head=head, labels=question.labels))
        if question.examples is not None:
            of_classes = _of_classes(question.examples, examples)
            asked = _without(question.labels, [name for names in question.examples.values() for name in names])
            prototypes, probe = cosine_head(of_classes, scale=scale), probe_head(of_classes)
            found.append(Answer(name=few_shot_name(number), head=prototypes, labels=asked))
            found.append(Answer(name=probe_name(number), head=probe, labels=asked))
    return found


def answer_columns(
    answers: Sequence[Answer], ids: Sequence[str], vectors: np.ndarray
) -> dict[str, list[str] | np.ndarray]:
    """Columns of the table of predictions: true classes, empty where unknown, and probabilities.

    Args:
        answers: The ways to answer.
        ids: Names of the specimens.
        vectors: Their vectors (specimens, D).
    """
    columns: dict[str, list[str] | np.ndarray] = {}
    for answer in answers:
        columns[class_column(answer.name)] = [answer.labels.get(name, "") for name in ids]
        probabilities = answer.head.probabilities(vectors)
        for label, values in zip(answer.head.classes, probabilities.T, strict=True):
            columns[probability_column(answer.name, label)] = values
    return columns


def needed(
    questions: Sequence[ClassificationTask], part: Callable[[ClassificationTask], Mapping[str, Collection[str]] | None]
) -> list[str]:
    """All prompts, or the names of all examples, each once.

    Args:
        questions: The questions.
        part: Takes the prompts or the examples of one.
    """
    named = [name for question in questions for names in (part(question) or {}).values() for name in names]
    return list(dict.fromkeys(named))


def _of_classes(members: Mapping[str, Sequence[str]], vectors: Vectors) -> dict[str, np.ndarray]:
    return {label: np.stack([vectors[name] for name in names]) for label, names in members.items()}


def _without(labels: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    left_out = set(names)
    return {name: label for name, label in labels.items() if name not in left_out}
