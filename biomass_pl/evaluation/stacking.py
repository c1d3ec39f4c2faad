"""Learners over given folds: what is fitted sees the training rows of its fold alone. No torch."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning

from biomass_pl.errors import ConfigError, DataError, FoldError
from biomass_pl.evaluation.boosters import gain_shares, predict
from biomass_pl.evaluation.feature_matrix import FeatureTable, as_in_training, check_table, fitted_encoder
from biomass_pl.evaluation.learner_settings import LEARNERS, Kind, Learner, TargetTransform, is_booster
from biomass_pl.evaluation.learners import inner_folds, make_learner
from biomass_pl.terminal import progress

_NEVER_HELD_OUT = -1
_FEWEST_KNOWN = 2
"""Values of a target without which nothing varies that could be learned."""


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Which learner is fitted, and on what part of the rows and embeddings.

    Args:
        learner: What is fitted for every target.
        target_transform: What is learned of targets that are numbers; None takes what suits the learner.
        seeds: Fits per fold and target, with seeds 0, 1, ...; their predictions are averaged. None takes what suits
            the learner.
        pca: Principal components kept of each array of embeddings; None takes what suits the learner, as far as there
            are so many.
        negatives_per_positive: In a classification, negative training rows drawn per positive one, anew for every
            seed; None keeps all rows.
    """

    learner: Learner = "lightgbm"
    target_transform: TargetTransform | None = None
    seeds: int | None = None
    pca: int | None = None
    negatives_per_positive: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("seeds", self.seeds), ("pca", self.pca)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; give 1 or more.")
        if self.negatives_per_positive is not None and not 0 < self.negatives_per_positive < math.inf:
            raise ConfigError(f"negatives_per_positive is {self.negatives_per_positive}; give more than 0.")
        if self.seeds is not None and self.seeds > 1 and not LEARNERS[self.learner].draws:
            raise ConfigError(f"seeds is {self.seeds}, but {self.learner} is the same with every seed. Leave it out.")


@dataclass(frozen=True, kw_only=True)
class StackResult:
    """Predictions of the learners, a column per target.

    Attributes:
        predictions: Out-of-fold probabilities or numbers, float64, shape (rows, targets); NaN for rows that are never
            held out.
        test_predictions: Mean over folds and seeds, shape (test rows, targets); None without test features.
        importance: `feature` and `gain`, its share averaged over folds, seeds and targets; largest first. None where
            the learner does not tell it.
    """

    predictions: np.ndarray
    test_predictions: np.ndarray | None
    importance: pd.DataFrame | None

    def of_rows(self, rows: np.ndarray) -> "StackResult":
        """The result with the predictions of some rows alone.

        Args:
            rows: Whether a row is kept, shape (rows,).
        """
        return replace(self, predictions=self.predictions[rows])


