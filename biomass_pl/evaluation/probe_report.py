"""The reports on linear probes: out-of-fold predictions of classes or of values from features as they are. No torch."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from biomass_pl.evaluation.class_pictures import draw_confusion, matrix_size
from biomass_pl.evaluation.class_scores import bootstrap_class_scores, confusion, per_class_scores
from biomass_pl.evaluation.pictures import save_figure
from biomass_pl.evaluation.probe import column_r2, mean_r2
from biomass_pl.evaluation.report import (
    BOOTSTRAP_DRAWS,
    CONSTANT_ROW,
    Report,
    defined,
    formatted,
    pooled_caption,
    score_grid,
)

_NO_CLASS = ""
"""Name of what is predicted where a probability is not finite; a table reads back nothing as this."""

_UNKNOWN = -1
"""Its number."""

_PANEL_INCHES = 4.4


def probe_column(column: str) -> str:
    """Name of what a probe predicts of a column."""
    return f"probe_{column}"


def probability_column(name: str) -> str:
    """Name of the probability of a class."""
    return f"prob_{name}"


class ProbeReport(Report):
    """Tables with `fold`, and the truth and `probe_<column>` of each column that the probe predicts."""

    main: ClassVar[str]
    """The score that has an interval and is compared with a constant prediction."""

    def score(self, table: pd.DataFrame, arrays: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """Scores a table of predictions.

        Returns:
            `pooled` and `folds` (by number as text): `photos` and the scores, None where one is not defined or a
            prediction is missing. `pooled` also has the main score's 95 % interval, by a bootstrap over photos.
            `constant`: the same of a prediction that knows the truth of the other folds alone.
        """
        folds = {str(fold): rows for fold, rows in table.groupby("fold")}
        constant = self._constant(table)
        draws = self._draws(table)
        interval = [float(bound) for bound in np.quantile(draws, [0.025, 0.975])] if len(draws) else None
        return {
            "pooled": {**self._scores(table), f"{self.main}_interval": interval, "interval_over": "photos"},
            "folds": {fold: self._scores(rows) for fold, rows in folds.items()},
            "constant": {
                "pooled": self._scores(constant),
                "folds": {fold: self._scores(constant.loc[rows.index]) for fold, rows in folds.items()},
            },
        }

    def render(self, scores: dict[str, Any], *, title: str) -> Table:
        """A column for all folds pooled and one per fold."""
        columns = [scores["pooled"], *scores["folds"].values()]
        constants = [scores["constant"]["pooled"], *scores["constant"]["folds"].values()]
        grid = score_grid(
            title=title,
            caption=f"Linear probe on the features. {pooled_caption(scores, self.main)}\n"
            "constant: what is most common, or the mean, in the other folds",
            headings=["pooled", *(f"fold {fold}" for fold in scores["folds"])],
        )
        for name in scores["constant"]["pooled"]:
            if name == "photos":
                continue
            grid.add_row(name, *(formatted(column[name]) for column in columns))
            if name == self.main:
                grid.add_row(CONSTANT_ROW, *(formatted(constant[name]) for constant in constants))
        grid.add_section()
        grid.add_row("photos", *(str(column["photos"]) for column in columns))
        return grid

    @abc.abstractmethod
    def _scores(self, table: pd.DataFrame) -> dict[str, Any]:
        """`photos` and the scores, the main one first."""

    @abc.abstractmethod
    def _draws(self, table: pd.DataFrame) -> np.ndarray:
        """The main score of photos drawn with replacement, again and again; none where it is not defined."""

    @abc.abstractmethod
    def _constant(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with what the other folds tell as its prediction."""


