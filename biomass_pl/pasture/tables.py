"""Label and test tables in the competition's long layout, read and checked as a whole."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from biomass_pl.errors import DataError, listed
from biomass_pl.pasture.classes import UNKNOWN, class_codes
from biomass_pl.pasture.targets import CLOVER, DEAD, GDM, GREEN, TARGETS, TOTAL

logger = logging.getLogger(__name__)

METADATA = ("Sampling_Date", "State", "Species")
"""Columns that folds and auxiliary heads may use; a table of one's own may lack them."""

_TEST_COLUMNS = ("sample_id", "image_path", "target_name")
_LABEL_COLUMNS = (*_TEST_COLUMNS, "target")
_DATE = re.compile(r"\d{4}[/-]\d{1,2}[/-]\d{1,2}")
_FIRST_LINE = 2
"""Line of a file's first row, after the header."""

_ROUNDING_GRAMS = 0.01
"""The published grams have four decimals; a larger gap in an identity is not rounding."""

_HOW_TO_GET = (
    "Download the data of the Kaggle competition 'csiro-biomass' into it, "
    "or render a sample: biomass sample --out {root}"
)


def read_labels(root: Path) -> pd.DataFrame:
    """Reads `train.csv`, one row per photo.

    Args:
        root: Data folder with `train.csv` and the photos it names.

    Returns:
        Sorted by `image_id`: `image_id`, `image_path` (relative to `root`), those of `Sampling_Date`
        (year-month-day), `State` and `Species` that the file has, and the five targets in grams.

    Raises:
        DataError: The folder, the file or a column is missing, or rows are wrong; names up to ten of them.
    """
    path = root / "train.csv"
    rows = _read_rows(root, path, _LABEL_COLUMNS)
    problems = _row_problems(root, rows)
    rows["target"], wrong_targets = _parse_targets(rows["target"])
    rows, wrong_metadata = _parse_metadata(rows)
    problems += wrong_targets + wrong_metadata + _photo_problems(rows)
    if problems:
        raise DataError(f"{path} has {len(problems)} problem(s); correct these rows:\n{listed(problems)}")
    kept = [column for column in METADATA if column in rows]
    photos = rows.groupby("image_id", sort=True)[["image_path", *kept]].first()
    grams = rows.pivot(index="image_id", columns="target_name", values="target")[list(TARGETS)]
    return photos.join(grams).reset_index()


def read_test_photos(root: Path) -> pd.DataFrame:
    """Reads `test.csv`, one row per photo.

    Args:
        root: Data folder with `test.csv` and the photos it names.

    Returns:
        `image_id` and `image_path`, in the order of the file.

    Raises:
        DataError: The folder, the file or a column is missing, or rows are wrong.
    """
    path = root / "test.csv"
    rows = _read_rows(root, path, _TEST_COLUMNS)
    problems = _row_problems(root, rows)
    if problems:
        raise DataError(f"{path} has {len(problems)} problem(s); correct these rows:\n{listed(problems)}")
    return rows.drop_duplicates("image_id")[["image_id", "image_path"]].reset_index(drop=True)


def warn_about_labels(table: pd.DataFrame) -> None:
    """Logs what is odd but usable: broken identities and unknown states, species or months."""
    grams = table[list(TARGETS)].to_numpy()
    gaps = {
        "GDM = Green + Clover": grams[:, GDM] - grams[:, GREEN] - grams[:, CLOVER],
        "Total = GDM + Dead": grams[:, TOTAL] - grams[:, GDM] - grams[:, DEAD],
    }
    for identity, gap in gaps.items():
        broken = table["image_id"][np.abs(gap) > _ROUNDING_GRAMS].tolist()
        if broken:
            named = ", ".join(broken[:5]) + (", ..." if len(broken) > 5 else "")
            most = np.abs(gap).max()
            logger.warning("%s is broken for %d photo(s), by up to %.3g g: %s", identity, len(broken), most, named)
    codes = class_codes(table)
    for name, column in {"state": "State", "month": "Sampling_Date", "species": "Species"}.items():
        unknown = table[codes[name] == UNKNOWN]
        if column in table and len(unknown):
            values = ", ".join(sorted(unknown[column].fillna("empty").unique())[:5])
            logger.warning(
                "%d photo(s) have an unknown %s (%s); it is class -1 and teaches nothing", len(unknown), name, values
            )


