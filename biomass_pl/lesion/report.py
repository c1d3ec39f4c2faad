"""The report on skin lesions: pAUC above 80 % true positive rate, ROC curves, the submission. No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table
from sklearn.metrics import roc_curve

from biomass_pl.errors import DataError
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
from biomass_pl.evaluation.submission import in_sample_order
from biomass_pl.lesion.partial_auc import (
    MIN_TPR,
    bootstrap_partial_auc,
    lesion_scores,
    partial_auc,
    partial_auc_of_draws,
)

_SCORE_DIGITS = 4
_CLASSES = (("benign", "silver"), ("malignant", "crimson"))
_BINS = 60


class LesionReport(Report):
    """Tables with `isic_id`, `patient_id`, `fold`, `target` (0 benign, 1 malignant) and `target_pred`."""

    stacking = StackColumns(kind="classification", truth=("target",), predicted=("target_pred",))
    score_name = "pauc"

    def drawn_score(self, table: pd.DataFrame, counts: np.ndarray) -> np.ndarray:
        """`pauc` of rows drawn with replacement."""
        return partial_auc_of_draws(*_truth_and_score(table), counts)

    def score(self, table: pd.DataFrame, arrays: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """Scores a table of predictions.

        Returns:
            `pooled` and `folds` (by number as text): `photos`, `positives`, `patients`, `pauc` and `auc`; None where
            a fold has one class only or a prediction is not finite. `pooled` also has `pauc_interval` (95 %) and
            `pauc_standard_error`, by a bootstrap over patients, None with a single patient. `constant`: `pauc` and
            `auc` of the same score for every lesion.

        Raises:
            DataError: All lesions are of one class.
        """
        classes = table["target"].unique()
        if len(classes) < 2:
            found = f"all {len(table)} lesion(s) have target {classes[0]}" if len(table) else "there is no lesion"
            raise DataError(f"The predictions cannot be scored: {found}, and pAUC needs both classes. Add other folds.")
        folds = {str(fold): rows for fold, rows in table.groupby("fold")}
        return {
            "pooled": {**_scores(table), **_uncertainty(table), "interval_over": "patients"},
            "folds": {fold: _scores(rows) for fold, rows in folds.items()},
            "constant": {
                "pooled": _constant_scores(table),
                "folds": {fold: _constant_scores(rows) for fold, rows in folds.items()},
            },
        }

    def render(self, scores: dict[str, Any], *, title: str) -> Table:
        """A column for all folds pooled and one per fold."""
        columns = [scores["pooled"], *scores["folds"].values()]
        constants = [scores["constant"]["pooled"], *scores["constant"]["folds"].values()]
        grid = score_grid(
            title=title,
            caption=f"{pooled_caption(scores, 'pauc', digits=_SCORE_DIGITS)}\n"
            "constant: the same score for every lesion",
            headings=["pooled", *(f"fold {fold}" for fold in scores["folds"])],
        )
        for name in ("pauc", "auc"):
            grid.add_row(name, *(formatted(column[name], _SCORE_DIGITS) for column in columns))
            grid.add_row(CONSTANT_ROW, *(formatted(constant[name], _SCORE_DIGITS) for constant in constants))
        grid.add_section()
        for name in ("photos", "positives", "patients"):
            grid.add_row(name, *(str(column[name]) for column in columns))
        return grid

    def draw(self, table: pd.DataFrame, path: Path) -> None:
        """Draws ROC curves, with the area that counts, beside a histogram of the scores of each class."""
        figure = Figure(figsize=(13, 6), layout="constrained")
        curves, histogram = figure.subplots(1, 2)
        _draw_curves(table, curves)
        _draw_histogram(table, histogram)
        save_figure(figure, path)

    def submission(self, predictions: pd.DataFrame, sample: Path) -> pd.DataFrame:
        """`isic_id,target`, a row per lesion."""
        submission = predictions[["isic_id", "target_pred"]].rename(columns={"target_pred": "target"})
        return in_sample_order(submission, sample, test_table="test-metadata.csv")

    def finished(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table as it is: rounding would make ties, and the score depends on the order."""
        return table


def _scores(table: pd.DataFrame) -> dict[str, Any]:
    scores = lesion_scores(*_truth_and_score(table))
    return {
        "photos": len(table),
        "positives": int(table["target"].sum()),
        "patients": table["patient_id"].nunique(),
        **{name: defined(value) for name, value in scores.items()},
    }


def _constant_scores(table: pd.DataFrame) -> dict[str, float | None]:
    scores = lesion_scores(table["target"].to_numpy(), np.zeros(len(table)))
    return {name: defined(value) for name, value in scores.items()}


def _uncertainty(table: pd.DataFrame) -> dict[str, Any]:
    """Interval and standard error of the pooled pAUC; lesions of one patient are alike, so patients are drawn."""
    draws = bootstrap_partial_auc(*_truth_and_score(table), table["patient_id"].to_numpy(), draws=BOOTSTRAP_DRAWS)
    if table["patient_id"].nunique() < 2 or len(draws) < 2:
        return {"pauc_interval": None, "pauc_standard_error": None}
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"pauc_interval": [float(low), float(high)], "pauc_standard_error": float(draws.std(ddof=1))}


def _truth_and_score(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return table["target"].to_numpy(), table["target_pred"].to_numpy(dtype=np.float64)


def _draw_curves(table: pd.DataFrame, panel: Axes) -> None:
    """Curves of the folds, the pooled one over them, the area of the score shaded; none where there is no score."""
    for fold, rows in table.groupby("fold"):
        _draw_curve(rows, panel, label=f"fold {fold}", linewidth=1)
    pooled = _draw_curve(table, panel, label="pooled", color="black", linewidth=2)
    if pooled is not None:
        fpr, tpr = pooled
        panel.fill_between(fpr, MIN_TPR, tpr, where=tpr >= MIN_TPR, interpolate=True, color="gold", alpha=0.35)
    panel.axhline(MIN_TPR, color="grey", linestyle="--", linewidth=1)
    panel.plot([0, 1], [0, 1], label="chance: pAUC 0.0200", color="grey", linestyle=":", linewidth=1)
    panel.set(
        title="ROC; shaded: the area that pAUC measures",
        xlabel="false positive rate",
        ylabel="true positive rate",
        aspect="equal",
    )
    panel.legend(loc="lower right")


def _draw_curve(
    table: pd.DataFrame, panel: Axes, *, label: str, linewidth: float, color: str | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Draws the curve of some rows; returns false and true positive rates."""
    truth, score = _truth_and_score(table)
    area = defined(partial_auc(truth, score))
    if area is None:
        return None
    fpr, tpr, _ = roc_curve(truth, score)
    panel.plot(fpr, tpr, label=f"{label}: pAUC {formatted(area, _SCORE_DIGITS)}", linewidth=linewidth, color=color)
    return fpr, tpr


def _draw_histogram(table: pd.DataFrame, panel: Axes) -> None:
    finite = table[np.isfinite(table["target_pred"])]
    edges = np.histogram_bin_edges(finite["target_pred"], bins=_BINS)
    for target, (name, colour) in enumerate(_CLASSES):
        scores = finite["target_pred"][finite["target"] == target]
        panel.hist(scores, bins=edges.tolist(), alpha=0.7, color=colour, label=f"{name}: {len(scores)}")
    panel.set(title="scores of each class", xlabel="score", ylabel="lesions")
    if not finite.empty:
        panel.set_yscale("log")
    panel.legend()
