"""Tables of photos and of what was measured on them, read and checked as a whole."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from biomass_pl.errors import ConfigError, DataError, listed

GROUP = "group"
"""Column of what is kept together, whatever it is called in a table of one's own."""

_OWN_NAMES = ("image_id", "image_path", "fold", GROUP, "error")
"""Columns that tables of predictions have beside the targets."""

_MISSING = ("", "NA", "NaN", "nan")
"""How spreadsheets, R and pandas write what was not measured."""

_USUAL_TABLE, _USUAL_COLUMN = "table.csv", "photo"
_NUMBER = r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?"
_FIRST_LINE = 2
"""Line of a file's first row, after the header."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a table hold what.

    Args:
        image: The photo's file, relative to the data folder.
        group: What is kept together; none where photos stand for themselves.
        targets: What was measured.

    Raises:
        ConfigError: A target's name cannot stand in a table of predictions, or a column is to hold two things.
    """

    image: str
    group: str | None
    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.targets:
            raise ConfigError("data.targets is empty. Name the columns of what was measured.")
        for name in self.targets:
            if not name.strip():
                raise ConfigError("data.targets holds an empty name. Name columns of the table.")
            if self.targets.count(name) > 1:
                raise ConfigError(f"data.targets names '{name}' twice. Leave one out.")
            if name in _OWN_NAMES or name.endswith("_pred"):
                raise ConfigError(
                    f"data.targets names '{name}', which is a column of tables of predictions "
                    f"({', '.join(_OWN_NAMES)}, and names that end in _pred). Rename the column."
                )
            if name in (self.image, self.group):
                raise ConfigError(
                    f"data.targets names '{name}', which data.image_column or data.group_column names as well. "
                    "Name another column."
                )


def recognises(root: Path) -> bool:
    """Whether a folder has a table of the usual name with a column of photos of the usual name."""
    path = root / _USUAL_TABLE
    try:
        return path.is_file() and _USUAL_COLUMN in read_table(path)
    except DataError:
        return False


def read_headings(path: Path, columns: Columns) -> dict[str, str | None]:
    """What each column of a table is taken for, by its heading; none for one that is not used.

    Args:
        path: The table.
        columns: Which of its columns are read.

    Raises:
        DataError: It cannot be read.
    """
    taken = {target: "target" for target in columns.targets} | {columns.image: "photo"}
    taken |= {columns.group: "what is kept in one fold"} if columns.group is not None else {}
    return {str(heading): taken.get(str(heading)) for heading in read_table(path)}


def read_measurements(path: Path, root: Path, columns: Columns) -> pd.DataFrame:
    """Reads a table of measured photos.

    Args:
        path: The table.
        root: Folder that paths of photos start from.
        columns: Which of its columns are read.

    Returns:
        In the order of the file: `image_id` (the path as it is written), `image_path`, `group` where there is one, and
        the targets as numbers, NaN where one was not measured.

    Raises:
        DataError: The file or a column is missing, or rows are wrong; names up to ten of them.
    """
    wanted = [columns.image, *([columns.group] if columns.group is not None else []), *columns.targets]
    rows = _require_columns(path, read_table(path), wanted)
    problems = _photo_problems(rows[columns.image], root)
    found = _named(rows[columns.image])
    if columns.group is not None:
        problems += [f"line {line}: {columns.group} is empty" for line, text in _lines(rows[columns.group]) if not text]
        found[GROUP] = rows[columns.group]
    for target in columns.targets:
        found[target], wrong = _numbers(rows[target])
        problems += wrong
        if not wrong and found[target].isna().all():
            problems.append(f"column {target}: no number at all")
    if problems:
        raise DataError(f"{path} has {len(problems)} problem(s); correct these rows:\n{listed(problems)}")
    return found.reset_index(drop=True)


def read_photo_names(path: Path, root: Path, image_column: str) -> pd.DataFrame:
    """Reads `image_id` and `image_path` of the photos that a table names, in its order.

    Args:
        path: The table.
        root: Folder that paths of photos start from.
        image_column: Column with the paths.

    Raises:
        DataError: The file or the column is missing, or rows are wrong; names up to ten of them.
    """
    rows = _require_columns(path, read_table(path), [image_column])
    problems = _photo_problems(rows[image_column], root)
    if problems:
        raise DataError(f"{path} has {len(problems)} problem(s); correct these rows:\n{listed(problems)}")
    return _named(rows[image_column]).reset_index(drop=True)


def read_table(path: Path) -> pd.DataFrame:
    """All cells of a CSV table as text, without the spaces around them; the index holds the lines of the file.

    Raises:
        DataError: It does not exist or cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist. Correct data.root and the name of the table.")
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable CSV table ({error}). Export it again as UTF-8 CSV.") from error
    if not isinstance(rows.index, pd.RangeIndex):
        # Pandas takes the first value of a row that is longer than the header for the name of the row.
        raise DataError(f"{path} has rows with more values than its header has columns. Export it again as UTF-8 CSV.")
    rows.index = rows.index + _FIRST_LINE
    return pd.DataFrame({name: rows[name].str.strip() for name in rows})


def _require_columns(path: Path, rows: pd.DataFrame, wanted: list[str]) -> pd.DataFrame:
    missing = [name for name in wanted if name not in rows]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(rows.columns)}. "
            "Correct data.targets, data.image_column or data.group_column."
        )
    if rows.empty:
        raise DataError(f"{path} has a header but no rows. Add the photos.")
    return rows


def _named(paths: pd.Series) -> pd.DataFrame:
    return pd.DataFrame({"image_id": paths, "image_path": paths})


def _photo_problems(paths: pd.Series, root: Path) -> list[str]:
    """What is wrong with paths of photos, a line each."""
    inside, problems = root.resolve(), []
    for line, path in _lines(paths):
        if not path:
            problems.append(f"line {line}: {paths.name} is empty")
        elif "\0" in path:
            problems.append(f"line {line}: {paths.name} {path!r} is not the name of a file")
        elif not (root / path).resolve().is_relative_to(inside):
            problems.append(f"line {line}: {paths.name} '{path}' leaves the data folder")
    return problems + [
        f"line {line}: '{path}' is there twice" for line, path in _lines(paths[paths.duplicated() & (paths != "")])
    ]


def _numbers(texts: pd.Series) -> tuple[pd.Series, list[str]]:
    """Numbers, NaN where there is none, and a line for each text that is neither."""
    numbers = pd.to_numeric(texts.where(texts.str.fullmatch(_NUMBER)), errors="coerce").astype(np.float64)
    with np.errstate(over="ignore"):
        usable = np.isfinite(numbers.astype(np.float32))
    wrong = texts[~(usable | texts.isin(_MISSING))]
    return numbers, [f"line {line}: {texts.name} '{text}' is not a number" for line, text in _lines(wrong)]


def _lines(texts: pd.Series) -> list[tuple[int, str]]:
    """Lines of the file and what stands there."""
    return list(zip(texts.index.tolist(), texts, strict=True))