def stack(
    *,
    features: pd.DataFrame,
    embeddings: Sequence[np.ndarray],
    targets: pd.DataFrame,
    folds: np.ndarray,
    kind: Kind,
    config: StackConfig,
    groups: np.ndarray | None = None,
    test_features: pd.DataFrame | None = None,
    test_embeddings: Sequence[np.ndarray] = (),
) -> StackResult:
    """Predicts every row by learners fitted on the other folds, for each target on its own.

    Shows the folds as progress on a terminal.
    Rows of the tables belong together by position. The same arguments give the same result.
    Where out-of-fold scores of other models are features, those of the training rows come from models that knew the
    held-out ones: the usual price of stacking on the same folds, small as long as a score says little of the others.

    Args:
        features: Columns of numbers (NaN where missing); any other column holds categories. No column is needed
            where there are embeddings.
        embeddings: None, one or several arrays of shape (rows, width), NaN where missing (but not for `pca`).
        targets: A column per target, 0 and 1 in a classification; numbers may be NaN where unknown, and each target is
            learned from the rows of which it is known.
        folds: Fold in which each row is held out, whole numbers, shape (rows,); rows of -1 are always learned from.
        kind: Whether the targets are two classes or numbers.
        config: Settings of the learner.
        groups: What stays together where hyperparameters are chosen, shape (rows,); None takes the folds.
        test_features: Rows without targets; the same columns in any order.
        test_embeddings: Their embeddings, where `embeddings` are given.

    Raises:
        DataError: A table does not fit the others, or holds a value that cannot be used.
        FoldError: There is a single fold, or the training rows of a fold are of one class or teach nothing of a target.
        ConfigError: A setting does not fit the embeddings or the kind of targets, or the library is missing.
    """
    table, test = FeatureTable(features=features, embeddings=embeddings), None
    check_table(table, pca=config.pca, of="training")
    if test_features is not None:
        test = as_in_training(FeatureTable(features=test_features, embeddings=test_embeddings), table)
        check_table(test, pca=config.pca, of="test")
    _check_config(config, kind)
    target_transform = _target_transform(config, kind)
    _check_targets(targets, folds, kind, target_transform, rows=len(features))
    fit = _Fit(
        learner=config.learner,
        kind=kind,
        target_transform=target_transform,
        seeds=config.seeds or LEARNERS[config.learner].seeds,
        pca=_components(config, folds, embeddings),
        negatives_per_positive=config.negatives_per_positive,
    )

    truth = targets.to_numpy(dtype=np.float64)
    frame, test_frames = table.to_frame(), [] if test is None else [test.to_frame()]
    predictions, test_predictions, shares = np.full(truth.shape, np.nan), [], []
    held_out_folds = [fold for fold in np.unique(folds) if fold != _NEVER_HELD_OUT]
    with progress(f"Fitting {LEARNERS[config.learner].name}", len(held_out_folds)) as advance:
        for fold in held_out_folds:
            held_out = folds == fold
            training = frame[~held_out]
            encoder = fitted_encoder(
                training, embeddings=table.embedding_names, pca=fit.pca, scaled=not is_booster(config.learner)
            )
            others = [encoder.transform(other) for other in (frame[held_out], *test_frames)]
            together = (folds if groups is None else groups)[~held_out]
            fitted = _fit_fold(encoder.transform(training), truth[~held_out], together, others, fit)
            predictions[held_out] = fitted.predictions[0]
            test_predictions += fitted.predictions[1:]
            shares.append(fitted.shares)
            advance()
    return StackResult(
        predictions=predictions,
        test_predictions=None if test is None else np.mean(test_predictions, axis=0),
        importance=_importance(encoder.get_feature_names_out(), shares) if is_booster(config.learner) else None,
    )


def _importance(features: np.ndarray, shares: list[np.ndarray]) -> pd.DataFrame:
    importance = pd.DataFrame({"feature": features, "gain": np.mean(shares, axis=0)})
    return importance.sort_values("gain", ascending=False, kind="stable", ignore_index=True)


def draw_rows(target: np.ndarray, negatives_per_positive: float | None, *, seed: int) -> np.ndarray:
    """Positions of the rows to fit on, ascending: all positives, and a draw of the negatives.

    Args:
        target: 0 and 1, shape (rows,); any numbers where all rows are kept.
        negatives_per_positive: Negatives drawn per positive, rounded to one or more in all, as far as there are any.
            None keeps all rows.
        seed: Seed of the draw.
    """
    if negatives_per_positive is None:
        return np.arange(len(target))
    positives, negatives = np.flatnonzero(target == 1), np.flatnonzero(target == 0)
    wanted = max(1, round(negatives_per_positive * len(positives)))
    drawn = np.random.default_rng(seed).choice(negatives, min(wanted, len(negatives)), replace=False)
    return np.sort(np.concatenate([positives, drawn]))


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """What is fitted: a `StackConfig` in which nothing is left open."""

    learner: Learner
    kind: Kind
    target_transform: TargetTransform
    seeds: int
    pca: int | None
    negatives_per_positive: float | None


@dataclass(frozen=True, kw_only=True)
class _FittedFold:
    """What the learners of one fold give: averages over the seeds, shares also over the targets."""

    predictions: list[np.ndarray]
    shares: np.ndarray


def _fit_fold(
    matrix: np.ndarray, targets: np.ndarray, groups: np.ndarray, others: list[np.ndarray], fit: _Fit
) -> _FittedFold:
    """Fits on `matrix` and `targets` (rows, targets), and predicts every matrix of `others`, (its rows, targets)."""
    predictions = [np.zeros((len(other), targets.shape[1])) for other in others]
    shares = np.zeros(matrix.shape[1])
    searches = not is_booster(fit.learner) and fit.learner != "gp"
    for seed in range(fit.seeds):
        for column, target in enumerate(targets.T):
            known = np.flatnonzero(~np.isnan(target))
            rows = known[draw_rows(target[known], fit.negatives_per_positive, seed=seed)]
            inner = inner_folds(target[rows], groups[rows], kind=fit.kind, seed=seed) if searches else []
            learner = make_learner(
                fit.learner,
                kind=fit.kind,
                target_transform=fit.target_transform,
                seed=seed,
                rows=len(rows),
                inner=inner,
            )
            with warnings.catch_warnings():
                # A Gaussian process whose kernel ends at a bound: where a target is all noise, it must.
                warnings.simplefilter("ignore", ConvergenceWarning)
                learner.fit(matrix[rows], target[rows])
            for prediction, other in zip(predictions, others, strict=True):
                prediction[:, column] += predict(learner, other) / fit.seeds
            if is_booster(fit.learner):
                booster = learner if fit.target_transform == "none" else learner.regressor_
                shares += gain_shares(booster) / (fit.seeds * targets.shape[1])
    return _FittedFold(predictions=predictions, shares=shares)


