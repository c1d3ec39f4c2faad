"""Blends of several models' out-of-fold predictions; a row's weights come from the other folds. No torch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from biomass_pl.evaluation.bootstrap import Bootstrap, scores_with_intervals

DrawnScore = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A score of predictions (rows, targets) when each row counts as often as `counts` (draws, rows) says: (draws,)."""


@dataclass(frozen=True, kw_only=True)
class Blend:
    """Blended predictions and the weights of the models; those of one blend sum to 1.

    Attributes:
        predictions: Blended out of fold, shape (rows, targets).
        fold_weights: Weights (models,) by which the rows of a fold were blended, estimated on all other folds.
        weights: Those of all rows (models,), for items that are in no fold.
    """

    predictions: np.ndarray
    fold_weights: dict[int, np.ndarray]
    weights: np.ndarray


def blend(predictions: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> Blend:
    """Blends the predictions of several models of the same rows and folds.

    Args:
        predictions: Out-of-fold predictions of each model, shape (models, rows, targets).
        targets: True values, NaN where unknown, shape (rows, targets).
        folds: Fold in which each row is held out, two or more of them, shape (rows,).
    """
    blended, fold_weights = np.empty_like(targets), {}
    for fold in np.unique(folds):
        others, own = folds != fold, folds == fold
        weights = blend_weights(predictions[:, others], targets[others])
        blended[own] = np.tensordot(weights, predictions[:, own], axes=1)
        fold_weights[int(fold)] = weights
    return Blend(predictions=blended, fold_weights=fold_weights, weights=blend_weights(predictions, targets))


def blend_weights(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Non-negative weights of sum 1 with the least squared error of the blend.

    One weight per model for all targets, so that sums among predictions stay sums. Every target counts alike, whatever
    its unit: errors are divided by its standard deviation.

    Args:
        predictions: Shape (models, rows, targets).
        targets: True values, NaN where unknown, shape (rows, targets).

    Returns:
        Shape (models,).
    """
    spread = np.nanstd(targets, axis=0)
    errors = (predictions - targets) / np.where(spread > 0, spread, 1)
    columns = np.nan_to_num(errors, nan=0.0).reshape(len(predictions), -1).T
    # With weights of sum 1 the blend's error is the same sum of the models' errors. A row of ones, wanted to give one,
    # keeps the sum from 0; how heavy it is changes the scale of the solution alone, which is then divided away.
    heavy = float(np.sqrt(np.square(columns).sum(axis=0).mean())) or 1.0
    system = np.vstack([columns, np.full((1, len(predictions)), heavy)])
    weights, _ = nnls(system, np.append(np.zeros(len(columns)), heavy))
    return np.asarray(weights / weights.sum())


def gain_over(
    single: np.ndarray, blended: np.ndarray, score: DrawnScore, groups: np.ndarray, *, draws: int
) -> dict[str, float]:
    """How much better a blend scores than a single model, whole groups drawn again and again.

    Args:
        single: Predictions of the single model, shape (rows, targets).
        blended: Those of the blend.
        score: The score; larger is better.
        groups: What is drawn together (rows,).
        draws: How often.

    Returns:
        `gain`, and what `scores_with_intervals` adds to it: `gain_mean`, `gain_ci_lower`, `gain_ci_upper`.
    """
    return scores_with_intervals(
        lambda counts: {"gain": score(blended, counts) - score(single, counts)}, groups, Bootstrap(draws=draws)
    )


def best_of(predictions: np.ndarray, score: DrawnScore) -> int:
    """Which of several predictions of the same rows scores best; the first of equals.

    Args:
        predictions: Shape (models, rows, targets).
        score: The score; larger is better.
    """
    once = np.ones((1, predictions.shape[1]), dtype=np.int64)
    return int(np.nanargmax([score(prediction, once)[0] for prediction in predictions]))
