"""The report on pasture predictions: grams of five targets, scored, shown, drawn and handed in. No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

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
from biomass_pl.pasture.scores import mean_r2, target_scores, weighted_r2, weighted_r2_of_draws
from biomass_pl.pasture.sums import GRAM_DECIMALS
from biomass_pl.pasture.targets import SCORE_WEIGHTS, SUMS, TARGETS

_PREDICTED = tuple(f"{target}_pred" for target in TARGETS)
_SITE_COLUMNS = ["State", "Sampling_Date"]
_UNKNOWN_STATE = "unknown"


class PastureReport(Report):
    """Tables with `image_id`, `fold`, the five targets (empty where unknown) and `<target>_pred` in grams."""

    stacking = StackColumns(kind="regression", truth=TARGETS, predicted=_PREDICTED, sums=SUMS, at_least=0.0)
    score_name = "weighted_r2"

    def drawn_score(self, table: pd.DataFrame, counts: np.ndarray) -> np.ndarray:
        """`weighted_r2` of rows drawn with replacement."""
        return weighted_r2_of_draws(*_grams(table), counts)

    def score(self, table: pd.DataFrame, arrays: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """See `score_table`."""
        return score_table(table)

    def render(self, scores: dict[str, Any], *, title: str) -> Table:
        """The targets pooled, then both scores over all of them, and a column per fold."""
        pooled, folds = scores["pooled"], scores["folds"]
        grid = score_grid(
            title=title,
            caption=f"{pooled_caption(scores, 'weighted_r2')}\nconstant: every photo the mean of the other folds",
            headings=["R2", "RMSE g", "MAE g", *(f"fold {fold}" for fold in folds)],
        )
        for target, own in pooled["targets"].items():
            per_fold = [formatted(fold["targets"].get(target, {}).get("r2")) for fold in folds.values()]
            grid.add_row(target, formatted(own["r2"]), formatted(own["rmse"], 2), formatted(own["mae"], 2), *per_fold)
        grid.add_section()
        for name in ("weighted_r2", "mean_r2"):
            for label, source in ((name, scores), (CONSTANT_ROW, scores["constant"])):
                per_fold = [formatted(fold[name]) for fold in source["folds"].values()]
                grid.add_row(label, formatted(source["pooled"][name]), "", "", *per_fold)
        grid.add_row("photos", str(pooled["photos"]), "", "", *(str(fold["photos"]) for fold in folds.values()))
        return grid

    def draw(self, table: pd.DataFrame, path: Path) -> None:
        """Draws predicted against true grams."""
        save_figure(scatter(table), path)

    def submission(self, predictions: pd.DataFrame, sample: Path) -> pd.DataFrame:
        """`sample_id,target`, a row per photo and target."""
        rows = [
            {"sample_id": f"{image_id}__{target}", "target": grams}
            for image_id, *values in predictions[["image_id", *_PREDICTED]].itertuples(index=False)
            for target, grams in zip(TARGETS, values, strict=True)
        ]
        submission = pd.DataFrame(rows, columns=["sample_id", "target"])
        return in_sample_order(submission, sample, test_table="test.csv")

    def finished(self, table: pd.DataFrame) -> pd.DataFrame:
        """Grams to the microgram."""
        return table.round(GRAM_DECIMALS)


def score_table(table: pd.DataFrame) -> dict[str, Any]:
    """Scores a table of predictions.

    Args:
        table: A row per photo with `fold`, the targets (NaN where unknown) and `<target>_pred` in grams, and `State`
            and `Sampling_Date` where known.

    Returns:
        `pooled` and `folds` (by number as text): `photos`, `weighted_r2`, `mean_r2`, and `targets`, those known of any
        photo, with `r2`, `rmse` and `mae` in grams; None where a score is not defined. `pooled` also has
        `weighted_r2_interval`, 95 % by a bootstrap over sites (State and date; photos where these are unknown).
        `constant`: `weighted_r2` and `mean_r2`, pooled and per fold, of a prediction that knows of each target only
        its mean over the other folds; None with a single fold.
    """
    interval, units = bootstrap_interval(table)
    constant = _constant_prediction(table)
    return {
        "pooled": {**_scores(table), "weighted_r2_interval": interval, "interval_over": units},
        "folds": {str(fold): _scores(rows) for fold, rows in table.groupby("fold")},
        "constant": {
            "pooled": _r2_scores(constant),
            "folds": {str(fold): _r2_scores(rows) for fold, rows in constant.groupby("fold")},
        },
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
    weights = np.where(np.isnan(truth), 0.0, np.array([SCORE_WEIGHTS[target] for target in TARGETS]))
    truth = np.nan_to_num(truth)
    # The score depends on these sums alone, so a draw is a weighted sum over units.
    terms = [weights, weights * truth, weights * truth**2, weights * (truth - prediction) ** 2]
    sums = np.stack([np.bincount(units, term.sum(axis=1), minlength=count) for term in terms], axis=1)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=BOOTSTRAP_DRAWS)
    weight, first, second, error = (draws @ sums).T
    with np.errstate(invalid="ignore"):  # of units without a known value; such a draw has no spread above 0
        spread = second - first**2 / weight
    scores = 1 - error[spread > 0] / spread[spread > 0]
    low, high = np.quantile(scores, [0.025, 0.975])
    return [float(low), float(high)], drawn


def scatter(table: pd.DataFrame) -> Figure:
    """Predicted against true grams: a panel per target that is known at all with its R2, coloured by state.

    Args:
        table: An out-of-fold table with targets, `<target>_pred` and, where known, `State`.
    """
    scores = target_scores(*_grams(table))
    states = table["State"].fillna(_UNKNOWN_STATE) if "State" in table else pd.Series(_UNKNOWN_STATE, table.index)
    figure = Figure(figsize=(4 * len(scores), 4.4), layout="constrained")
    for panel, (target, score) in zip(figure.subplots(1, len(scores), squeeze=False)[0], scores.items(), strict=True):
        for state, rows in table.groupby(states):
            panel.scatter(rows[target], rows[f"{target}_pred"], s=14, alpha=0.7, label=str(state))
        largest = table.loc[table[target].notna(), [target, f"{target}_pred"]].to_numpy(dtype=float).max()
        panel.plot([0, largest], [0, largest], color="grey", linewidth=1)
        title = f"{target}, R2 {formatted(defined(score['r2']), 2)}"
        panel.set(title=title, xlabel="measured, g", ylabel="out-of-fold prediction, g")
        panel.set_aspect("equal", adjustable="datalim")
    figure.axes[0].legend()
    return figure


def _scores(table: pd.DataFrame) -> dict[str, Any]:
    return {
        "photos": len(table),
        **_r2_scores(table),
        "targets": {
            target: {name: defined(value) for name, value in values.items()}
            for target, values in target_scores(*_grams(table)).items()
        },
    }


def _r2_scores(table: pd.DataFrame) -> dict[str, float | None]:
    grams = _grams(table)
    return {"weighted_r2": defined(weighted_r2(*grams)), "mean_r2": defined(mean_r2(*grams))}


def _constant_prediction(table: pd.DataFrame) -> pd.DataFrame:
    """The table with each target's mean over the other folds as its prediction; NaN where there is no other fold."""
    constant = table.astype(dict.fromkeys(_PREDICTED, float))
    for fold in table["fold"].unique():
        held_out = table["fold"] == fold
        constant.loc[held_out, list(_PREDICTED)] = table.loc[~held_out, list(TARGETS)].mean().to_numpy()
    return constant


def _grams(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return table[list(TARGETS)].to_numpy(dtype=float), table[list(_PREDICTED)].to_numpy()
