"""Files that are whole or absent: written beside their place, then renamed."""

import contextlib
import csv
import errno
import json
import os
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_DAMAGED_ARCHIVE = (OSError, RuntimeError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""What NumPy and its archives raise on a file that was cut, changed or is none."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` that takes its place when the block ends well.

    Args:
        path: The file to write or replace. Its folder is made when missing.
    """
    with _beside(path) as temporary:
        yield temporary
        os.replace(temporary, path)


def write_text(text: str, path: Path) -> None:
    """Writes a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(content: dict[str, Any], path: Path) -> None:
    """Writes a JSON file, whole or not at all; a NaN in it is an error."""
    write_text(_as_json(content), path)


def write_json_once(content: dict[str, Any], path: Path) -> None:
    """Writes a JSON file, whole, if there is none; of several processes the first one's stays."""
    with _beside(path) as temporary:
        temporary.write_text(_as_json(content), encoding="utf-8")
        # Unlike a rename, a link does not replace what is there.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)


def write_table(table: "pd.DataFrame", path: Path) -> None:
    """Writes a table as CSV without its index, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(csv_text(table), encoding="utf-8", newline="")  # line ends stay as they are


def csv_text(table: "pd.DataFrame") -> str:
    """A table as CSV without its index, of which every text reads back as it is."""
    text: str = table.to_csv(index=False)
    if "\r" in text:  # alone it is not quoted by itself, and would end a row
        text = table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
    return text


def read_arrays(path: Path) -> "dict[str, np.ndarray]":
    """All arrays of a NumPy archive by their names; nothing in it is executed.

    Raises:
        OSError: There is no such file.
        ValueError: It is damaged, or no such archive.
    """
    import numpy as np  # late: commands that answer at once need none

    with path.open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {name: np.asarray(archive[name]) for name in archive.files}
        except _DAMAGED_ARCHIVE as error:
            raise ValueError(str(error)) from error


def require_writable(path: Path) -> None:
    """Finds out whether a file can be written, before the work whose result it will hold; leaves nothing behind.

    Args:
        path: The file to write later.

    Raises:
        OSError: It cannot; `filename` is `path`.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        with _beside(path) as temporary:
            temporary.touch()
    finally:
        for folder in filter(Path.is_dir, missing):
            with contextlib.suppress(OSError):  # another process uses it by now
                folder.rmdir()


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Gives a path of its own to every writer, on whatever computer, and removes what is left there.

    Raises:
        OSError: The temporary file or its folder cannot be made or written; `filename` is `path`, which the user knows.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        # Where a file stands in the folder's place, making the folder would complain that it exists.
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        # A write to an open file, as on a full disk, fails without a name.
        is_ours = error.filename is None or str(error.filename) in {str(temporary), *map(str, path.parents)}
        if error.errno is None or not is_ours:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
