"""Label and test tables of one's own: a row per photo, with a column for each target that is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from biomass_pl.data.photo_names import PhotoFiles, names_of_photos, path_problem
from biomass_pl.data.table_columns import AssignedColumns, Role, assign_columns, columns_setting
from biomass_pl.data.table_values import DateFormat, parse_numbers
from biomass_pl.data.tables import TextTable
from biomass_pl.errors import DataError, listed
from biomass_pl.pasture.metadata import METADATA, parse_days, present
from biomass_pl.pasture.sums import with_sums
from biomass_pl.pasture.targets import TARGETS

IMAGE = "image"

_ROLES = (
    Role(
        name=IMAGE,
        also=frozenset(
            {"photo", "file", "filename", "path"}
            | {f"{what}_{kind}" for what in ("image", "photo", "file") for kind in ("file", "name", "path")}
        ),
    ),
    *(Role(name=target) for target in TARGETS),
    Role(name="Sampling_Date", also=frozenset({"date"})),
    Role(name="State"),
    Role(name="Species"),
)


@dataclass(frozen=True, kw_only=True)
class WideSettings:
    """How a table of one's own is read.

    Args:
        columns: The setting `data.columns`.
        date_format: The setting `data.date_format`.
    """

    columns: Mapping[str, str | None] | None = None
    date_format: DateFormat | None = None


def wide_headings(table: TextTable, settings: WideSettings) -> dict[str, str]:
    """What the columns that are used are taken for, by their headings.

    Raises:
        ConfigError: `data.columns` cannot be.
        DataError: Several columns may be the same.
    """
    assigned = assign_columns(table, _ROLES, settings.columns)
    return {heading: name for name, heading in assigned.headings.items()}


def wide_labels(root: Path, table: TextTable, settings: WideSettings) -> tuple[pd.DataFrame, list[str]]:
    """One row per photo of a label table, sorted by `image_id`, and notes on what was found; see `read_labels`.

    Raises:
        ConfigError: `data.columns` cannot be.
        DataError: The table cannot be understood, or rows are wrong; names up to ten of them.
    """
    assigned = assign_columns(table, _ROLES, settings.columns)
    texts = {name: table.rows[heading].str.strip() for name, heading in assigned.headings.items()}
    _require_understood(table, assigned, any(target in texts for target in TARGETS))
    problems = _image_problems(root, texts[IMAGE])
    grams, wrong = _parse_grams(texts, table.rows.index, assigned)
    known = grams.notna()
    photos = pd.DataFrame({"image_path": texts[IMAGE].map(PhotoFiles(root).find)})
    problems += wrong + _same_files(photos["image_path"])
    for column in (column for column in METADATA if column in texts):
        if column == "Sampling_Date":
            photos[column], wrong = parse_days(texts[column], settings.date_format, of=assigned.headings[column])
            problems += wrong
        else:
            photos[column] = present(texts[column])
    grams[:] = with_sums(grams.to_numpy())
    problems += _negative_rests(grams.mask(known))
    if problems:
        raise DataError(f"{table.path} has {len(problems)} problem(s); correct these rows:\n{listed(problems)}")
    labelled = grams.notna().any(axis=1)
    if not labelled.any():
        raise DataError(f"{table.path} has no value in {', '.join(_target_headings(assigned))}. Fill some in.")
    notes = [*_guesses(table, assigned), *_filled_in(grams, known), *_left_out(table, labelled)]
    photos = photos.join(grams)[labelled]
    photos.insert(0, "image_id", names_of_photos(photos["image_path"].tolist()))
    return photos.sort_values("image_id", ignore_index=True), notes


def wide_test_photos(root: Path, table: TextTable, settings: WideSettings) -> pd.DataFrame:
    """`image_id` and `image_path` of the photos of a test table, in the order of the file.

    Raises:
        ConfigError: `data.columns` cannot be.
        DataError: The table cannot be understood, or rows are wrong; names up to ten of them.
    """
    chosen = {IMAGE: settings.columns[IMAGE]} if settings.columns and IMAGE in settings.columns else None
    assigned = assign_columns(table, _ROLES[:1], chosen)
    _require_understood(table, assigned, has_targets=True)
    images = table.rows[assigned.headings[IMAGE]].str.strip()
    paths = images.map(PhotoFiles(root).find)
    problems = _image_problems(root, images) + _same_files(paths)
    if problems:
        raise DataError(f"{table.path} has {len(problems)} problem(s); correct these rows:\n{listed(problems)}")
    return pd.DataFrame({"image_id": names_of_photos(paths.tolist()), "image_path": paths.tolist()})


def _require_understood(table: TextTable, assigned: AssignedColumns, has_targets: bool) -> None:
    """Refuses a table of which no column is known to hold photos, or none to hold grams."""
    lacking = [] if IMAGE in assigned.headings else ["the photos"]
    lacking += [] if has_targets else ["grams"]
    if lacking:
        missing = {} if IMAGE in assigned.headings else {IMAGE: "HEADING"}
        missing |= {} if has_targets else {"Dry_Total_g": "HEADING"}
        raise DataError(
            f"{table.path} has no column known to hold {' or '.join(lacking)}; it has {', '.join(table.headings)}. Say "
            f"which it is: {columns_setting(missing)}; the targets are {', '.join(TARGETS)}."
        )


def _image_problems(root: Path, images: pd.Series) -> list[str]:
    problems = [f"line {line}: no photo is named" for line in images.index[images == ""]]
    for line, name in images[images != ""].items():
        problem = path_problem(root, name)
        problems += [] if problem is None else [f"line {line}: photo {problem}"]
    return problems


def _same_files(paths: pd.Series) -> list[str]:
    repeated = paths[paths.duplicated() & (paths != "")]
    return [f"line {line}: photo '{path}' is there twice" for line, path in repeated.items()]


def _parse_grams(
    texts: Mapping[str, pd.Series], lines: pd.Index, assigned: AssignedColumns
) -> tuple[pd.DataFrame, list[str]]:
    """The five targets, NaN where a cell is empty or a column missing, and a line for each value that is wrong."""
    grams, problems = pd.DataFrame(np.nan, index=lines, columns=list(TARGETS)), []
    for target in TARGETS:
        if target not in texts:
            continue
        numbers, advice = parse_numbers(texts[target])
        grams[target] = numbers.astype(float)
        heading = assigned.headings[target]
        unusable = grams[target].notna() & ~(np.isfinite(grams[target]) & (grams[target] >= 0))
        for line in [*advice, *lines[unusable]]:
            told = f"write {advice[line]}" if advice.get(line) else "write a number, or leave the cell empty"
            problems.append(
                f"line {line}: {heading} '{texts[target][line]}' is not a number of grams, zero or more; {told}"
            )
    return grams, problems


def _negative_rests(filled: pd.DataFrame) -> list[str]:
    return [
        f"line {line}: {target} would be {value:.4g} g by the others, less than nothing; correct them"
        for target in TARGETS
        for line, value in filled[target][filled[target] < 0].items()
    ]


def _guesses(table: TextTable, assigned: AssignedColumns) -> list[str]:
    if not assigned.guessed:
        return []
    return [f"{table.path} is read by the names of its columns, as with {columns_setting(assigned.guessed)}"]


def _target_headings(assigned: AssignedColumns) -> list[str]:
    return [assigned.headings[target] for target in TARGETS if target in assigned.headings]


def _filled_in(grams: pd.DataFrame, known: pd.DataFrame) -> list[str]:
    counts = (grams.notna() & ~known).sum()
    told = [f"{target} of {count} photo(s)" for target, count in counts.items() if count]
    return [f"The sums tell {', '.join(told)}."] if told else []


def _left_out(table: TextTable, labelled: pd.Series) -> list[str]:
    lines = labelled.index[~labelled]
    if not len(lines):
        return []
    shown = ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
    return [f"{len(lines)} row(s) of {table.path} without any grams are left out: line {shown}"]
