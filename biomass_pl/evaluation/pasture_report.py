"""The report on pasture predictions: grams of five targets."""

from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from biomass_pl.evaluation.pictures import draw_scatter
from biomass_pl.evaluation.report import Report
from biomass_pl.evaluation.score import render_scores, score_table
from biomass_pl.evaluation.submission import make_submission

GRAM_DECIMALS = 6
"""Predicted grams are written, and scored, to the microgram."""


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
