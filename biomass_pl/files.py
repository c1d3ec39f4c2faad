"""Files that are whole or absent: written beside their place, then renamed."""

import contextlib
import json
import os
import uuid
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
        table.to_csv(temporary, index=False)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Gives a path of its own to every writer, on whatever computer, and removes what is left there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
