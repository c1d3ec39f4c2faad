"""Learners behind one constructor: boosters, and those that suit a few hundred rows. No torch."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import TransformedTargetRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVR

from biomass_pl.errors import FoldError
from biomass_pl.evaluation.boosters import make_booster
from biomass_pl.evaluation.learner_settings import Kind, Learner, TargetTransform, is_booster

InnerFolds = Sequence[tuple[np.ndarray, np.ndarray]]
"""Positions of the rows to fit on and of those to score, for each fold of a search of hyperparameters."""

_MOST_INNER_FOLDS = 5

# Each array of features has a total variance of 1, and targets have a variance of 1: these spans hold for any of them.
_RIDGE_GRID = {"alpha": np.logspace(-2, 2, 13).tolist()}
_SVR_GRID = {"C": [0.3, 1.0, 3.0, 10.0], "gamma": [0.1, 0.3, 1.0]}
_LOGISTIC_GRID = {"C": np.logspace(-2, 4, 13).tolist()}


def make_learner(
    learner: Learner, *, kind: Kind, target_transform: TargetTransform, seed: int, rows: int, inner: InnerFolds
) -> Any:
    """An unfitted estimator with scikit-learn's methods, silent and repeatable.

    Args:
        learner: Which one.
        kind: What it learns; one of the learner's kinds.
        target_transform: What is learned of a number; predictions are transformed back.
        seed: Seed of the rows and columns that boosters draw.
        rows: Rows it will be fitted on.
        inner: Folds of these rows, by which ridge, svr and logistic choose their hyperparameters. A Gaussian process
            chooses its own by the marginal likelihood of all rows.

    Raises:
        ConfigError: The library of a booster is not installed.
    """
    if is_booster(learner):
        booster = make_booster(learner, kind=kind, seed=seed, rows=rows)
        if target_transform == "none":
            return booster
        return TransformedTargetRegressor(booster, transformer=_transformer(target_transform))
    if learner == "logistic":
        search = {"cv": list(inner), "scoring": _log_likelihood, "error_score": "raise"}
        return GridSearchCV(LogisticRegression(max_iter=5000), _LOGISTIC_GRID, **search)
    estimator = {"ridge": Ridge, "svr": SVR, "gp": _gaussian_process}[learner]()
    transformer = make_pipeline(_transformer(target_transform), StandardScaler())
    regressor = TransformedTargetRegressor(estimator, transformer=transformer)
    if learner == "gp":
        return regressor
    grid = {f"regressor__{name}": values for name, values in (_RIDGE_GRID if learner == "ridge" else _SVR_GRID).items()}
    return GridSearchCV(regressor, grid, cv=list(inner), scoring="neg_mean_squared_error", error_score="raise")


def inner_folds(target: np.ndarray, groups: np.ndarray, *, kind: Kind, seed: int) -> InnerFolds:
    """Folds for a search of hyperparameters, at most five, no group split.

    Args:
        target: What is learned (rows,).
        groups: What stays together (rows,); where all rows are one group, every row stays for itself.
        kind: A classification gives every fold its share of both classes.
        seed: Seed of the dealing.

    Raises:
        FoldError: There are too few rows, or classes, to hold some out.
    """
    group = pd.factorize(groups)[0]
    if group.max(initial=0) == 0:
        group = np.arange(len(target))
    count = min(_MOST_INNER_FOLDS, len(np.unique(group)))
    if count < 2:
        raise FoldError(
            f"{len(target)} row(s) are too few to choose hyperparameters by. Use --learner gp, or more rows."
        )
    splitter = StratifiedGroupKFold if kind == "classification" else GroupKFold
    dealt = splitter(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class smaller than the number of folds cannot be in all of them; that is as it should be.
        warnings.filterwarnings("ignore", message="The least populated class")
        folds = list(dealt.split(np.zeros((len(target), 1)), target, group))
    if kind == "classification":
        folds = [(fit, score) for fit, score in folds if len(np.unique(target[fit])) > 1]
        if not folds:
            raise FoldError(
                "One class of the training rows is in a single group: no hyperparameters can be chosen. "
                "Use a booster, or folds that spread both classes."
            )
    return folds


def _gaussian_process() -> GaussianProcessRegressor:
    """One length scale for all columns: with one of its own for each, a few hundred rows would be learned by heart."""
    kernel = ConstantKernel(1.0, (1e-3, 1e3)) * RBF(1.0, (1e-2, 1e3)) + WhiteKernel(0.3, (1e-4, 10.0))
    return GaussianProcessRegressor(kernel)


def _transformer(name: TargetTransform) -> FunctionTransformer:
    """A transform of non-negative targets and its inverse, which takes what is below zero for zero."""
    if name == "sqrt":
        return FunctionTransformer(np.sqrt, _squared, check_inverse=False)
    return FunctionTransformer(np.log1p, _expm1, check_inverse=False) if name == "log1p" else FunctionTransformer()


def _squared(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.square(values.clip(min=0)))


def _expm1(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.expm1(values.clip(min=0)))


def _log_likelihood(classifier: Any, matrix: np.ndarray, target: np.ndarray) -> float:
    """Mean log-likelihood; scikit-learn's own fails on rows of one class."""
    return -float(log_loss(target, classifier.predict_proba(matrix), labels=[0, 1]))
