"""Pictures of a run: learning curves, features by their importance. No torch."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from biomass_pl.files import replacing

_LOSSES = (("train/loss", "training loss"), ("val/loss", "validation loss"))
_RATES = ("rate/backbone", "rate/head")
_SHOWN_FEATURES = 30


def draw_learning_curves(epochs: Mapping[int, pd.DataFrame], path: Path, *, score: str) -> None:
    """Draws losses, score and rates over the epochs, a line per fold.

    Args:
        epochs: The rows of each fold's `metrics.csv`.
        path: The PNG file.
        score: Column of the score.
    """
    figure = Figure(figsize=(13, 7), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    for panel, (column, title) in zip(panels, (*_LOSSES, (score, score)), strict=False):
        for fold, rows in epochs.items():
            panel.plot(rows["epoch"] + 1, rows[column], label=f"fold {fold}")
        panel.set(title=title, xlabel="epoch")
    if all((rows[column] > 0).all() for rows in epochs.values() for column in ("train/loss", "val/loss")):
        for panel in panels[:2]:
            panel.set_yscale("log")
    panels[0].legend()
    _draw_rates(panels[3], next(iter(epochs.values())))
    for panel in panels:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_figure(figure, path)


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
    shown = importance.head(_SHOWN_FEATURES)
    figure = Figure(figsize=(9, 1.2 + 0.26 * len(shown)), layout="constrained")
    panel = figure.subplots()
    panel.barh(shown["feature"].astype(str), 100 * shown["gain"])
    panel.invert_yaxis()
    panel.margins(y=0.01)
    title = "all features" if len(shown) == len(importance) else f"the first {len(shown)} of {len(importance)} features"
    panel.set(title=title, xlabel="share of the gain, %")
    save_figure(figure, path)


def _draw_rates(panel: Axes, rows: pd.DataFrame) -> None:
    for column in _RATES:
        panel.plot(rows["epoch"] + 1, rows[column].where(rows[column] > 0), label=column)
    panel.set(title="rates at the end of each epoch", xlabel="epoch", yscale="log")
    panel.legend()