def _target_transform(config: StackConfig, kind: Kind) -> TargetTransform:
    if kind == "classification":
        return "none"
    return config.target_transform or LEARNERS[config.learner].target_transform


def _check_targets(
    targets: pd.DataFrame, folds: np.ndarray, kind: Kind, target_transform: TargetTransform, *, rows: int
) -> None:
    if not rows == len(targets) == len(folds):
        raise DataError(
            f"{rows} rows of features, {len(targets)} of targets and {len(folds)} folds: "
            "they belong together by position."
        )
    if folds.dtype.kind not in "iu":
        raise FoldError(f"Folds are {folds.dtype}; every row needs the whole number of its fold.")
    if len(np.unique(folds)) < 2:
        raise FoldError("All rows are in one fold; a stack needs two or more.")
    for name in targets:
        values = targets[name].to_numpy(dtype=np.float64, na_value=np.nan)
        usable, wanted = ~np.isinf(values), "a finite number"
        if kind == "classification":
            usable, wanted = np.isin(values, (0, 1)), "0 or 1"
        elif target_transform != "none":
            usable, wanted = usable & ~(values < 0), f"0 or more for target_transform {target_transform}"
        if not usable.all():
            row = np.flatnonzero(~usable)[0]
            raise DataError(f"{name} is {values[row]} in row {targets.index[row]}; it must be {wanted}.")
        _require_learnable(str(name), values, folds, kind)


def _require_learnable(name: str, values: np.ndarray, folds: np.ndarray, kind: Kind) -> None:
    """Refuses folds outside of which a target cannot be learned."""
    for fold in np.unique(folds):
        others = values[folds != fold]
        if (~np.isnan(others)).sum() < _FEWEST_KNOWN:
            raise FoldError(
                f"{name} is known of fewer than {_FEWEST_KNOWN} rows outside fold {fold}: nothing teaches it. "
                "Use fewer folds, or measure it on more."
            )
        if kind == "classification" and len(np.unique(others)) < 2:
            raise FoldError(
                f"The rows outside fold {fold} hold one class of {name} only: nothing can be learned from them. "
                "Use folds that spread both classes."
            )


def _check_config(config: StackConfig, kind: Kind) -> None:
    kinds = LEARNERS[config.learner].kinds
    if kind not in kinds:
        fitting = [name for name, learner in LEARNERS.items() if kind in learner.kinds]
        raise ConfigError(
            f"learner {config.learner} is for a {kinds[0]}, and this is a {kind}. Choose {', '.join(fitting)}."
        )
    if kind == "regression" and config.negatives_per_positive is not None:
        raise ConfigError("negatives_per_positive is for classification; leave it out in a regression.")
    if kind == "classification" and config.target_transform not in (None, "none"):
        raise ConfigError(
            f"target_transform {config.target_transform} is for numbers; leave it out in a classification."
        )


def _components(config: StackConfig, folds: np.ndarray, embeddings: Sequence[np.ndarray]) -> int | None:
    """Principal components to keep: those asked for, or as many of the learner's own number as there are."""
    wanted = config.pca or LEARNERS[config.learner].pca
    if wanted is None or not embeddings:
        return None
    fewest = len(folds) - int(np.unique(folds[folds != _NEVER_HELD_OUT], return_counts=True)[1].max())
    narrowest = min(array.shape[1] for array in embeddings)
    most = min(fewest, narrowest)
    if config.pca is not None and config.pca > most:
        raise ConfigError(
            f"pca is {config.pca}; the fewest training rows of a fold are {fewest} and embeddings have "
            f"{narrowest} columns, so give {most} or less."
        )
    return int(min(wanted, most))
