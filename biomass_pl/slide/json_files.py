"""JSON files of the user: read whole, and refused where they would not mean what they say."""

import json
from pathlib import Path
from typing import Any

from biomass_pl.errors import DataError


def read_json_object(path: Path, *, setting: str) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Args:
        path: The file.
        setting: The setting that names it, for messages.

    Raises:
        DataError: It does not exist, is no JSON object, or names something twice, of which only the last would count.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist. Correct {setting}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:  # includes text that is not UTF-8
        raise DataError(f"{path} is not the JSON file that {setting} needs ({error}). Correct it.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object, in braces, but {_kind(content)}. Correct it, or {setting}.")
    return content


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        msg = f"'{twice}' is there twice"
        raise ValueError(msg)
    return content


def _kind(content: object) -> str:
    return "a list" if isinstance(content, list) else f"'{content}'"
