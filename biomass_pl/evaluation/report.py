"""What every system tells of an out-of-fold table, and how the scores look in a terminal. No torch."""

import abc
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

BOOTSTRAP_DRAWS = 2000

_TITLE_WIDTH = 66
"""Columns of the terminal that most titles need."""


class Report(abc.ABC):
    """How the predictions of a system are scored, shown and handed in."""

    @abc.abstractmethod
    def score(self, table: pd.DataFrame) -> dict[str, Any]:
        """Scores a table of out-of-fold predictions.

        Args:
            table: A row per photo with `fold`, the truth and the predictions.

        Returns:
            `pooled` and `folds` (by number as text); None where a score is not defined.

        Raises:
            DataError: The table cannot be scored at all.
        """

    @abc.abstractmethod
    def render(self, scores: dict[str, Any], *, title: str) -> Table:
        """A table of the scores for the terminal.

        Args:
            scores: What `score` returned.
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
    def submission(self, predictions: pd.DataFrame, sample: Path) -> pd.DataFrame:
        """Turns predictions of the test photos into the competition's form.

        Args:
            predictions: A row per photo.
            sample: The competition's `sample_submission.csv`; checked against, and its order kept, if it exists.

        Raises:
            DataError: The sample cannot be read, or names other rows than were predicted.
        """

    @abc.abstractmethod
    def rounded(self, table: pd.DataFrame) -> pd.DataFrame:
        """The predictions as they are written and scored."""


def defined(value: float) -> float | None:
    """A score, or None where it is not finite: JSON has no NaN."""
    return value if math.isfinite(value) else None


def shown(value: float | None, digits: int = 3) -> str:
    """A score as text; a dash where it is not defined."""
    return "-" if value is None else f"{value:.{digits}f}"


def score_grid(*, title: str, caption: str, headings: Iterable[str]) -> Table:
    """An empty table for the terminal: names on the left, numbers under the headings.

    Five folds fit 80 columns even with scores such as -12.345.
    """
    grid = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=0, min_width=_TITLE_WIDTH)
    grid.add_column("", no_wrap=True)
    for heading in headings:
        grid.add_column(heading, justify="right", no_wrap=True)
    return grid
