"""Tables of predictions: read exactly, scored, written with their scores and pictures, and shown."""

from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from biomass_pl.errors import RunError
from biomass_pl.evaluation.report import Report
from biomass_pl.files import write_json, write_table
from biomass_pl.terminal import say


def read_predictions(path: Path, id_columns: Sequence[str]) -> pd.DataFrame:
    """Reads a table of predictions exactly: names stay text, numbers keep their last digit.

    Raises:
        RunError: There is no such table, or it cannot be read.
    """
    try:
        return _parsed(path, id_columns)
    except (FileNotFoundError, pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        command = "biomass predict --split test" if path.name.startswith("test") else "biomass predict"
        raise RunError(f"{path} is not there or damaged. Make it: {command} --run {path.parent}") from error


def _parsed(source: Path | TextIO, id_columns: Sequence[str]) -> pd.DataFrame:
    return pd.read_csv(source, dtype=dict.fromkeys(id_columns, str), float_precision="round_trip")


def report_out_of_fold(
    origin: Path,
    report: Report,
    table: pd.DataFrame,
    path: Path,
    *,
    id_columns: Sequence[str],
    arrays: Mapping[str, np.ndarray] | None = None,
    last: pd.DataFrame | None = None,
) -> None:
    """Writes the pooled table and its scores, and prints them.

    Args:
        origin: Folder of the run or stack that predicted, for the title.
        report: How its predictions are scored.
        table: Rows of all folds.
        path: Where the table goes; the scores go beside it.
        id_columns: Columns that name an item.
        arrays: Arrays of the same rows, where the report scores any.
        last: The same rows as the weights of the last epoch predict them, where they did.
    """
    # The scores are those of the written table to the last digit: sums depend on how a table lies in memory.
    scores = report.score(_as_written(table, id_columns), arrays)
    if last is not None:
        scores["pooled_last"] = report.score(_as_written(last, id_columns))["pooled"]
    metrics = companion(path, "metrics", ".json")
    write_table(table, path)
    write_json(scores, metrics)
    report.draw(table, path.with_suffix(".png"))
    say(report.render(scores, title=f"Out-of-fold scores of {origin}"))
    say(f"{path}\n{path.with_suffix('.png')}\n{metrics}")


def _as_written(table: pd.DataFrame, id_columns: Sequence[str]) -> pd.DataFrame:
    return _parsed(StringIO(table.to_csv(index=False)), id_columns)


def companion(table: Path, what: str, suffix: str) -> Path:
    """What goes with a table of predictions: `oof_metrics.json` with `oof_predictions.csv`."""
    stem = table.stem.replace("predictions", what)
    return table.with_name(f"{stem if stem != table.stem else f'{stem}_{what}'}{suffix}")
