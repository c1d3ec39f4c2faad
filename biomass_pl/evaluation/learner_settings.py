"""Which learners there are, and what suits each where nothing else is asked for. No torch, and quick to import."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeGuard, get_args

Kind = Literal["classification", "regression"]
"""Whether targets are two classes or numbers."""

Library = Literal["lightgbm", "xgboost", "catboost"]
"""Boosters, by the library that they come from."""

Learner = Literal[Library, "ridge", "gp", "svr", "logistic"]

SumRule = Literal["add", "project"]
"""Predict the parts of sums and add them, or predict all and move the predictions to the nearest that add up."""

TargetTransform = Literal["sqrt", "log1p", "none"]
"""What is learned instead of a target itself; predictions are transformed back."""


@dataclass(frozen=True, kw_only=True)
class LearnerDefaults:
    """What a learner is, and how it is used unless something else is asked for.

    Args:
        name: In words.
        kinds: Kinds of targets that it can learn.
        seeds: Fits that are averaged, each with a seed of its own.
        pca: Principal components kept of each array of embeddings, or as many as there are; None keeps embeddings as
            they are.
        target_transform: What is learned of a target that is a number.
        draws: Whether another seed gives another fit.
    """

    name: str
    kinds: tuple[Kind, ...]
    seeds: int = 1
    pca: int | None = None
    target_transform: TargetTransform = "none"
    draws: bool = True


_BOTH: tuple[Kind, ...] = ("classification", "regression")

LEARNERS = MappingProxyType[Learner, LearnerDefaults](
    {
        "lightgbm": LearnerDefaults(name="LightGBM", kinds=_BOTH, seeds=3),
        "xgboost": LearnerDefaults(name="XGBoost", kinds=_BOTH, seeds=3),
        "catboost": LearnerDefaults(name="CatBoost", kinds=_BOTH, seeds=3),
        "ridge": LearnerDefaults(name="ridge regression", kinds=("regression",), target_transform="sqrt"),
        "gp": LearnerDefaults(
            name="a Gaussian process", kinds=("regression",), pca=128, target_transform="sqrt", draws=False
        ),
        "svr": LearnerDefaults(name="support vector regression", kinds=("regression",), target_transform="sqrt"),
        "logistic": LearnerDefaults(name="logistic regression", kinds=("classification",)),
    }
)


def is_booster(learner: Learner) -> TypeGuard[Library]:
    """Whether a learner takes missing values and codes of categories as they are, and tells what it used."""
    return learner in get_args(Library)
