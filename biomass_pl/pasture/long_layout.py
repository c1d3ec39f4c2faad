"""The competition's layout of label and test tables: a row for each target of a photo."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from biomass_pl.data.photo_names import PhotoFiles, path_problem
from biomass_pl.data.table_values import DateFormat, parse_numbers
from biomass_pl.data.tables import TextTable
from biomass_pl.errors import DataError, listed
from biomass_pl.pasture.metadata import METADATA, parse_days, present
from biomass_pl.pasture.targets import TARGETS

_TEST_COLUMNS = ("sample_id", "image_path", "target_name")
_LABEL_COLUMNS = (*_TEST_COLUMNS, "target")
GRAMS = "grams"
"""What its column `target` holds."""

_TELLING = {"sample_id", "target_name", "target"}


def is_long(table: TextTable) -> bool:
    """Whether a table has a row for each target, by two of the columns that only such a table has."""
    return len(_TELLING & set(table.rows)) > 1


def long_headings() -> dict[str, str]:
    """What the columns are taken for, by their headings."""
    names = {"sample_id": "image_id, and which target", "image_path": "photo", "target_name": "which target"}
    return {**names, "target": GRAMS, **{column: column for column in METADATA}}


def long_labels(root: Path, table: TextTable, *, date_format: DateFormat | None) -> pd.DataFrame:
    """One row per photo of a label table, sorted by `image_id`; see `read_labels`.

    Raises:
        DataError: A column is missing, or rows are wrong; names up to ten of them.
    """
    rows = _with_ids(table, _LABEL_COLUMNS)
    problems = _row_problems(root, rows)
    rows["target"], wrong_targets = _parse_targets(rows["target"])
    rows, wrong_metadata = _parse_metadata(rows, date_format)
    _refuse(table, problems + wrong_targets + wrong_metadata + _photo_problems(rows))
    kept = [column for column in METADATA if column in rows]
    photos = rows.groupby("image_id", sort=True)[["image_path", *kept]].first()
    files = PhotoFiles(root)
    photos["image_path"] = photos["image_path"].map(files.find)
    grams = rows.pivot(index="image_id", columns="target_name", values="target")[list(TARGETS)]
    return photos.join(grams).reset_index()


def long_test_photos(root: Path, table: TextTable) -> pd.DataFrame:
    """`image_id` and `image_path` of the photos of a test table, in the order of the file.

    Raises:
        DataError: A column is missing, or rows are wrong; names up to ten of them.
    """
    rows = _with_ids(table, _TEST_COLUMNS)
    _refuse(table, _row_problems(root, rows))
    photos = rows.drop_duplicates("image_id")[["image_id", "image_path"]].reset_index(drop=True)
    return photos.assign(image_path=photos["image_path"].map(PhotoFiles(root).find))


def _refuse(table: TextTable, problems: list[str]) -> None:
    if problems:
        raise DataError(f"{table.path} has {len(problems)} problem(s); correct these rows:\n{listed(problems)}")


def _with_ids(table: TextTable, columns: Iterable[str]) -> pd.DataFrame:
    """The rows of a long table with `image_id`."""
    missing = [column for column in columns if column not in table.rows]
    if missing:
        raise DataError(
            f"{table.path} has no column {', '.join(missing)}; it has {', '.join(table.headings)}. "
            "Rename or add the missing ones."
        )
    return table.rows.assign(image_id=table.rows["sample_id"].str.rpartition("__")[0])


def _row_problems(root: Path, rows: pd.DataFrame) -> list[str]:
    """What is wrong with ids, paths and target names, a line each."""
    wrong_id = (rows["image_id"] == "") | (rows["sample_id"].str.rpartition("__")[2] != rows["target_name"])
    problems = [
        f"line {row.Index}: sample_id '{row.sample_id}' is not '<image id>__{row.target_name}'"
        for row in rows[wrong_id].itertuples()
    ]
    problems += [
        f"line {row.Index}: unknown target_name '{row.target_name}'; known: {', '.join(TARGETS)}"
        for row in rows[~rows["target_name"].isin(TARGETS)].itertuples()
    ]
    problems += [
        f"line {row.Index}: '{row.sample_id}' is there twice" for row in rows[rows.duplicated("sample_id")].itertuples()
    ]
    for line, image_path in rows["image_path"].drop_duplicates().items():
        problem = path_problem(root, image_path)
        problems += [] if problem is None else [f"line {line}: image_path {problem}"]
    ids = rows[~wrong_id].groupby("image_path", sort=False)["image_id"].nunique()
    # Under two ids one photo could be trained on and held out at once.
    problems += [f"image_path '{path}': more than one photo id" for path in ids.index[ids > 1]]
    paths = rows.groupby("image_id", sort=False)["image_path"].nunique()
    problems += [f"photo {image_id}: more than one image_path" for image_id in paths.index[paths > 1]]
    return problems


def _parse_targets(texts: pd.Series) -> tuple[pd.Series, list[str]]:
    """Grams as numbers, and a line for each value that is none; this layout has a value for every target."""
    grams, advice = parse_numbers(texts)
    usable = np.isfinite(grams) & (grams >= 0)
    return grams, [
        f"line {line}: target '{text}' is not a number of grams, zero or more{_write(advice.get(line))}"
        for line, text in texts[~usable].items()
    ]


def _write(advice: str | None) -> str:
    return f"; write {advice}" if advice else ""


def _parse_metadata(rows: pd.DataFrame, date_format: DateFormat | None) -> tuple[pd.DataFrame, list[str]]:
    """Dates as year-month-day, empty texts as missing, and a line for each date that cannot be read."""
    rows = rows.copy()
    problems: list[str] = []
    if "Sampling_Date" in rows:
        rows["Sampling_Date"], problems = parse_days(rows["Sampling_Date"], date_format, of="Sampling_Date")
    for column in ("State", "Species"):
        if column in rows:
            rows[column] = present(rows[column])
    return rows, problems


def _photo_problems(rows: pd.DataFrame) -> list[str]:
    """What is wrong between the rows of one photo, a line each."""
    targets = rows[rows["target_name"].isin(TARGETS)].groupby("image_id")["target_name"].agg(set)
    problems = [
        f"photo {image_id}: no row for {', '.join(sorted(set(TARGETS) - found))}"
        for image_id, found in targets.items()
        if len(found) < len(TARGETS)
    ]
    for column in METADATA:
        if column in rows:
            values = rows.groupby("image_id")[column].nunique()
            problems += [f"photo {image_id}: more than one {column}" for image_id in values.index[values > 1]]
    return problems
