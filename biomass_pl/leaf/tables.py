"""Which photos of leaves there are and what class each shows: read from folders or a CSV table, checked as a whole."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from biomass_pl.data.photos import PHOTO_SUFFIXES
from biomass_pl.errors import DataError, listed

ORIGINALS = "Original Dataset"
COPIES = "Augmented Dataset"
"""Folders of the published layout, each with a folder per class."""

_COLUMNS = ("image_id", "path", "label", "group")
_REQUIRED = ("path", "label")
_TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx", ".xls")
_FIRST_LINE = 2
"""Line of a file's first row, after the header."""

_HOW_TO_GET = (
    "Make it a folder of photos per class, name the photos in a CSV table as data.labels, "
    "or render a sample: biomass sample --kind leaf --out {root}"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class LeafTable:
    """Photos with their classes.

    Args:
        originals: `image_id` (the path in the data folder, with /), `path` (of the file), `label`, and `group`, which
            is empty where a photo belongs to none; sorted by `image_id`.
        copies: The same of changed copies that were made beforehand.
    """

    originals: pd.DataFrame
    copies: pd.DataFrame

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return tuple(sorted(self.originals["label"].unique()))


def recognises(root: Path) -> bool:
    """Whether a folder is in the published layout, or has several folders of photos and no table beside them."""
    if not root.is_dir():
        return False
    if (root / ORIGINALS).is_dir():
        return True
    inside = [path for path in root.iterdir() if _is_visible(path)]
    folders = [path for path in inside if path.is_dir() and any(map(_is_photo, path.iterdir()))]
    return len(folders) > 1 and not any(path.suffix.lower() in _TABLE_SUFFIXES for path in inside)


def read_headings(labels: Path) -> dict[str, str | None]:
    """What each column of a label table is taken for, by its heading; none for one that is not used.

    Raises:
        DataError: The table cannot be read.
    """
    taken = {"path": "photo", "label": "class", "group": "what is kept in one fold"}
    return {str(heading): taken.get(str(heading)) for heading in _read_all(labels)}


def read_leaves(root: Path, labels: Path | None = None, *, opens_photos: bool = True) -> LeafTable:
    """Reads what is labelled.

    Args:
        root: Data folder with a folder of photos per class, or with `Original Dataset` and perhaps
            `Augmented Dataset`, each of which has a folder per class.
        labels: CSV table with the columns path, label and perhaps group, in place of folders. A path is looked up in
            `root`, then beside the table.
        opens_photos: Whether photos are read: then those of the table must be there, and changed copies are sought.

    Raises:
        DataError: There is nothing to learn from, or something in it is wrong; lists all of its kind.
    """
    if not root.is_dir():
        raise DataError(f"Data folder '{root}' does not exist. {_HOW_TO_GET.format(root=root)}")
    copies = pd.DataFrame(columns=list(_COLUMNS), dtype=str)
    if labels is not None:
        originals = _read_label_table(root, labels, opens_photos=opens_photos)
    elif (root / ORIGINALS).is_dir() or (root / COPIES).is_dir():
        originals = _read_class_folders(root, ORIGINALS)
        if opens_photos and (root / COPIES).is_dir():
            copies = _read_class_folders(root, COPIES)
    else:
        originals = _read_class_folders(root, ".")
    table = LeafTable(originals=originals.sort_values("image_id", ignore_index=True), copies=copies)
    if len(table.classes) < 2:
        raise DataError(
            f"{labels or root} has only the class '{table.classes[0]}'; there is nothing to tell apart. Add another."
        )
    strangers = sorted(set(copies["label"]) - set(table.classes))
    if strangers:
        raise DataError(
            f"{root / COPIES} has classes that {ORIGINALS} lacks. Name the folders alike in both:\n{listed(strangers)}"
        )
    return table


def require_one_label_per_content(table: LeafTable, contents: Mapping[str, str]) -> None:
    """Refuses a photo that stands under several classes.

    Args:
        table: Photos and copies.
        contents: What stands for the content of each, by `image_id`, such as a hash of its bytes.

    Raises:
        DataError: There is such a photo; names where it stands.
    """
    rows = pd.concat([table.originals, table.copies], ignore_index=True)
    content = rows["image_id"].map(contents)
    twice = rows[rows.groupby(content)["label"].transform("nunique") > 1]
    lines = [
        " and ".join(f"{row.image_id} ({row.label})" for row in same.itertuples())
        for _, same in twice.groupby(content, sort=False)
    ]
    if lines:
        raise DataError(
            f"{len(lines)} photo(s) stand under several classes, byte by byte the same. Keep each in the class that "
            f"it shows:\n{listed(lines)}"
        )


def _read_class_folders(root: Path, inside: str) -> pd.DataFrame:
    folder = root / inside
    classes = (
        sorted(path for path in folder.iterdir() if _is_visible(path) and path.is_dir()) if folder.is_dir() else []
    )
    if not classes:
        raise DataError(f"{folder} has no folder per class. {_HOW_TO_GET.format(root=root)}")
    found = {path: sorted(path.iterdir()) for path in classes}
    nested = [str(deeper) for files in found.values() for deeper in files if _is_visible(deeper) and deeper.is_dir()]
    if nested:
        raise DataError(
            f"{folder} has folders within its class folders, where photos are not looked for. Move their photos up, or "
            f"set data.root to the folder that holds the class folders:\n{listed(nested)}"
        )
    photos = {path: [file for file in files if _is_photo(file)] for path, files in found.items()}
    empty = [str(path) for path, files in photos.items() if not files]
    if empty:
        raise DataError(
            f"{len(empty)} class folder(s) hold no photo ({', '.join(PHOTO_SUFFIXES)}). Add photos, or remove the "
            f"folders:\n{listed(empty)}"
        )
    rows = [(file.relative_to(root).as_posix(), str(file), path.name, "") for path in classes for file in photos[path]]
    return pd.DataFrame(rows, columns=list(_COLUMNS), dtype=str)


def _is_visible(path: Path) -> bool:
    return not path.name.startswith(".")


def _is_photo(path: Path) -> bool:
    return _is_visible(path) and path.suffix.lower() in PHOTO_SUFFIXES


def _read_label_table(root: Path, labels: Path, *, opens_photos: bool) -> pd.DataFrame:
    rows = _read_csv(labels)
    named = rows["path"] != ""
    rows["image_id"] = [PurePosixPath(text.replace("\\", "/")).as_posix() for text in rows["path"]]
    rows["path"] = [_found(name, (root, labels.parent)) for name in rows["image_id"]]
    problems = [f"line {line}: path is empty" for line in _lines(~named)]
    problems += [f"line {line}: label is empty" for line in _lines(rows["label"] == "")]
    if not opens_photos:
        rows["path"] = rows["path"].fillna(rows["image_id"])
    missing = rows["path"].isna() & named
    twice = rows["image_id"].duplicated() & named & ~missing
    for what, chosen in (("does not exist", missing), ("is there twice", twice)):
        names = zip(_lines(chosen), rows["image_id"][chosen], strict=True)
        problems += [f"line {line}: photo {name} {what}" for line, name in names]
    spaced = rows["label"] != rows["label"].str.strip()
    names = zip(_lines(spaced), rows["label"][spaced], strict=True)
    problems += [f"line {line}: label '{label}' begins or ends with a space" for line, label in names]
    if problems:
        raise DataError(f"{labels} has {len(problems)} problem(s); correct these rows:\n{listed(problems)}")
    return rows[list(_COLUMNS)]


def _read_csv(labels: Path) -> pd.DataFrame:
    """The columns of the table that are used, as text."""
    rows = _read_all(labels)
    return rows.assign(group=rows.get("group", ""))[[*_REQUIRED, "group"]]


def _read_all(labels: Path) -> pd.DataFrame:
    if not labels.is_file():
        raise DataError(f"{labels} does not exist. Correct data.labels.")
    try:
        rows = pd.read_csv(labels, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{labels} is not a readable CSV table ({error}). Export it again as UTF-8 CSV.") from error
    if not isinstance(rows.index, pd.RangeIndex):
        # Pandas takes the first value of a row that is longer than the header for the name of the row.
        raise DataError(f"{labels} has rows with more values than its header has columns; correct it.")
    lacking = [name for name in _REQUIRED if name not in rows]
    if lacking:
        raise DataError(f"{labels} has no column {', '.join(lacking)}. Add what is missing.")
    if rows.empty:
        raise DataError(f"{labels} has no rows. Add the photos.")
    return rows


def _lines(chosen: pd.Series) -> Iterator[int]:
    return (int(row) + _FIRST_LINE for row in np.flatnonzero(chosen))


def _found(name: str, folders: Sequence[Path]) -> str | None:
    return next((str(folder / name) for folder in folders if (folder / name).is_file()), None)
