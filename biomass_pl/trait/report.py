"""The report on measured numbers: scores per target and their mean, scatter pictures. No torch."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from biomass_pl.evaluation.bootstrap import Bootstrap, scores_with_intervals
from biomass_pl.evaluation.drawn_scores import drawn_mean_r2
from biomass_pl.evaluation.pictures import save_figure
from biomass_pl.evaluation.report import (
    BOOTSTRAP_DRAWS,
    CONSTANT_ROW,
    Report,
    StackColumns,
    defined,
    formatted,
    pooled_caption,
    score_grid,
)
from biomass_pl.trait.scores import mean_r2, target_scores
from biomass_pl.trait.tables import GROUP

_PANELS_IN_A_ROW = 4
_DIGITS = 4
"""Digits of an error in the unit of its target."""


def predicted_column(target: str) -> str:
    """Column of a target's prediction."""
    return f"{target}_pred"


class RegressionReport(Report):
    """Tables with `image_id`, `fold`, perhaps `group`, the targets and `<target>_pred`.

    Args:
        targets: Columns of what was measured.
        units: Unit of each; none where they are not told.
        weights: What each counts in the mean; none: all the same.
        sums: Targets that are sums, each with the targets that it adds up, of which none is a sum.
        at_least: The smallest number that there can be.
    """

    text_columns = (GROUP,)
    score_name = "mean_r2"

    def __init__(
        self,
        *,
        targets: Sequence[str],
        units: Sequence[str] = (),
        weights: Sequence[float] | None = None,
        sums: Mapping[str, tuple[str, ...]] | None = None,
        at_least: float | None = None,
    ) -> None:
        self.targets = tuple(targets)
        self.units = tuple(units) or ("",) * len(self.targets)
        self.weights = np.array(weights if weights is not None else [1.0] * len(self.targets))
        self.predicted = tuple(map(predicted_column, self.targets))
        self.stacking = StackColumns(
            kind="regression", truth=self.targets, predicted=self.predicted, sums=sums or {}, at_least=at_least
        )

    def score(self, table: pd.DataFrame, arrays: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """Scores a table of predictions.

        Returns:
            `pooled` and `folds` (by number as text): `photos`, `mean_r2`, and `targets` with `r2`, `rmse`, `mae` and
            `photos`, those on which it was measured; None where a score is not defined. `pooled` also has
            `mean_r2_interval`, 95 % by a bootstrap over groups, or over photos where there are none. `constant`:
            `mean_r2` of a prediction that knows of each target only its mean over the other folds.
        """
        interval, units = self._interval(table)
        constant = self._constant_prediction(table)
        folds = {str(fold): rows for fold, rows in table.groupby("fold")}
        constants = {str(fold): rows for fold, rows in constant.groupby("fold")}
        return {
            "pooled": {**self._scores(table), "mean_r2_interval": interval, "interval_over": units},
            "folds": {fold: self._scores(rows) for fold, rows in folds.items()},
            "constant": {
                "pooled": {"mean_r2": defined(self._mean_r2(constant))},
                "folds": {fold: {"mean_r2": defined(self._mean_r2(rows))} for fold, rows in constants.items()},
            },
        }

    def render(self, scores: dict[str, Any], *, title: str) -> Table:
        """The targets pooled, then their mean, and a column per fold."""
        pooled, folds = scores["pooled"], scores["folds"]
        grid = score_grid(
            title=title,
            caption=f"{pooled_caption(scores, 'mean_r2')}\nconstant: every photo the mean of the other folds",
            headings=["photos", "R2", "RMSE", "MAE", *(f"fold {fold}" for fold in folds)],
        )
        for target, unit in zip(self.targets, self.units, strict=True):
            own = pooled["targets"][target]
            errors = (_significant(own[name]) for name in ("rmse", "mae"))
            per_fold = [formatted(fold["targets"][target]["r2"]) for fold in folds.values()]
            grid.add_row(_labelled(target, unit), str(own["photos"]), formatted(own["r2"]), *errors, *per_fold)
        grid.add_section()
        for label, source in (("mean_r2", scores), (CONSTANT_ROW, scores["constant"])):
            per_fold = [formatted(fold["mean_r2"]) for fold in source["folds"].values()]
            grid.add_row(label, "", formatted(source["pooled"]["mean_r2"]), "", "", *per_fold)
        counts = (str(fold["photos"]) for fold in folds.values())
        grid.add_row("photos", str(pooled["photos"]), "", "", "", *counts)
        return grid

    def draw(self, table: pd.DataFrame, path: Path) -> None:
        """Draws predicted against measured numbers: a panel per target with its R2, coloured by fold."""
        columns = min(_PANELS_IN_A_ROW, len(self.targets))
        rows = math.ceil(len(self.targets) / columns)
        figure = Figure(figsize=(4.2 * columns, 4.4 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[len(self.targets) :]:
            panel.remove()
        for panel, target, unit in zip(panels, self.targets, self.units, strict=False):
            predicted = predicted_column(target)
            for fold, members in table.groupby("fold"):
                panel.scatter(members[target], members[predicted], s=14, alpha=0.7, label=f"fold {fold}")
            known = table[table[target].notna()]
            if len(known):
                panel.axline((float(known[target].mean()),) * 2, slope=1, color="grey", linewidth=1)
            score = target_scores(*(table[name].to_numpy(dtype=float) for name in (target, predicted)))["r2"]
            panel.set(
                title=f"{target}, R2 {formatted(defined(score), 2)}",
                xlabel=_labelled("measured", unit),
                ylabel=_labelled("out-of-fold prediction", unit),
            )
        panels[0].legend()
        save_figure(figure, path)

    def drawn_score(self, table: pd.DataFrame, counts: np.ndarray) -> np.ndarray:
        """`mean_r2` when each row counts as often as it was drawn.

        Args:
            table: What `score` takes.
            counts: How often each row counts (draws, rows).

        Returns:
            A value per draw, NaN where it is not defined (draws,).
        """
        return drawn_mean_r2(*self._values(table), self.weights, counts)

    def finished(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table as it is: numbers of any size are not rounded, and sums stay exact."""
        return table

    def _scores(self, table: pd.DataFrame) -> dict[str, Any]:
        truth, prediction = self._values(table)
        columns = zip(self.targets, truth.T, prediction.T, strict=True)
        scores = {target: target_scores(true, predicted) for target, true, predicted in columns}
        return {
            "photos": len(table),
            "mean_r2": defined(self._mean_r2(table)),
            "targets": {
                target: {name: defined(value) for name, value in values.items()} for target, values in scores.items()
            },
        }

    def _mean_r2(self, table: pd.DataFrame) -> float:
        return mean_r2(*self._values(table), self.weights)

    def _interval(self, table: pd.DataFrame) -> tuple[list[float] | None, str]:
        """95 % interval of `mean_r2`, and what was drawn."""
        groups, drawn = (table[GROUP].to_numpy(), "groups") if GROUP in table else (np.arange(len(table)), "photos")
        scores = scores_with_intervals(
            lambda counts: {"mean_r2": self.drawn_score(table, counts)}, groups, Bootstrap(draws=BOOTSTRAP_DRAWS)
        )
        interval = [scores["mean_r2_ci_lower"], scores["mean_r2_ci_upper"]]
        return (interval if np.isfinite(interval).all() else None), drawn

    def _constant_prediction(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with each target's mean over the other folds as its prediction; NaN where there is none."""
        constant = table.astype(dict.fromkeys(self.predicted, float))
        for fold in table["fold"].unique():
            held_out = table["fold"] == fold
            constant.loc[held_out, list(self.predicted)] = table.loc[~held_out, list(self.targets)].mean().to_numpy()
        return constant

    def _values(self, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """True and predicted numbers (photos, targets)."""
        true, predicted = (table[list(names)].to_numpy(dtype=float) for names in (self.targets, self.predicted))
        return true, predicted


def _labelled(name: str, unit: str) -> str:
    return f"{name}, {unit}" if unit else name


def _significant(value: float | None) -> str:
    """An error in the unit of its target, whatever its size."""
    return "-" if value is None else f"{value:.{_DIGITS}g}"
