"""What every system tells of an out-of-fold table, and how the scores look in a terminal. No torch."""

import abc
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from biomass_pl.evaluation.boosters import Kind

BOOTSTRAP_DRAWS = 2000

CONSTANT_ROW = "  constant"
"""Name of the row below a score that tells what a constant prediction scores."""

_TITLE_WIDTH = 66
"""Columns of the terminal that most titles need."""


@dataclass(frozen=True, kw_only=True)
class StackColumns:
    """Columns of an out-of-fold table that `biomass stack` learns from and to predict.

    Args:
        kind: What the targets are.
        truth: Columns of the targets.
        predicted: Columns of the predictions, one per target, in the same order.
    """

    kind: Kind
    truth: tuple[str, ...]
    predicted: tuple[str, ...]


class Report(abc.ABC):
    """How the predictions of a system are scored and shown."""

    uses_arrays: bool = False
    """Whether the scores need the arrays (such as embeddings) of the predictions."""

    text_columns: tuple[str, ...] = ()
    """Columns of texts beside those that name an item: read back as they were written, `007` and `NA` too."""

    stacking: StackColumns | None = None
    """What `biomass stack` learns; None where there is nothing to stack."""

    def with_array_columns(self, table: pd.DataFrame, arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
        """The table with columns that follow from the arrays of all its rows together, such as ranks.

        Called before the table is written, scored and drawn.

        Args:
            table: What `score` takes.
            arrays: Arrays by name whose rows are those of the table; empty unless `uses_arrays`.
        """
        return table

    @abc.abstractmethod
    def score(self, table: pd.DataFrame, arrays: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """Scores a table of out-of-fold predictions.

        Args:
            table: A row per item with `fold`, the truth and the predictions.
            arrays: Arrays by name whose rows are those of the table; given where `uses_arrays`.

        Returns:
            `pooled`, `folds` (by number as text) and `constant`: both once more, of a prediction without any skill.
            None where a score is not defined.

        Raises:
            DataError: The table cannot be scored at all.
        """

    @abc.abstractmethod
    def render(self, scores: dict[str, Any], *, title: str) -> Table:
        """A table of the scores for the terminal.

        Args:
            scores: What `score` returned; optionally with `pooled_last`, what it returned as `pooled` for the
                predictions of the last epoch's weights.
            title: Printed above the table.
        """

    @abc.abstractmethod
    def draw(self, table: pd.DataFrame, path: Path) -> None:
        """Draws the predictions against the truth.

        Args:
            table: What `score` takes.
            path: The PNG file.
        """

    @abc.abstractmethod
    def finished(self, table: pd.DataFrame) -> pd.DataFrame:
        """The predictions as they are written and scored: rounded, or with columns that follow from others.

        Args:
            table: What the network predicts, after any averaging; with or without the truth.
        """


@runtime_checkable
class ShowsPhotos(Protocol):
    """A report with a picture of the items themselves, such as those that were mistaken most."""

    def draw_photos(self, table: pd.DataFrame, photo: Callable[[str], np.ndarray], path: Path) -> None:
        """Draws some items of a table of out-of-fold predictions.

        Args:
            table: What `score` takes.
            photo: Gives an item's photo by its name, uint8 (height, width, 3).
            path: The PNG file.
        """


@runtime_checkable
class WritesPages(Protocol):
    """A report with files to read beside its table, such as generated texts beside true ones."""

    def write_pages(
        self, table: pd.DataFrame, scores: Mapping[str, Any], place: Callable[[str, str], Path], *, title: str
    ) -> list[Path]:
        """Writes the files.

        Args:
            table: What `score` takes.
            scores: What `score` returned for it.
            place: Tells where a file goes, by what is in it, such as `captions`, and its suffix.
            title: Heading of a page.

        Returns:
            The files.
        """


@runtime_checkable
class MakesSubmission(Protocol):
    """A report of a system with a competition to hand in to."""

    def submission(self, predictions: pd.DataFrame, sample: Path) -> pd.DataFrame:
        """Turns predictions of the test items into the competition's form.

        Args:
            predictions: A row per item.
            sample: The competition's `sample_submission.csv`; checked against, and its order kept, if it exists.

        Raises:
            DataError: The sample cannot be read, or names other rows than were predicted.
        """


def defined(value: float) -> float | None:
    """A score, or None where it is not finite: JSON has no NaN."""
    return value if math.isfinite(value) else None


def formatted(value: float | None, digits: int = 3) -> str:
    """A score as text; a dash where it is not defined."""
    return "-" if value is None else f"{value:.{digits}f}"


def score_grid(*, title: str, caption: str, headings: Iterable[str]) -> Table:
    """An empty table for the terminal: names on the left, numbers under the headings.

    Five folds fit 80 columns even with scores such as -12.345.
    """
    # A folder's name in the title may hold square brackets, which are markup.
    grid = Table(title=escape(title), caption=caption, box=box.SIMPLE_HEAD, padding=0, min_width=_TITLE_WIDTH)
    grid.add_column("", no_wrap=True)
    for heading in headings:
        grid.add_column(heading, justify="right", no_wrap=True)
    return grid


def pooled_caption(scores: dict[str, Any], name: str, *, digits: int = 3) -> str:
    """A score of all folds pooled with its interval and, where known, that of the last epoch's weights.

    Args:
        scores: What `Report.render` takes; `pooled` has the score and `<name>_interval`.
        name: Name of the score.
        digits: Digits behind the point.
    """
    pooled = scores["pooled"]
    caption = f"{name} of all folds pooled: {formatted(pooled[name], digits)}"
    if pooled[f"{name}_interval"] is not None:
        low, high = pooled[f"{name}_interval"]
        caption += f", 95 % {formatted(low, digits)} to {formatted(high, digits)}"
    last = scores.get("pooled_last")
    if last is not None:
        caption += f"; by the last epoch's weights {formatted(last[name], digits)}"
    return caption
