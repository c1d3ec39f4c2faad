"""Gradient boosting from three libraries behind one constructor. No torch."""

from typing import Any

import numpy as np

from biomass_pl.evaluation.learner_settings import Kind, Library
from biomass_pl.extras import imported

# The rounds are fixed: with few positives a handful of them would decide when to stop early.
# Classification: settings of the third place of ISIC 2024 (kyohei-123/kaggle-isic-2024-3rd-place-solution), tuned on
# about 100,000 rows with one positive in a hundred. Regression: a few hundred rows carry few degrees of freedom,
# so shallow trees on random parts of rows and columns, a low rate, and leaves of ten rows or more.

_LIGHTGBM: dict[Kind, dict[str, Any]] = {
    "classification": {
        "n_estimators": 200,
        "learning_rate": 0.0323,
        "max_depth": 4,
        "num_leaves": 103,  # as published; a tree of depth 4 has 16 at most
        "colsample_bytree": 0.833,
        "feature_fraction_bynode": 0.403,
        "subsample": 0.774,
        "subsample_freq": 4,
        "reg_alpha": 0.0876,
        "reg_lambda": 0.00397,
        "scale_pos_weight": 2.80,
    },
    "regression": {
        "n_estimators": 200,
        "learning_rate": 0.05,
        "max_depth": 3,
        "min_child_samples": 10,
        "colsample_bytree": 0.8,
        "subsample": 0.8,
        "subsample_freq": 1,
        "reg_lambda": 1.0,
    },
}

_XGBOOST: dict[Kind, dict[str, Any]] = {
    "classification": {
        "n_estimators": 100,
        "learning_rate": 0.085,
        "max_depth": 6,
        "reg_lambda": 8.88,
        "reg_alpha": 0.678,
        "subsample": 0.60,
        "colsample_bytree": 0.844,
        "colsample_bylevel": 0.548,
        "colsample_bynode": 0.993,
        "scale_pos_weight": 3.29,
    },
    "regression": {
        "n_estimators": 200,
        "learning_rate": 0.05,
        "max_depth": 3,
        "min_child_weight": 10,  # rows, with a squared error
        "colsample_bytree": 0.8,
        "subsample": 0.8,
        "reg_lambda": 1.0,
    },
}

_CATBOOST: dict[Kind, dict[str, Any]] = {
    "classification": {
        "iterations": 200,
        "learning_rate": 0.0694,
        "depth": 7,
        "reg_lambda": 6.22,
        "subsample": 0.625,
        "scale_pos_weight": 2.61,
    },
    "regression": {
        "iterations": 200,
        "learning_rate": 0.05,
        "depth": 3,
        "reg_lambda": 3.0,
        "rsm": 0.8,
        "subsample": 0.8,
        # Like the other libraries, for a target that is the same everywhere; the default sampling fails on it.
        "allow_const_label": True,
        "bootstrap_type": "Bernoulli",
    },
}

_INSTALL: dict[Library, tuple[str, str]] = {
    "lightgbm": ("LightGBM", "'biomass-pl[gbdt]'"),
    "xgboost": ("XGBoost", "xgboost"),
    "catboost": ("CatBoost", "catboost"),
}


def make_booster(library: Library, *, kind: Kind, seed: int, rows: int) -> Any:
    """An unfitted estimator with scikit-learn's methods: a fixed number of rounds, silent, repeatable.

    Args:
        library: Where the estimator comes from.
        kind: Two classes, or a number (squared error).
        seed: Seed of the drawn rows and columns.
        rows: Rows it will be fitted on.

    Raises:
        ConfigError: The library is not installed.
    """
    name, package = _INSTALL[library]
    module = imported(library, title=name, package=package)
    suffix = "Classifier" if kind == "classification" else "Regressor"
    if library == "lightgbm":
        settings = dict(_LIGHTGBM[kind])
        if kind == "classification":
            # The published 85 rows are a tenth of a percent of that table. In one with a hundred positives such
            # leaves would blend all of them: a percent of the rows instead.
            settings["min_child_samples"] = max(5, min(85, rows // 100))
        # Sums column by column, so that the number of threads, which OpenMP decides, changes no digit.
        repeatable = {"deterministic": True, "force_col_wise": True, "n_jobs": 0, "importance_type": "gain"}
        return getattr(module, f"LGBM{suffix}")(random_state=seed, verbosity=-1, **repeatable, **settings)
    if library == "xgboost":
        settings = {"tree_method": "hist", "importance_type": "total_gain", **_XGBOOST[kind]}
        return getattr(module, f"XGB{suffix}")(random_state=seed, verbosity=0, **settings)
    settings = {"verbose": False, "allow_writing_files": False, **_CATBOOST[kind]}
    return getattr(module, f"CatBoost{suffix}")(random_seed=seed, **settings)


def predict(booster: Any, matrix: np.ndarray) -> np.ndarray:
    """Probability of the positive class, or the predicted number, float64, shape (rows,).

    Args:
        booster: A fitted estimator of `make_booster`.
        matrix: Features, shape (rows, columns).
    """
    is_classifier = hasattr(booster, "predict_proba")
    values = booster.predict_proba(matrix)[:, 1] if is_classifier else booster.predict(matrix)
    return np.asarray(values, dtype=np.float64)


def gain_shares(booster: Any) -> np.ndarray:
    """Share of each column in the gain of all splits, shape (columns,); zeros for trees without a split.

    CatBoost has no gains: there it is the mean change of the prediction along a column, its own measure.
    """
    gains = np.asarray(booster.feature_importances_, dtype=np.float64)
    total = gains.sum()
    return gains / total if total > 0 else np.zeros_like(gains)
