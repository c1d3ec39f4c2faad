"""Tables of photos and of what was measured on them, read and checked as a whole."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from biomass_pl.data.photo_names import PhotoFiles, path_problem
from biomass_pl.data.table_values import parse_numbers
from biomass_pl.data.tables import TextTable, read_table
from biomass_pl.errors import ConfigError, DataError, listed

GROUP = "group"
"""Column of what is kept together, whatever it is called in a table of one's own."""

_OWN_NAMES = ("image_id", "image_path", "fold", GROUP, "error")
"""Columns that tables of predictions have beside the targets."""

_USUAL_TABLE, _USUAL_COLUMN = "table.csv", "photo"


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
        return path.is_file() and _USUAL_COLUMN in read_table(path).headings
    except DataError:
        return False


def read_headings(path: Path, columns: Columns, *, encoding: str | None = None) -> dict[str, str | None]:
    """What each column of a table is taken for, by its heading; none for one that is not used.

    Args:
        path: The table.
        columns: Which of its columns are read.
        encoding: Encoding of a CSV file; none takes UTF-8.

    Raises:
        DataError: It cannot be read.
    """
    taken = {target: "target" for target in columns.targets} | {columns.image: "photo"}
    taken |= {columns.group: "what is kept in one fold"} if columns.group is not None else {}
    return {str(heading): taken.get(str(heading)) for heading in _read(path, encoding).headings}


def read_measurements(path: Path, root: Path, columns: Columns, *, encoding: str | None = None) -> pd.DataFrame:
    """Reads a table of measured photos.

    Args:
        path: The table, CSV or Excel.
        root: Folder that paths of photos start from.
        columns: Which of its columns are read.
        encoding: Encoding of a CSV file; none takes UTF-8.

    Returns:
        In the order of the file: `image_id` (the photo's path), `image_path`, `group` where there is one, and the
        targets as numbers, NaN where one was not measured.

    Raises:
        ConfigError: There is no such encoding.
        DataError: The file or a column is missing, or rows are wrong; names up to ten of them.
    """
    wanted = [columns.image, *([columns.group] if columns.group is not None else []), *columns.targets]
    rows = _rows(path, wanted, encoding)
    found, problems = _photos(rows[columns.image], root)
    if columns.group is not None:
        problems += [f"line {line}: {columns.group} is empty" for line, text in rows[columns.group].items() if not text]
        found[GROUP] = rows[columns.group]
    for target in columns.targets:
        found[target], wrong = _numbers(rows[target])
        problems += wrong
        if not wrong and found[target].isna().all():
            problems.append(f"column {target}: no number at all")
    _refuse(path, problems)
    return found.reset_index(drop=True)


def read_photo_names(path: Path, root: Path, image_column: str, *, encoding: str | None = None) -> pd.DataFrame:
    """Reads `image_id` and `image_path` of the photos that a table names, in its order.

    Args:
        path: The table, CSV or Excel.
        root: Folder that paths of photos start from.
        image_column: Column with the paths.
        encoding: Encoding of a CSV file; none takes UTF-8.

    Raises:
        ConfigError: There is no such encoding.
        DataError: The file or the column is missing, or rows are wrong; names up to ten of them.
    """
    found, problems = _photos(_rows(path, [image_column], encoding)[image_column], root)
    _refuse(path, problems)
    return found.reset_index(drop=True)


def _read(path: Path, encoding: str | None) -> TextTable:
    if not path.is_file():
        raise DataError(f"{path} does not exist. Correct data.root and the name of the table.")
    return read_table(path, encoding=encoding)


def _rows(path: Path, wanted: list[str], encoding: str | None) -> pd.DataFrame:
    """The wanted columns as text without spaces around it; the index holds the lines of the file."""
    table = _read(path, encoding)
    missing = [name for name in wanted if name not in table.headings]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(table.headings)}. "
            "Correct data.targets, data.image_column or data.group_column."
        )
    if table.rows.empty:
        raise DataError(f"{path} has a header but no rows. Add the photos.")
    return pd.DataFrame({name: table.rows[name].str.strip() for name in wanted})


def _photos(names: pd.Series, root: Path) -> tuple[pd.DataFrame, list[str]]:
    """The files that a column names, and what is wrong with them, a line each."""
    problems = []
    for line, name in names.items():
        problem = path_problem(root, name) if name else "is empty"
        problems += [] if problem is None else [f"line {line}: {names.name} {problem}"]
    paths = names.map(PhotoFiles(root).find)
    twice = names[paths.duplicated() & (names != "")]
    problems += [f"line {line}: '{name}' is there twice" for line, name in twice.items()]
    return pd.DataFrame({"image_id": paths, "image_path": paths}), problems


def _numbers(texts: pd.Series) -> tuple[pd.Series, list[str]]:
    """Numbers, NaN where there is none, and a line for each text that is neither."""
    numbers, advice = parse_numbers(texts)
    numbers = numbers.astype(np.float64)
    with np.errstate(over="ignore"):
        too_large = numbers.notna() & ~np.isfinite(numbers.astype(np.float32))
    wrong = {**advice, **dict.fromkeys(numbers.index[too_large].tolist(), "")}
    problems = []
    for line, meant in wrong.items():
        told = f"write {meant}" if meant else "write a number, or leave the cell empty"
        problems.append(f"line {line}: {texts.name} '{texts[line]}' is not a number; {told}")
    return numbers, problems


def _refuse(path: Path, problems: list[str]) -> None:
    if problems:
        raise DataError(f"{path} has {len(problems)} problem(s); correct these rows:\n{listed(problems)}")
