"""Pictures of a run: learning curves, features by their importance. No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from biomass_pl.files import replacing

_LOSSES = {"train/loss": "training loss", "val/loss": "validation loss"}
_RATE_PREFIX = "rate/"
_MOST_FEATURES = 30
_DOTS: dict[str, Any] = {"marker": ".", "markersize": 8}
"""A line of a single epoch would be invisible without."""


def draw_learning_curves(epochs: Mapping[int, pd.DataFrame], path: Path, *, score: str) -> None:
    """Draws losses, score and rates over the epochs, a line per fold.

    Args:
        epochs: The rows of each fold's `metrics.csv`.
        path: The PNG file.
        score: Column of the score.
    """
    save_figure(learning_curves(epochs, score=score), path)


def learning_curves(epochs: Mapping[int, pd.DataFrame], *, score: str) -> Figure:
    """The figure that `draw_learning_curves` writes: training loss, validation loss, score and rates.

    Args:
        epochs: The rows of each fold's `metrics.csv`; a column may be missing, or empty in some rows.
        score: Column of the score.
    """
    figure = Figure(figsize=(13, 7), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    columns = _LOSSES if score in _LOSSES else {**_LOSSES, score: score}
    for panel, (column, title) in zip(panels, columns.items(), strict=False):
        curves = {fold: _curve(rows, column) for fold, rows in epochs.items()}
        for fold, curve in curves.items():
            panel.plot(curve.index, curve, label=f"fold {fold}", **_DOTS)
        logged = any(len(curve) for curve in curves.values())
        panel.set(title=title if logged else f"{title}: not logged", xlabel="epoch")
    losses = [_curve(rows, column) for rows in epochs.values() for column in _LOSSES]
    if all((loss > 0).all() for loss in losses):
        for panel in panels[: len(_LOSSES)]:
            panel.set_yscale("log")
    panels[0].legend()
    _draw_rates(panels[len(columns)], next(iter(epochs.values())))
    for panel in panels[len(columns) + 1 :]:  # a loss is chosen by, which has its panel already
        panel.remove()
    last = max(rows["epoch"].max() + 1 for rows in epochs.values())
    for panel in panels:
        panel.set_xlim(0.5, last + 0.5)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    FigureCanvasAgg(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def draw_importance(importance: pd.DataFrame, path: Path) -> None:
    """Draws the features with the largest shares of the gain as bars.

    Args:
        importance: `feature` and `gain`, largest first.
        path: The PNG file.
    """
    first = importance.head(_MOST_FEATURES)
    figure = Figure(figsize=(9, 1.2 + 0.26 * len(first)), layout="constrained")
    panel = figure.subplots()
    panel.barh(first["feature"].astype(str), 100 * first["gain"])
    panel.invert_yaxis()
    panel.margins(y=0.01)
    title = "all features" if len(first) == len(importance) else f"the first {len(first)} of {len(importance)} features"
    panel.set(title=title, xlabel="share of the gain, %")
    save_figure(figure, path)


def _curve(rows: pd.DataFrame, column: str) -> pd.Series:
    """Values of a column by epoch, counted from 1, without the epochs that have none; empty without the column."""
    if column not in rows:
        return pd.Series(dtype=float)
    finite = rows[np.isfinite(rows[column])]
    return pd.Series(finite[column].to_numpy(), index=finite["epoch"] + 1)


def _draw_rates(panel: Axes, rows: pd.DataFrame) -> None:
    """Draws all rates of one fold; a rate of 0 interrupts its line."""
    columns = [column for column in rows if str(column).startswith(_RATE_PREFIX)]
    for column in columns:
        panel.plot(rows["epoch"] + 1, rows[column].where(rows[column] > 0), label=column, **_DOTS)
    title = "rates at the end of each epoch"
    panel.set(title=title if columns else f"{title}: not logged", xlabel="epoch", yscale="log")
    if columns:
        panel.legend()