class ClassProbeReport(ProbeReport):
    """Of a column of classes: `prob_<class>` of each of them, and `probe_<column>`, the most probable one.

    Args:
        column: Column of the true classes.
    """

    main = "accuracy"

    def __init__(self, *, column: str) -> None:
        self.column = column
        self.text_columns = (column, probe_column(column))

    def finished(self, table: pd.DataFrame) -> pd.DataFrame:
        """Adds the most probable class, of equals the first; none where a probability is not finite."""
        classes = _classes(table)
        probabilities = table[[probability_column(name) for name in classes]].to_numpy(dtype=float)
        names = np.array(classes, dtype=object)[probabilities.argmax(axis=1)]
        names[~np.isfinite(probabilities).all(axis=1)] = _NO_CLASS
        return table.assign(**{probe_column(self.column): names})

    def draw(self, table: pd.DataFrame, path: Path) -> None:
        """Draws the confusion matrix of what is predicted."""
        classes = _classes(table)
        truth, predicted = self._codes(table)
        known = predicted != _UNKNOWN
        side = matrix_size(len(classes)) + 2
        figure = Figure(figsize=(side, side), layout="constrained")
        draw_confusion(figure.subplots(), confusion(truth[known], predicted[known], len(classes)), classes)
        save_figure(figure, path)

    def _scores(self, table: pd.DataFrame) -> dict[str, Any]:
        truth, predicted = self._codes(table)
        if (predicted == _UNKNOWN).any():
            return {"photos": len(table), "accuracy": None, "f1_macro": None}
        f1 = per_class_scores(truth, predicted, len(_classes(table))).f1
        return {"photos": len(table), "accuracy": float(np.mean(truth == predicted)), "f1_macro": float(f1.mean())}

    def _draws(self, table: pd.DataFrame) -> np.ndarray:
        truth, predicted = self._codes(table)
        if (predicted == _UNKNOWN).any():
            return np.array([])
        photos, classes = np.arange(len(table)), len(_classes(table))
        return bootstrap_class_scores(truth, predicted, photos, classes=classes, draws=BOOTSTRAP_DRAWS)["accuracy"]

    def _constant(self, table: pd.DataFrame) -> pd.DataFrame:
        truth, _ = self._codes(table)
        folds = table["fold"].to_numpy()
        classes = _classes(table)
        names = np.full(len(table), _NO_CLASS, dtype=object)
        for fold in np.unique(folds):
            counts = np.bincount(truth[folds != fold], minlength=len(classes))
            names[folds == fold] = classes[counts.argmax()] if counts.any() else _NO_CLASS
        return table.assign(**{probe_column(self.column): names})

    def _codes(self, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the true and of the predicted classes (photos,)."""
        index = pd.Index(_classes(table))
        columns = self.column, probe_column(self.column)
        truth, predicted = (index.get_indexer(pd.Index(table[name].astype(str))) for name in columns)
        return truth, predicted


class ValueProbeReport(ProbeReport):
    """Of columns of values: `probe_<column>` of each.

    Args:
        columns: Columns of the true values.
    """

    main = "r2"

    def __init__(self, *, columns: Sequence[str]) -> None:
        self.columns = list(columns)
        self.predicted = [probe_column(column) for column in columns]

    def finished(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table as it is."""
        return table

    def draw(self, table: pd.DataFrame, path: Path) -> None:
        """Draws predicted against true values, a panel per column."""
        scores = column_r2(*self._values(table))
        figure = Figure(figsize=(_PANEL_INCHES * len(self.columns), _PANEL_INCHES), layout="constrained")
        panels = figure.subplots(1, len(self.columns), squeeze=False)[0]
        for panel, column, predicted, score in zip(panels, self.columns, self.predicted, scores, strict=True):
            panel.scatter(table[column], table[predicted], s=14, alpha=0.7)
            panel.axline((float(table[column].mean()),) * 2, slope=1, color="grey", linewidth=1)
            title = f"{column}, R2 {formatted(defined(float(score)), 2)}"
            panel.set(title=title, xlabel="truth", ylabel="out-of-fold prediction")
        save_figure(figure, path)

    def _scores(self, table: pd.DataFrame) -> dict[str, Any]:
        truth, prediction = self._values(table)
        columns = zip(self.columns, column_r2(truth, prediction), strict=True)
        return {
            "photos": len(table),
            "r2": defined(mean_r2(truth, prediction)),
            **{f"r2_{column}": defined(float(score)) for column, score in columns},
        }

    def _draws(self, table: pd.DataFrame) -> np.ndarray:
        truth, prediction = self._values(table)
        if defined(mean_r2(truth, prediction)) is None:
            return np.array([])
        rng = np.random.default_rng(0)
        drawn = (rng.integers(len(table), size=len(table)) for _ in range(BOOTSTRAP_DRAWS))
        scores = np.array([mean_r2(truth[rows], prediction[rows]) for rows in drawn])
        return np.asarray(scores[np.isfinite(scores)])

    def _constant(self, table: pd.DataFrame) -> pd.DataFrame:
        constant = table.astype(dict.fromkeys(self.predicted, float))
        for fold in table["fold"].unique():
            held_out = table["fold"] == fold
            constant.loc[held_out, self.predicted] = table.loc[~held_out, self.columns].mean().to_numpy()
        return constant

    def _values(self, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """True and predicted values (photos, columns)."""
        return table[self.columns].to_numpy(dtype=np.float64), table[self.predicted].to_numpy(dtype=np.float64)


def _classes(table: pd.DataFrame) -> list[str]:
    """Names of the classes in order, from the columns of their probabilities."""
    prefix = probability_column("")
    return [str(name).removeprefix(prefix) for name in table if str(name).startswith(prefix)]
