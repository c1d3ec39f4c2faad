"""Tables of predictions: read exactly, scored, written with their scores and pictures, and shown."""

from collections.abc import Mapping, Sequence
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from biomass_pl.data.base import FoldDataModule
from biomass_pl.errors import RunError
from biomass_pl.evaluation.embeddings import Embeddings
from biomass_pl.evaluation.report import Report, ShowsPhotos, WritesPages
from biomass_pl.files import csv_text, write_json, write_table
from biomass_pl.harness.predictor import Predictions
from biomass_pl.terminal import say


def read_predictions(path: Path, text_columns: Sequence[str]) -> pd.DataFrame:
    """Reads a table of predictions exactly: texts stay as they are, numbers keep their last digit.

    Args:
        path: The table.
        text_columns: Columns that hold texts, such as those that name an item.

    Raises:
        RunError: There is no such table, or it cannot be read.
    """
    try:
        return _parsed(path, text_columns)
    except (FileNotFoundError, pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        command = "biomass predict --split test" if path.name.startswith("test") else "biomass predict"
        raise RunError(f"{path} is not there or damaged. Make it: {command} --run {path.parent}") from error


def _parsed(source: Path | TextIO, text_columns: Sequence[str]) -> pd.DataFrame:
    texts = dict.fromkeys(text_columns, str)
    # A missing value is written as nothing; `NA` and the like are texts.
    table = pd.read_csv(source, dtype=texts, float_precision="round_trip", keep_default_na=False, na_values=[""])
    return table.fillna({name: "" for name in texts if name in table})


def write_fold(predictions: Predictions, path: Path, id_column: str, report: Report) -> None:
    """Writes what one fold predicted: the table and, where the report scores any, the arrays beside it."""
    if report.uses_arrays:
        embeddings = Embeddings(ids=predictions.table[id_column], arrays=predictions.arrays)
        embeddings.write(companion(path, "embeddings", ".npz"))
    write_table(predictions.table, path)


def read_pooled(paths: Sequence[Path], id_columns: Sequence[str], report: Report) -> Predictions:
    """Reads what `write_fold` wrote of several folds, one after another."""
    texts = (*id_columns, *report.text_columns)
    table = pd.concat([read_predictions(path, texts) for path in paths], ignore_index=True)
    if not report.uses_arrays:
        return Predictions(table=table)
    parts = [Embeddings.read(companion(path, "embeddings", ".npz")) for path in paths]
    return Predictions(table=table, arrays=Embeddings.joined(parts).arrays)


def report_scores(
    origin: Path,
    report: Report,
    predictions: Predictions,
    path: Path,
    *,
    data: FoldDataModule,
    last: Predictions | None = None,
    items: str = "Out-of-fold",
    more: Mapping[str, Any] | None = None,
) -> None:
    """Writes the pooled table and its scores, and prints them.

    Args:
        origin: Folder of the run or stack that predicted, for the title.
        report: How its predictions are scored.
        predictions: Rows of all folds, with their arrays where the report scores any.
        path: Where the table goes; the scores go beside it.
        data: The data module, which knows what names an item and where its photo lies.
        last: The same rows as the weights of the last epoch predict them, where they did.
        items: Which items they are, for the title.
        more: What else goes into the file of scores.
    """
    table, texts = _completed(report, predictions), (*data.id_columns, *report.text_columns)
    # The scores are those of the written table to the last digit: sums depend on how a table lies in memory.
    scores = report.score(_as_written(table, texts), predictions.arrays)
    if last is not None:
        scores["pooled_last"] = report.score(_as_written(_completed(report, last), texts), last.arrays)["pooled"]
    metrics = companion(path, "metrics", ".json")
    write_table(table, path)
    write_json(scores | dict(more or {}), metrics)
    report.draw(table, path.with_suffix(".png"))
    pictures = [path.with_suffix(".png")]
    if isinstance(report, ShowsPhotos) and data.given is None:
        pictures.append(companion(path, "photos", ".png"))
        report.draw_photos(table, data.photos().read, pictures[-1])
    title, pages = f"{items} scores of {origin}", []
    if isinstance(report, WritesPages):
        pages = report.write_pages(table, scores, partial(companion, path), title=title)
    say(report.render(scores, title=title))
    say("\n".join(map(str, (path, *pictures, *pages, metrics))))


def _completed(report: Report, predictions: Predictions) -> pd.DataFrame:
    return report.with_array_columns(predictions.table, predictions.arrays)


def _as_written(table: pd.DataFrame, text_columns: Sequence[str]) -> pd.DataFrame:
    return _parsed(StringIO(csv_text(table), newline=""), text_columns)


def companion(table: Path, what: str, suffix: str) -> Path:
    """What goes with a table of predictions: `oof_metrics.json` with `oof_predictions.csv`."""
    stem = table.stem.replace("predictions", what)
    return table.with_name(f"{stem if stem != table.stem else f'{stem}_{what}'}{suffix}")
