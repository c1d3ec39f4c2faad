"""The report on slides and their reports: retrieval, classes by prompts and examples, generated texts. No torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from biomass_pl.errors import DataError
from biomass_pl.evaluation.bootstrap import Bootstrap
from biomass_pl.evaluation.caption_page import Caption, write_caption_json, write_caption_page
from biomass_pl.evaluation.pictures import save_figure
from biomass_pl.evaluation.report import CONSTANT_ROW, Report, defined, formatted, score_grid
from biomass_pl.slide.pictures import draw_recall, draw_roc, draw_text_scores
from biomass_pl.slide.prediction_table import (
    CAPTION,
    REPORT,
    SPECIMEN,
    class_predictions,
    question_names,
    ranks_of,
    text_columns,
    with_ranks,
)
from biomass_pl.slide.scores import caption_scores, chance_scores, specimen_scores

_INTERVAL = ("_mean", "_ci_lower", "_ci_upper")
_MAIN = ("_to_text_R@1", "_to_image_R@1", "auc_roc", "bleu4")
"""Scores, by how they end, that are shown beside chance."""

_LESS = ("text_to_image", "fewshot")
"""Those of them, by how they begin, whose intervals are in the file only."""

_HIDDEN = ("bleu1", "bleu2", "bleu3", "_median_rank", "_precision", "_recall", "_balanced_accuracy", "_macro_f1")
"""Scores, by how they end, that the terminal has no room for."""

_PANEL = 6.0  # inches


class SlideReport(Report):
    """Tables with `specimen_id`, `patient_id`, `fold`, `report` and what a network of slides says of them.

    Args:
        embeddings: Whether the network compares images with texts, so that there are vectors to rank.
        questions: Number of questions with classes.
        bootstrap: How intervals over patients are found.
    """

    def __init__(self, *, embeddings: bool, questions: int, bootstrap: Bootstrap) -> None:
        self.uses_arrays = embeddings
        self.text_columns = text_columns(questions)
        self.bootstrap = bootstrap

    def with_array_columns(self, table: pd.DataFrame, arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
        """The table with the ranks of each specimen among those of its fold, in both directions."""
        return with_ranks(table, arrays)

    def score(self, table: pd.DataFrame, arrays: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """Scores a table of predictions with the columns of `with_array_columns`.

        Returns:
            `pooled` and `folds` (by number as text): `specimens`, and the published names that `specimen_scores` gives;
            None where a score is not defined. `pooled` also has their intervals over patients, where more than one
            draw is asked for. `constant`: both of what knows nothing of the specimens.

        Raises:
            DataError: There is no specimen.
        """
        if table.empty:
            raise DataError("There is no predicted specimen to score. Predict at least one.")
        folds = {str(fold): rows for fold, rows in table.groupby("fold")}
        pooled = _told(table, self.bootstrap)
        return {
            "pooled": {**pooled, "interval_over": "patients"},
            "folds": {fold: _told(rows, Bootstrap()) for fold, rows in folds.items()},
            "constant": {
                "pooled": _defined(chance_scores(table)),
                "folds": {fold: _defined(chance_scores(rows)) for fold, rows in folds.items()},
            },
        }

    def render(self, scores: dict[str, Any], *, title: str) -> Table:
        """A column for all folds pooled and one per fold; the main scores beside those of chance."""
        pooled, folds, constant = scores["pooled"], scores["folds"], scores["constant"]
        names = [name for name in constant["pooled"] if not name.endswith(_HIDDEN)]
        grid = score_grid(
            title=title,
            caption=_caption(scores, names, self.bootstrap.confidence),
            headings=["pooled", *(f"fold {fold}" for fold in folds)],
        )
        chances = [constant["pooled"], *constant["folds"].values()]
        for name in names:
            grid.add_row(Text(name), *(formatted(column.get(name)) for column in (pooled, *folds.values())))
            if name.endswith(_MAIN):
                grid.add_row(CONSTANT_ROW, *(formatted(column.get(name)) for column in chances))
        grid.add_row("specimens", *(str(column["specimens"]) for column in (pooled, *folds.values())))
        return grid

    def draw(self, table: pd.DataFrame, path: Path) -> None:
        """Draws what the table has: ranks, ROC curves of the questions with prompts, BLEU-4 of the captions."""
        ranks = ranks_of(table)
        questions = {name: class_predictions(table, name) for name in question_names(table) if name.startswith("task_")}
        panels: list[Callable[[Any], None]] = []
        if ranks is not None:
            galleries = table.groupby("fold")[SPECIMEN].transform("size").to_numpy()
            panels.append(lambda panel: draw_recall(panel, ranks, galleries))
        if questions:
            panels.append(lambda panel: draw_roc(panel, questions))
        if CAPTION in table:
            found = caption_scores(table, Bootstrap()).per_text["bleu4"]
            panels.append(lambda panel: draw_text_scores(panel, found, name="BLEU-4"))
        figure = Figure(figsize=(_PANEL * max(1, len(panels)), _PANEL), layout="constrained")
        for panel, draw in zip(figure.subplots(1, max(1, len(panels)), squeeze=False)[0], panels, strict=False):
            draw(panel)
        save_figure(figure, path)

    def write_pages(
        self, table: pd.DataFrame, scores: Mapping[str, Any], place: Callable[[str, str], Path], *, title: str
    ) -> list[Path]:
        """Writes the generated reports beside the true ones, as JSON and as a page, where there are any."""
        if CAPTION not in table:
            return []
        of_texts = caption_scores(table, Bootstrap())
        pooled = scores["pooled"]
        known = [name for score in of_texts.corpus for name in (score, *(score + part for part in _INTERVAL))]
        metrics = {name: np.nan if pooled[name] is None else pooled[name] for name in known if name in pooled}
        columns = zip(_names(table), table[REPORT], table[CAPTION], strict=True)
        captions = [
            Caption(
                name=name,
                truth=truth,
                generated=text,
                scores={score: float(values[row]) for score, values in of_texts.per_text.items()},
            )
            for row, (name, truth, text) in enumerate(columns)
        ]
        as_json, page = place("captions", ".json"), place("captions", ".html")
        write_caption_json(captions, metrics, as_json)
        write_caption_page(captions, metrics, page, title=title)
        return [as_json, page]

    def finished(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table as it is."""
        return table


def _told(table: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, Any]:
    return {"specimens": len(table), **_defined(specimen_scores(table, bootstrap))}


def _defined(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: defined(value) for name, value in scores.items()}


def _names(table: pd.DataFrame) -> list[str]:
    """Names of the specimens, with their folds where several folds describe them."""
    if table[SPECIMEN].is_unique:
        return table[SPECIMEN].tolist()
    return [f"{name} (fold {fold})" for name, fold in zip(table[SPECIMEN], table["fold"], strict=True)]


def _caption(scores: dict[str, Any], names: list[str], confidence: float) -> str:
    """The main scores of all folds pooled, with their intervals and those of the last epoch's weights."""
    pooled, last = scores["pooled"], scores.get("pooled_last")
    lines = []
    for name in names:
        if not name.endswith(_MAIN) or name.startswith(_LESS):
            continue
        ends = [formatted(pooled.get(name + part)) for part in _INTERVAL[1:]]
        line = f"{name} {formatted(pooled[name])}"
        line += f", {100 * confidence:g} % {' to '.join(ends)}" if f"{name}_ci_lower" in pooled else ""
        lines.append(line + (f"; last epoch {formatted(last[name])}" if last is not None else ""))
    return "\n".join([*lines, "constant: random order, shares of classes, another's report"])
