"""Linear probes: how much of the truth a linear model reads off features that are not changed for it. No torch."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_PENALTIES = np.logspace(-3, 5, 17)
"""Among which the ridge regression chooses for each column, by leaving out one photo at a time."""

_STRENGTHS = np.logspace(-4, 0, 5)
"""Inverse penalties among which the logistic regression chooses."""

_PARTS = 4
"""Of the cross-validation that chooses."""

_PLENTY = 5000
"""Photos that need no choice: so many hold a linear model in check whatever the penalty."""

_MOST_ITERATIONS = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearProbe:
    """What a linear model adds up.

    Args:
        weight: Coefficients (outputs, D).
        bias: Constants (outputs,); minus infinity for a class that the probe does not know.
    """

    weight: np.ndarray
    bias: np.ndarray

    def outputs(self, features: np.ndarray) -> np.ndarray:
        """Logits of the classes, or values, of features (photos, D): (photos, outputs)."""
        return np.asarray(features @ self.weight.T + self.bias)


def fit_class_probe(features: np.ndarray, truth: np.ndarray, classes: int) -> LinearProbe:
    """Logistic regression on standardised features; its penalty is chosen by cross-validation on these photos.

    Args:
        features: Features (photos, D).
        truth: Class numbers (photos,), of at least two classes.
        classes: How many classes there are, among them those that no photo here is of.

    Returns:
        The probe; all NaN where a feature is not finite.
    """
    if not np.isfinite(features).all():
        return _undefined(classes, features.shape[1])
    scaler = StandardScaler().fit(features)
    with warnings.catch_warnings():
        # So near to the optimum, more iterations would not change a score.
        warnings.simplefilter("ignore", ConvergenceWarning)
        strength = _chosen_strength(features, truth)
        model = LogisticRegression(C=strength, max_iter=_MOST_ITERATIONS).fit(scaler.transform(features), truth)
    known = model.classes_.astype(int)
    # Of two classes there is one row, the logit of the second against the first.
    coefficients = model.coef_ if len(known) > 2 else np.vstack([np.zeros_like(model.coef_), model.coef_])
    constants = model.intercept_ if len(known) > 2 else np.append(0.0, model.intercept_)
    weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, -np.inf)
    weight[known], bias[known] = _on_unscaled(scaler, coefficients, constants)
    return LinearProbe(weight=weight, bias=bias)


def fit_value_probe(features: np.ndarray, truth: np.ndarray) -> LinearProbe:
    """Ridge regression on standardised features.

    Args:
        features: Features (photos, D).
        truth: Values (photos, columns).

    Returns:
        The probe; all NaN where a feature is not finite.
    """
    if not np.isfinite(features).all():
        return _undefined(truth.shape[1], features.shape[1])
    scaler = StandardScaler().fit(features)
    model = RidgeCV(alphas=_PENALTIES, alpha_per_target=True).fit(scaler.transform(features), truth)
    coefficients = np.reshape(model.coef_, (truth.shape[1], -1))
    weight, bias = _on_unscaled(scaler, coefficients, np.reshape(model.intercept_, -1))
    return LinearProbe(weight=weight, bias=bias)


def column_r2(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """R2 of each column (columns,).

    Args:
        truth: Values (photos, columns).
        prediction: Values (photos, columns).

    Returns:
        At most 1; NaN where all true values are equal, or a prediction is not finite.
    """
    error = ((truth - prediction) ** 2).sum(axis=0)
    spread = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    score = 1 - np.divide(error, spread, out=np.full(len(spread), np.nan), where=spread > 0)
    return np.where(np.isfinite(score), score, np.nan)


def mean_r2(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Mean R2 of the columns whose true values are not all equal.

    Args:
        truth: Values (photos, columns).
        prediction: Values (photos, columns).

    Returns:
        At most 1; NaN where there is no such column, or a prediction is not finite.
    """
    if not np.isfinite(prediction).all():
        return float("nan")
    scores = column_r2(truth, prediction)
    defined = scores[~np.isnan(scores)]
    return float(defined.mean()) if len(defined) else float("nan")


def _chosen_strength(features: np.ndarray, truth: np.ndarray) -> float:
    """The inverse penalty with the lowest log-loss on parts that were not fitted."""
    parts = min(_PARTS, np.unique(truth, return_counts=True)[1].min())
    if parts < 2 or len(truth) > _PLENTY:
        return float(_STRENGTHS[-1])
    folds = StratifiedKFold(parts, shuffle=True, random_state=0)
    losses = [
        -cross_val_score(
            make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=_MOST_ITERATIONS)),
            features,
            truth,
            cv=folds,
            scoring="neg_log_loss",
        ).mean()
        for strength in _STRENGTHS
    ]
    return float(_STRENGTHS[int(np.argmin(losses))])


def _on_unscaled(
    scaler: StandardScaler, coefficients: np.ndarray, constants: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same linear model for features that are not standardised."""
    weight = coefficients / scaler.scale_
    return weight, constants - weight @ scaler.mean_


def _undefined(outputs: int, width: int) -> LinearProbe:
    return LinearProbe(weight=np.full((outputs, width), np.nan), bias=np.full(outputs, np.nan))
