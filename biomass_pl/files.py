"""Files that are whole or absent: written beside their place, then renamed."""

import contextlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` that takes its place when the block ends well.

    Args:
        path: The file to write or replace. Its folder is made when missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process number keeps two writers of one file from meeting in the temporary one.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> None:
    """Writes a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(content: dict[str, Any], path: Path) -> None:
    """Writes a JSON file, whole or not at all; a NaN in it is an error."""
    write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", path)


def write_json_once(content: dict[str, Any], path: Path) -> None:
    """Writes a JSON file, whole, if there is none; of several processes the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        # Unlike a rename, a link does not replace what is there.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_table(table: "pd.DataFrame", path: Path) -> None:
    """Writes a table as CSV without its index, whole or not at all."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)