def _read_rows(root: Path, path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """The rows of a long table as text, with `image_id` and the `line` each came from."""
    if not root.is_dir():
        raise DataError(f"Data folder '{root}' does not exist. " + _HOW_TO_GET.format(root=root))
    if not path.is_file():
        raise DataError(f"{path} does not exist. " + _HOW_TO_GET.format(root=root))
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable CSV table ({error}). Export it again as UTF-8 CSV.") from error
    if not isinstance(rows.index, pd.RangeIndex):
        # Pandas takes the first value of a row that is longer than the header for the name of the row.
        raise DataError(f"{path} has rows with more values than its header has columns. Export it again as UTF-8 CSV.")
    missing = [column for column in columns if column not in rows]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(rows.columns)}. "
            "Rename or add the missing ones."
        )
    if rows.empty:
        raise DataError(f"{path} has a header but no rows. " + _HOW_TO_GET.format(root=root))
    rows["line"] = rows.index + _FIRST_LINE
    rows["image_id"] = rows["sample_id"].str.rpartition("__")[0]
    return rows


def _row_problems(root: Path, rows: pd.DataFrame) -> list[str]:
    """What is wrong with ids, paths and target names, a line each."""
    wrong_id = (rows["image_id"] == "") | (rows["sample_id"].str.rpartition("__")[2] != rows["target_name"])
    problems = [
        f"line {row.line}: sample_id '{row.sample_id}' is not '<image id>__{row.target_name}'"
        for row in rows[wrong_id].itertuples()
    ]
    problems += [
        f"line {row.line}: unknown target_name '{row.target_name}'; known: {', '.join(TARGETS)}"
        for row in rows[~rows["target_name"].isin(TARGETS)].itertuples()
    ]
    problems += [
        f"line {row.line}: '{row.sample_id}' is there twice" for row in rows[rows.duplicated("sample_id")].itertuples()
    ]
    inside = root.resolve()
    for image_path, line in rows.groupby("image_path", sort=False)["line"].first().items():
        if "\0" in str(image_path):
            problems.append(f"line {line}: image_path {image_path!r} is not the name of a file")
        elif not (root / str(image_path)).resolve().is_relative_to(inside):
            problems.append(f"line {line}: image_path '{image_path}' leaves the data folder")
    ids = rows[~wrong_id].groupby("image_path", sort=False)["image_id"].nunique()
    # Under two ids one photo could be trained on and held out at once.
    problems += [f"image_path '{path}': more than one photo id" for path in ids.index[ids > 1]]
    paths = rows.groupby("image_id", sort=False)["image_path"].nunique()
    problems += [f"photo {image_id}: more than one image_path" for image_id in paths.index[paths > 1]]
    return problems


def _parse_targets(texts: pd.Series) -> tuple[pd.Series, list[str]]:
    """Grams as numbers, and a line for each value that is none."""
    grams = pd.to_numeric(texts, errors="coerce")
    usable = np.isfinite(grams) & (grams >= 0)
    return grams, [
        f"line {line}: target '{text}' is not a number of grams, zero or more" for line, text in _lines(texts[~usable])
    ]


def _parse_metadata(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Dates as year-month-day, empty texts as missing, and a line for each date that cannot be read."""
    rows = rows.copy()
    problems: list[str] = []
    if "Sampling_Date" in rows:
        texts = rows["Sampling_Date"]
        shaped = texts.where(texts.str.fullmatch(_DATE)).str.replace("/", "-")
        dates = pd.to_datetime(shaped, format="%Y-%m-%d", errors="coerce")
        rows["Sampling_Date"] = dates.dt.strftime("%Y-%m-%d")
        problems = [
            f"line {line}: Sampling_Date '{text}' is not a date; write year/month/day such as 2015/9/4"
            for line, text in _lines(texts[dates.isna() & (texts != "")])
        ]
    for column in ("State", "Species"):
        if column in rows:
            rows[column] = rows[column].where(rows[column] != "")
    return rows, problems


def _lines(texts: pd.Series) -> Iterator[tuple[int, str]]:
    """Values and the lines of the file they came from."""
    return zip(texts.index.to_numpy() + _FIRST_LINE, texts, strict=True)


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
