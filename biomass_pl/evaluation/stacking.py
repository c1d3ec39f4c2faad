"""Gradient boosting over given folds: what is fitted sees the training rows of its fold alone. No torch."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from biomass_pl.errors import ConfigError, DataError, FoldError
from biomass_pl.evaluation.boosters import Kind, Library, gain_shares, make_booster, predict
from biomass_pl.evaluation.feature_matrix import FeatureTable, as_in_training, check_table, fitted_encoder
from biomass_pl.terminal import progress


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Which boosters are fitted, and on what part of the rows and embeddings.

    Args:
        library: Library of the boosters.
        seeds: Boosters per fold and target, with seeds 0, 1, ...; their predictions are averaged.
        pca: Principal components kept of the embeddings; None keeps the embeddings as they are.
        negatives_per_positive: In a classification, negative training rows drawn per positive one, anew for every
            seed; None keeps all rows.
    """

    library: Library = "lightgbm"
    seeds: int = 3
    pca: int | None = None
    negatives_per_positive: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("seeds", self.seeds), ("pca", self.pca)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; give 1 or more.")
        if self.negatives_per_positive is not None and not 0 < self.negatives_per_positive < math.inf:
            raise ConfigError(f"negatives_per_positive is {self.negatives_per_positive}; give more than 0.")


@dataclass(frozen=True, kw_only=True)
class StackResult:
    """Predictions of the boosters, a column per target.

    Attributes:
        predictions: Out-of-fold probabilities or numbers, float64, shape (rows, targets).
        test_predictions: Mean over folds and seeds, shape (test rows, targets); None without test features.
        importance: `feature` and `gain`, its share averaged over folds, seeds and targets; largest first.
    """

    predictions: np.ndarray
    test_predictions: np.ndarray | None
    importance: pd.DataFrame


def stack(
    *,
    features: pd.DataFrame,
    embeddings: np.ndarray | None,
    targets: pd.DataFrame,
    folds: np.ndarray,
    kind: Kind,
    config: StackConfig,
    test_features: pd.DataFrame | None = None,
    test_embeddings: np.ndarray | None = None,
) -> StackResult:
    """Predicts every row by boosters fitted on the other folds, for each target on its own.

    Shows the folds as progress on a terminal.
    Rows of the tables belong together by position. The same arguments give the same result.
    Where out-of-fold scores of other models are features, those of the training rows come from models that knew the
    held-out ones: the usual price of stacking on the same folds, small as long as a score says little of the others.

    Args:
        features: Columns of numbers (NaN where missing); any other column holds categories. No column is needed
            where there are embeddings.
        embeddings: Shape (rows, width), NaN where missing (but not for `pca`), or None.
        targets: A column per target, 0 and 1 in a classification.
        folds: Fold in which each row is held out, whole numbers, shape (rows,).
        kind: Whether the targets are two classes or numbers.
        config: Settings of the boosters.
        test_features: Rows without targets; the same columns in any order.
        test_embeddings: Their embeddings, where `embeddings` are given.

    Raises:
        DataError: A table does not fit the others, or holds a value that cannot be used.
        FoldError: There is a single fold, or the training rows of a fold are of one class.
        ConfigError: `pca` does not fit the embeddings, a regression is to be resampled, or the library is missing.
    """
    table, test = FeatureTable(features=features, embeddings=embeddings), None
    check_table(table, pca=config.pca, of="training")
    if test_features is not None:
        test = as_in_training(FeatureTable(features=test_features, embeddings=test_embeddings), table)
        check_table(test, pca=config.pca, of="test")
    _check_targets(targets, folds, kind, rows=len(features))
    _check_config(config, folds, kind, embeddings)

    truth = targets.to_numpy(dtype=np.float64)
    frame, test_frames = table.to_frame(), [] if test is None else [test.to_frame()]
    predictions, test_predictions, shares = np.empty(truth.shape), [], []
    with progress("Fitting boosters", len(np.unique(folds))) as advance:
        for fold in np.unique(folds):
            held_out = folds == fold
            training = frame[~held_out]
            encoder = fitted_encoder(training, embeddings=table.embedding_names, pca=config.pca)
            others = [encoder.transform(other) for other in (frame[held_out], *test_frames)]
            fitted = _fit_fold(encoder.transform(training), truth[~held_out], others, kind, config)
            predictions[held_out] = fitted.predictions[0]
            test_predictions += fitted.predictions[1:]
            shares.append(fitted.shares)
            advance()
    importance = pd.DataFrame({"feature": encoder.get_feature_names_out(), "gain": np.mean(shares, axis=0)})
    return StackResult(
        predictions=predictions,
        test_predictions=None if test is None else np.mean(test_predictions, axis=0),
        importance=importance.sort_values("gain", ascending=False, kind="stable", ignore_index=True),
    )


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


