"""The report on pasture predictions: grams of five targets, scored, shown, drawn and handed in. No torch."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from biomass_pl.evaluation.pictures import save_figure
from biomass_pl.evaluation.report import BOOTSTRAP_DRAWS, Report, defined, score_grid, shown
from biomass_pl.evaluation.submission import in_sample_order
from biomass_pl.pasture.scores import mean_r2, target_scores, weighted_r2
from biomass_pl.pasture.targets import SCORE_WEIGHTS, TARGETS

_UNKNOWN_STATE = "unknown"
GRAM_DECIMALS = 6
"""Predicted grams are written, and scored, to the microgram."""


_SITE_COLUMNS = ["State", "Sampling_Date"]


class PastureReport(Report):
    """Tables with `image_id`, the five targets and `<target>_pred` in grams."""

    def score(self, table: pd.DataFrame) -> dict[str, Any]:
        """See `score_table`."""
        return score_table(table)

    def render(self, scores: dict[str, Any], *, title: str) -> Table:
        """See `render_scores`."""
        return render_scores(scores, title=title)

    def draw(self, table: pd.DataFrame, path: Path) -> None:
        """See `draw_scatter`."""
        draw_scatter(table, path)

    def submission(self, predictions: pd.DataFrame, sample: Path) -> pd.DataFrame:
        """See `make_submission`."""
        return make_submission(predictions, sample)

    def rounded(self, table: pd.DataFrame) -> pd.DataFrame:
        """Grams to the microgram."""
        return table.round(GRAM_DECIMALS)


def score_table(table: pd.DataFrame) -> dict[str, Any]:
    """Scores a table of predictions.

    Args:
        table: A row per photo with `fold`, the targets and `<target>_pred` in grams, and `State` and
            `Sampling_Date` where known.

    Returns:
        `pooled` and `folds` (by number as text): `photos`, `weighted_r2`, `mean_r2`, and `targets` with
        `r2`, `rmse` and `mae` in grams; None where a score is not defined. `pooled` also has
        `weighted_r2_interval`, 95 % by a bootstrap over sites (State and date; photos where these are unknown).
    """
    interval, units = bootstrap_interval(table)
    return {
        "pooled": {**_scores(table), "weighted_r2_interval": interval, "interval_over": units},
        "folds": {str(fold): _scores(rows) for fold, rows in table.groupby("fold")},
    }


def bootstrap_interval(table: pd.DataFrame) -> tuple[list[float] | None, str]:
    """95 % percentile interval of the pooled `weighted_r2`, whole sites drawn with replacement.

    Photos of one site share weather, soil and eye of the assessor; drawing photos one by one would make
    the interval too narrow.

    Returns:
        The interval (None with a single site or without a score), and what was drawn: `sites` or `photos`.
    """
    by_site = set(_SITE_COLUMNS) <= set(table.columns) and bool(table[_SITE_COLUMNS].notna().all(axis=None))
    units = pd.factorize(table["State"] + " " + table["Sampling_Date"])[0] if by_site else np.arange(len(table))
    drawn = "sites" if by_site else "photos"
    count = int(units.max()) + 1
    truth, prediction = _grams(table)
    if count < 2 or defined(weighted_r2(truth, prediction)) is None:
        return None, drawn
    weights = np.broadcast_to(np.array([SCORE_WEIGHTS[target] for target in TARGETS]), truth.shape)
    # The score depends on these sums alone, so a draw is a weighted sum over units.
    terms = [weights, weights * truth, weights * truth**2, weights * (truth - prediction) ** 2]
    sums = np.stack([np.bincount(units, term.sum(axis=1), minlength=count) for term in terms], axis=1)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=BOOTSTRAP_DRAWS)
    weight, first, second, error = (draws @ sums).T
    spread = second - first**2 / weight
    scores = 1 - error[spread > 0] / spread[spread > 0]
    low, high = np.quantile(scores, [0.025, 0.975])
    return [float(low), float(high)], drawn


def render_scores(scores: dict[str, Any], *, title: str) -> Table:
    """A table of the scores for the terminal.

    Args:
        scores: What `score_table` returned.
        title: Printed above the table.
    """
    pooled, folds = scores["pooled"], scores["folds"]
    low_high = pooled["weighted_r2_interval"]
    interval = "" if low_high is None else f", 95 % {low_high[0]:.3f} to {low_high[1]:.3f}"
    grid = score_grid(
        title=title,
        caption=f"weighted_r2 of all folds pooled: {shown(pooled['weighted_r2'])}{interval}",
        headings=["R2", "RMSE g", "MAE g", *(f"fold {fold}" for fold in folds)],
    )
    for target in TARGETS:
        own = pooled["targets"][target]
        per_fold = [shown(fold["targets"][target]["r2"]) for fold in folds.values()]
        grid.add_row(target, shown(own["r2"]), shown(own["rmse"], 2), shown(own["mae"], 2), *per_fold)
    grid.add_section()
    for name in ("weighted_r2", "mean_r2"):
        grid.add_row(name, shown(pooled[name]), "", "", *(shown(fold[name]) for fold in folds.values()))
    grid.add_row("photos", str(pooled["photos"]), "", "", *(str(fold["photos"]) for fold in folds.values()))
    return grid


def _scores(table: pd.DataFrame) -> dict[str, Any]:
    truth, prediction = _grams(table)
    return {
        "photos": len(table),
        "weighted_r2": defined(weighted_r2(truth, prediction)),
        "mean_r2": defined(mean_r2(truth, prediction)),
        "targets": {
            target: {name: defined(value) for name, value in values.items()}
            for target, values in target_scores(truth, prediction).items()
        },
    }


def _grams(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return table[list(TARGETS)].to_numpy(), table[[f"{target}_pred" for target in TARGETS]].to_numpy()


def draw_scatter(table: pd.DataFrame, path: Path) -> None:
    """Draws predicted against true grams, a panel per target, coloured by state.

    Args:
        table: An out-of-fold table with targets, `<target>_pred` and, where known, `State`.
        path: The PNG file.
    """
    states = table["State"].fillna(_UNKNOWN_STATE) if "State" in table else pd.Series(_UNKNOWN_STATE, table.index)
    figure = Figure(figsize=(4 * len(TARGETS), 4.4), layout="constrained")
    for panel, target in zip(figure.subplots(1, len(TARGETS)), TARGETS, strict=True):
        for state, rows in table.groupby(states):
            panel.scatter(rows[target], rows[f"{target}_pred"], s=14, alpha=0.7, label=str(state))
        largest = table[[target, f"{target}_pred"]].to_numpy(dtype=float).max()
        panel.plot([0, largest], [0, largest], color="grey", linewidth=1)
        panel.set(title=target, xlabel="measured, g", ylabel="out-of-fold prediction, g")
        panel.set_aspect("equal", adjustable="datalim")
    figure.axes[0].legend()
    save_figure(figure, path)


def make_submission(predictions: pd.DataFrame, sample: Path) -> pd.DataFrame:
    """Turns a table of predictions into `sample_id,target`.

    Args:
        predictions: `image_id` and `<target>_pred` in grams, a row per photo.
        sample: The competition's `sample_submission.csv`; checked against, and its order kept, if it exists.

    Raises:
        DataError: The sample cannot be read, or names other rows than were predicted.
    """
    rows = [
        {"sample_id": f"{image_id}__{target}", "target": grams}
        for image_id, *values in predictions[["image_id", *(f"{t}_pred" for t in TARGETS)]].itertuples(index=False)
        for target, grams in zip(TARGETS, values, strict=True)
    ]
    submission = pd.DataFrame(rows, columns=["sample_id", "target"])
    return in_sample_order(submission, sample, test_table="test.csv")
