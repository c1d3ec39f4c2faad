"""Metadata of lesions in the layout of ISIC 2024, read and checked as a whole."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from biomass_pl.errors import DataError, FoldError, listed

NAMES = ("isic_id", "patient_id")
TARGET = "target"

_HOW_TO_GET = (
    "Download the data of the Kaggle competition 'isic-2024-challenge' into it, "
    "or render a sample: biomass sample --kind lesion --out {root}"
)
_FIRST_LINE = 2
"""Line of a file's first row, after the header."""


def metadata_path(root: Path, split: str) -> Path:
    """Metadata of the photos of `train` or `test`."""
    return root / f"{split}-metadata.csv"


def read_lesions(root: Path, split: str) -> pd.DataFrame:
    """Reads the names of lesions and patients and, of `train`, which lesions are malignant.

    Returns:
        In the order of the file: `isic_id`, `patient_id`, and for `train` `target`, 0 benign and 1 malignant.

    Raises:
        DataError: The file or a column is missing, or rows are wrong; names up to ten of them.
    """
    wanted = (*NAMES, TARGET) if split == "train" else NAMES
    path = metadata_path(root, split)
    rows = _read(root, path, wanted)
    if rows.empty:
        raise DataError(f"{path} has no rows. Add the lesions.")
    problems = _missing_values(rows, NAMES)
    twice = rows["isic_id"].duplicated()
    problems += [f"line {line}: lesion {name} is there twice" for line, name in _located(rows["isic_id"], twice)]
    if TARGET in wanted:
        numbers = pd.to_numeric(rows[TARGET], errors="coerce")
        wrong = ~numbers.isin((0, 1))
        problems += [
            f"line {line}: target '{value}' is neither 0 nor 1" for line, value in _located(rows[TARGET], wrong)
        ]
        rows[TARGET] = numbers.mask(wrong, 0).astype(int)
    if problems:
        raise DataError(f"{path} has {len(problems)} problem(s); correct these rows:\n{listed(problems)}")
    return rows


def recognises(root: Path) -> bool:
    """Whether a folder has metadata of labelled lesions."""
    return metadata_path(root, "train").is_file()


def has_lesions(root: Path, split: str) -> bool:
    """Whether there are metadata of `train` or `test` with at least one row."""
    path = metadata_path(root, split)
    return path.is_file() and not _read_csv(path, nrows=1).empty


def read_metadata(root: Path, split: str) -> pd.DataFrame:
    """Reads all columns, missing values as such.

    Raises:
        DataError: The file cannot be read.
    """
    return _read(root, metadata_path(root, split), None)


def columns_of(root: Path, split: str) -> list[str]:
    """Names of the columns.

    Raises:
        DataError: The file cannot be read.
    """
    path = metadata_path(root, split)
    _require_file(root, path)
    return list(_read_csv(path, nrows=0).columns)


def require_one_fold_per_patient(lesions: pd.DataFrame, folds: pd.Series) -> None:
    """Refuses folds that put lesions of one patient on both sides.

    Args:
        lesions: As `read_lesions` returns them.
        folds: Fold per lesion, indexed by `isic_id`.

    Raises:
        FoldError: There is such a patient.
    """
    patients = lesions.set_index("isic_id")["patient_id"].loc[folds.index]
    counts = folds.groupby(patients.to_numpy()).nunique()
    split = counts.index[counts > 1].tolist()
    if split:
        raise FoldError(
            f"data.fold_csv puts lesions of {len(split)} patient(s) into several folds, where a model would know them "
            f"from training. Put all lesions of a patient into one:\n{listed([str(patient) for patient in split])}"
        )


def _require_file(root: Path, path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path} does not exist. {_HOW_TO_GET.format(root=root)}")


def _read(root: Path, path: Path, columns: Sequence[str] | None) -> pd.DataFrame:
    _require_file(root, path)
    if columns is not None:
        lacking = [column for column in columns if column not in _read_csv(path, nrows=0).columns]
        if lacking:
            raise DataError(f"{path} has no column {', '.join(lacking)}. Add what is missing.")
    return _read_csv(path, usecols=columns)[list(columns) if columns is not None else slice(None)]


def _read_csv(path: Path, *, usecols: Sequence[str] | None = None, nrows: int | None = None) -> pd.DataFrame:
    try:
        # In one piece: columns that pandas guesses part by part would get several kinds of values.
        return pd.read_csv(
            path,
            usecols=list(usecols) if usecols is not None else None,
            nrows=nrows,
            dtype=dict.fromkeys(NAMES, str),
            low_memory=False,
            encoding="utf-8-sig",
        )
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable CSV table ({error}). Export it again as UTF-8 CSV.") from error


def _missing_values(rows: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    return [f"line {line}: {name} is empty" for name in columns for line, _ in _located(rows[name], rows[name].isna())]


def _located(column: pd.Series, chosen: pd.Series) -> list[tuple[int, object]]:
    """Line in the file and value of the chosen rows."""
    rows = np.flatnonzero(chosen)
    return [(int(row) + _FIRST_LINE, column.iloc[row]) for row in rows]