def image_score_features(scores: pd.DataFrame, groups: pd.Series | None, *, kind: Kind) -> pd.DataFrame:
    """Features of the scores of other models: each score, and how it stands out in its group.

    Args:
        scores: A column per score: probabilities in a classification, else numbers.
        groups: Whom or what each row belongs to, by position, or None. A row without a group has no z.
        kind: A classification gives logits, which spread what is crowded at 0 and 1.

    Returns:
        `<score>` (`<score>_logit` in a classification), and with groups also `..._z`: the distance from the mean of
        the group over its sample standard deviation; 0 alone in a group.

    Raises:
        DataError: A probability outside 0 to 1.
    """
    values = scores.astype(np.float64)
    if kind == "classification":
        values = _logits(values)
    if groups is None:
        return values
    grouped = values.groupby(groups.to_numpy())
    # The small number keeps equal scores at 0 instead of blowing up their rounding.
    z = (values - grouped.transform("mean")) / (grouped.transform("std").fillna(0.0) + 1e-5)
    return pd.concat([values, z.add_suffix("_z")], axis=1)


def _logits(probabilities: pd.DataFrame) -> pd.DataFrame:
    values = probabilities.to_numpy()
    wrong = np.argwhere((values < 0) | (values > 1))
    if len(wrong):
        row, column = wrong[0]
        raise DataError(
            f"{probabilities.columns[column]!s} is {values[row, column]} in row {probabilities.index[row]}; "
            "a probability is from 0 to 1. Give probabilities, not logits."
        )
    clipped = values.clip(1e-15, 1 - 1e-15)  # certainty becomes a logit of 35
    columns = [f"{name}_logit" for name in probabilities]
    return pd.DataFrame(np.log(clipped) - np.log1p(-clipped), index=probabilities.index, columns=columns)


@dataclass(frozen=True, kw_only=True)
class _FittedFold:
    """What the boosters of one fold give: averages over the seeds, shares also over the targets."""

    predictions: list[np.ndarray]
    shares: np.ndarray


def _fit_fold(
    matrix: np.ndarray, targets: np.ndarray, others: list[np.ndarray], kind: Kind, config: StackConfig
) -> _FittedFold:
    """Fits on `matrix` and `targets` (rows, targets), and predicts every matrix of `others`, (its rows, targets)."""
    predictions = [np.zeros((len(other), targets.shape[1])) for other in others]
    shares = np.zeros(matrix.shape[1])
    for seed in range(config.seeds):
        for column, target in enumerate(targets.T):
            rows = draw_rows(target, config.negatives_per_positive, seed=seed)
            booster = make_booster(config.library, kind=kind, seed=seed, rows=len(rows))
            booster.fit(matrix[rows], target[rows])
            for prediction, other in zip(predictions, others, strict=True):
                prediction[:, column] += predict(booster, other) / config.seeds
            shares += gain_shares(booster) / (config.seeds * targets.shape[1])
    return _FittedFold(predictions=predictions, shares=shares)


def _check_targets(targets: pd.DataFrame, folds: np.ndarray, kind: Kind, *, rows: int) -> None:
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
        usable = np.isin(values, (0, 1)) if kind == "classification" else np.isfinite(values)
        if not usable.all():
            wanted = "0 or 1" if kind == "classification" else "a finite number"
            row = np.flatnonzero(~usable)[0]
            raise DataError(f"{name} is {values[row]} in row {targets.index[row]}; it must be {wanted}.")
        for fold in np.unique(folds) if kind == "classification" else ():
            if len(np.unique(values[folds != fold])) < 2:
                raise FoldError(
                    f"The rows outside fold {fold} hold one class of {name} only: nothing can be learned from them. "
                    "Use folds that spread both classes."
                )


def _check_config(config: StackConfig, folds: np.ndarray, kind: Kind, embeddings: np.ndarray | None) -> None:
    if kind == "regression" and config.negatives_per_positive is not None:
        raise ConfigError("negatives_per_positive is for classification; leave it out in a regression.")
    if config.pca is None or embeddings is None:
        return
    fewest = len(folds) - int(np.unique(folds, return_counts=True)[1].max())
    most = min(fewest, embeddings.shape[1])
    if config.pca > most:
        raise ConfigError(
            f"pca is {config.pca}; the fewest training rows of a fold are {fewest} and embeddings have "
            f"{embeddings.shape[1]} columns, so give {most} or less."
        )
