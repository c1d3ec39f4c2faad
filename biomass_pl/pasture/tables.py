"""Label and test tables: found in the data folder, read in either layout, checked as a whole."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from biomass_pl.data.table_values import DateFormat
from biomass_pl.data.tables import TextTable, read_table
from biomass_pl.errors import ConfigError, DataError
from biomass_pl.pasture.classes import UNKNOWN, class_codes
from biomass_pl.pasture.long_layout import GRAMS, is_long, long_headings, long_labels, long_test_photos
from biomass_pl.pasture.sums import ROUNDING_GRAMS, SUMS
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.pasture.wide_layout import WideSettings, wide_headings, wide_labels, wide_test_photos

logger = logging.getLogger(__name__)

_LABELS, _TEST, _SUBMISSION = "train.csv", "test.csv", "sample_submission.csv"
_TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx", ".xlsm", ".xls")

_HOW_TO_GET = (
    "Download the data of the Kaggle competition 'csiro-biomass' into it, put a table of your own with a row per photo "
    "there, or render a sample: biomass sample --out {root}"
)


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """Where the tables of a data folder are, and how those of one's own are read.

    Args:
        table: The label table, relative to the folder; none takes train.csv, else the only table there.
        test_table: The test table, relative to the folder; none takes test.csv.
        columns: Headings by what their columns hold, where these are called otherwise.
        encoding: Encoding of CSV files; none takes UTF-8.
        date_format: Order in which days are written; none takes the year first.
    """

    table: Path | None = None
    test_table: Path | None = None
    columns: Mapping[str, str | None] | None = None
    encoding: str | None = None
    date_format: DateFormat | None = None

    @property
    def wide(self) -> WideSettings:
        """What concerns a table with a row per photo."""
        return WideSettings(columns=self.columns, date_format=self.date_format)


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """A label table.

    Args:
        photos: A row per photo, sorted by `image_id`: `image_id`, `image_path` (relative to the data folder), those of
            `Sampling_Date` (year-month-day), `State` and `Species` that the table has, and the five targets in grams,
            NaN where unknown.
        notes: What was found out about the table, to be told once.
    """

    photos: pd.DataFrame
    notes: tuple[str, ...] = ()


def load_labels(root: Path, settings: TableSettings | None = None) -> Labels:
    """Reads the label table of a data folder.

    Args:
        root: Data folder with the table and the photos it names.
        settings: Which table it is, and how it is read.

    Raises:
        ConfigError: A setting cannot be.
        DataError: The folder, the file or a column is missing, or rows are wrong; names up to ten of them.
    """
    settings = settings or TableSettings()
    _require_folder(root)
    path, notes = _label_path(root, settings)
    table = _read(root, path, settings, setting="table")
    if is_long(table):
        _refuse_columns(table, settings)
        photos = long_labels(root, table, date_format=settings.date_format)
        return Labels(photos=photos, notes=(*notes, *table.notes))
    photos, found = wide_labels(root, table, settings.wide)
    return Labels(photos=photos, notes=(*notes, *table.notes, *found))


def recognises(root: Path) -> bool:
    """Whether a folder has a label table of the competition, or a single table with a column of grams.

    One that cannot be read counts too, so that it is told why.
    """
    if (root / _LABELS).is_file():
        return True
    tables = _tables_in(root, TableSettings()) if root.is_dir() else []
    if len(tables) != 1:
        return False
    try:
        taken = _taken_for(read_table(tables[0]), TableSettings()).values()
    except DataError:
        return True
    return any(grams in taken for grams in (GRAMS, *TARGETS))


def read_headings(root: Path, settings: TableSettings | None = None) -> dict[str, str | None]:
    """What each column of the label table of a data folder is taken for, by its heading; none for one that is not used.

    Args:
        root: Data folder.
        settings: Which table it is, and how it is read.

    Raises:
        ConfigError: A setting cannot be.
        DataError: The folder or the file is missing, or a column cannot be chosen.
    """
    settings = settings or TableSettings()
    _require_folder(root)
    path, _ = _label_path(root, settings)
    table = _read(root, path, settings, setting="table")
    taken = _taken_for(table, settings)
    return {heading: taken.get(heading) for heading in table.headings}


def _taken_for(table: TextTable, settings: TableSettings) -> dict[str, str]:
    return long_headings() if is_long(table) else wide_headings(table, settings.wide)


def has_test_table(root: Path, settings: TableSettings) -> bool:
    """Whether there is a test table, or a setting that names one."""
    return settings.test_table is not None or (root / _TEST).is_file()


def read_labels(root: Path, settings: TableSettings | None = None) -> pd.DataFrame:
    """The photos of `load_labels`."""
    return load_labels(root, settings).photos


def read_test_photos(root: Path, settings: TableSettings | None = None) -> pd.DataFrame:
    """Reads the test table of a data folder.

    Args:
        root: Data folder with the table and the photos it names.
        settings: Which table it is, and how it is read.

    Returns:
        `image_id` and `image_path`, in the order of the file.

    Raises:
        ConfigError: A setting cannot be.
        DataError: The folder, the file or a column is missing, or rows are wrong.
    """
    settings = settings or TableSettings()
    _require_folder(root)
    table = _read(root, root / (settings.test_table or _TEST), settings, setting="test_table")
    return long_test_photos(root, table) if is_long(table) else wide_test_photos(root, table, settings.wide)


def warn_about_labels(table: pd.DataFrame) -> None:
    """Logs what is odd but usable: unknown grams, broken sums and unknown states, species or months."""
    _warn_about_unknown_grams(table)
    grams = table[list(TARGETS)].to_numpy()
    for (whole, one, other), text in zip(SUMS, ("GDM = Green + Clover", "Total = GDM + Dead"), strict=True):
        gap = np.abs(grams[:, whole] - grams[:, one] - grams[:, other])
        broken = table["image_id"][gap > ROUNDING_GRAMS].tolist()
        if broken:
            named = ", ".join(broken[:5]) + (", ..." if len(broken) > 5 else "")
            logger.warning(
                "%s is broken for %d photo(s), by up to %.3g g: %s", text, len(broken), np.nanmax(gap), named
            )
    codes = class_codes(table)
    for name, column in {"state": "State", "month": "Sampling_Date", "species": "Species"}.items():
        unknown = table[codes[name] == UNKNOWN]
        if column in table and len(unknown):
            values = ", ".join(sorted(unknown[column].fillna("empty").unique())[:5])
            logger.warning(
                "%d photo(s) have an unknown %s (%s); it is class -1 and teaches nothing", len(unknown), name, values
            )


def _warn_about_unknown_grams(table: pd.DataFrame) -> None:
    known = table[list(TARGETS)].notna().sum()
    never = [target for target in TARGETS if not known[target]]
    if never:
        logger.warning(
            "%s: known of no photo, so that nothing teaches what is predicted of it; left out of the scores.",
            ", ".join(never),
        )
    partly = [f"{target} of {known[target]}" for target in TARGETS if 0 < known[target] < len(table)]
    if partly:
        logger.warning("Not known of all %d photos: %s; the others teach what they can.", len(table), ", ".join(partly))


def _require_folder(root: Path) -> None:
    if not root.is_dir():
        raise DataError(f"Data folder '{root}' does not exist. " + _HOW_TO_GET.format(root=root))


def _label_path(root: Path, settings: TableSettings) -> tuple[Path, tuple[str, ...]]:
    """The file of the label table, and a note where it was not named."""
    if settings.table is not None or (root / _LABELS).is_file():
        return root / (settings.table or _LABELS), ()
    tables = _tables_in(root, settings)
    if len(tables) > 1:
        names = ", ".join(file.name for file in tables)
        raise DataError(
            f"{root} has several tables: {names}. Say which holds the labels, such as data.table: {tables[0].name}"
        )
    if not tables:
        return root / _LABELS, ()
    return tables[0], (f"The labels are read from {tables[0]}, the only table in {root}.",)


def _tables_in(root: Path, settings: TableSettings) -> list[Path]:
    """Files that may be the label table."""
    other = {_TEST, _SUBMISSION, str(settings.test_table)}
    tables = sorted(
        file for file in root.iterdir() if file.suffix.lower() in _TABLE_SUFFIXES and file.name not in other
    )
    return [file for file in tables if not file.name.startswith((".", "~$"))]


def _read(root: Path, path: Path, settings: TableSettings, *, setting: Literal["table", "test_table"]) -> TextTable:
    is_named = getattr(settings, setting) is not None
    if not path.is_file():
        remedy = f"Correct data.{setting}, a file in {root}." if is_named else _HOW_TO_GET.format(root=root)
        raise DataError(f"{path} does not exist. {remedy}")
    table = read_table(path, encoding=settings.encoding)
    if table.rows.empty:
        remedy = _HOW_TO_GET.format(root=root) if path.name in (_LABELS, _TEST) else "Fill some in."
        raise DataError(f"{path} has a header but no rows. {remedy}")
    return table


def _refuse_columns(table: TextTable, settings: TableSettings) -> None:
    if settings.columns:
        raise ConfigError(
            f"data.columns names the columns of a table with a row per photo, and {table.path} has a row for each "
            "target of a photo. Leave data.columns out."
        )
