"""Tables as people have them, CSV or Excel, read as text: nothing in them is evaluated, and what was found is told."""

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pandas as pd

from biomass_pl.data.excel import is_excel, read_sheet
from biomass_pl.errors import ConfigError, DataError

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""Byte order marks, each of which tells the encoding of the file that it begins."""

_EXPORT_AGAIN = "Export it again as UTF-8 CSV"

NumberedRow = tuple[int, list[str]]
"""The line of a file in which a row begins, and its values."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TextTable:
    """A table whose values are texts.

    Args:
        path: Its file.
        rows: A column for each heading; the index holds the lines of the file.
        notes: What was found out about the file that its reader should know.
    """

    path: Path
    rows: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def headings(self) -> list[str]:
        """The headings of the columns."""
        return [str(heading) for heading in self.rows]


def read_table(path: Path, *, encoding: str | None = None) -> TextTable:
    """Reads a CSV or Excel file, its first row being the headings; empty rows are left out.

    Whether commas, semicolons or tabs separate the values of a CSV file is found out. UTF-8, and UTF-16 with a byte
    order mark, are read by themselves. Of an Excel file the first sheet is read, with the values that it stored of
    its formulas.

    Args:
        path: The file.
        encoding: Encoding of a CSV file, such as cp1252; none takes UTF-8.

    Raises:
        ConfigError: There is no such encoding.
        DataError: The file cannot be read as a table; says why.
    """
    content = path.read_bytes()
    if is_excel(content):
        rows, notes = read_sheet(path, content)
    else:
        text = _decoded(path, content, encoding)
        separator = _separator(path, text)
        rows = _split(path, text, separator)
        notes = () if separator == "," else (f"{path} is separated by {_SEPARATORS[separator]}.",)
    return TextTable(path=path, rows=_framed(path, rows), notes=notes)


def _decoded(path: Path, content: bytes, encoding: str | None) -> str:
    mark = next((mark for mark in _MARKS if content.startswith(mark)), None)
    name = _MARKS[mark] if mark is not None else encoding or "utf-8"
    try:
        text = content.decode(name)
    except LookupError as error:
        raise ConfigError(
            f"data.encoding is {name!r}, which is no encoding known here. Give one such as cp1252 (Windows in western "
            "languages), utf-16-le or shift_jis."
        ) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = " ".join(f"{byte:02x}" for byte in content[error.start : error.start + 4])
        raise DataError(
            f"{path} is not a readable CSV table: line {line} holds the bytes {found}, which are not {name}. "
            f"{_EXPORT_AGAIN}, or name its encoding, such as data.encoding: cp1252 (Windows in western languages)."
        ) from error
    if "\0" in text.partition("\n")[0]:
        raise DataError(
            f"{path} is not a readable CSV table: its first line holds the byte 00, as UTF-16 does. {_EXPORT_AGAIN}, "
            "or name its encoding, such as data.encoding: utf-16-le."
        )
    return text


def _separator(path: Path, text: str) -> str:
    """What cuts the headings, and every row into as many values; the first of them for a single column."""
    widths = {separator: _heading_count(text, separator) for separator in _SEPARATORS}
    possible = [separator for separator, width in widths.items() if width > 1]
    fitting = [separator for separator in possible if _fits(text, separator)] or possible
    widest = [separator for separator in fitting if widths[separator] == max(widths[other] for other in fitting)]
    if len(widest) > 1:
        raise DataError(
            f"{path} can be cut at {' and at '.join(_SEPARATORS[separator] for separator in widest)}. Put headings "
            "that hold such a character into quotation marks."
        )
    return widest[0] if widest else ","


def _heading_count(text: str, separator: str) -> int:
    try:
        return len(next(_numbered_rows(text, separator), (0, []))[1])
    except csv.Error:
        return 0


def _fits(text: str, separator: str) -> bool:
    try:
        rows = [values for _, values in _numbered_rows(text, separator)]
    except csv.Error:
        return False
    width = len(rows[0])
    return all(len(values) >= width and not _is_filled(values[width:]) for values in rows)


def _split(path: Path, text: str, separator: str) -> list[NumberedRow]:
    try:
        return list(_numbered_rows(text, separator))
    except csv.Error as error:
        raise DataError(f"{path} is not a readable CSV table ({error}). {_EXPORT_AGAIN}.") from error


def _numbered_rows(text: str, separator: str) -> Iterator[NumberedRow]:
    """The rows that are not empty.

    Raises:
        csv.Error: Quotation marks are out of place; names the line.
    """
    # Strict: a quotation mark that never ends would swallow the rest of the table.
    reader, line = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True), 1
    try:
        for values in reader:
            if _is_filled(values):
                yield line, values
            line = reader.line_num + 1
    except csv.Error as error:
        msg = f"line {line}: {error}"
        raise csv.Error(msg) from error


def _framed(path: Path, rows: list[NumberedRow]) -> pd.DataFrame:
    """The rows below their headings.

    Raises:
        DataError: There are no headings, two alike, or rows of another length.
    """
    if not rows:
        raise DataError(f"{path} is not a readable CSV table (it is empty). {_EXPORT_AGAIN}.")
    headings = [heading.strip() for heading in rows[0][1]]
    while not headings[-1] and not any(_is_filled(values[len(headings) - 1 :]) for _, values in rows):
        headings.pop()
    width = len(headings)
    for line, values in rows:
        if _is_filled(values[width:]):
            raise DataError(
                f"{path} has rows with more values than its header has columns, the first in line {line}. "
                f"{_EXPORT_AGAIN}."
            )
        if len(values) < width:
            raise DataError(f"{path} has {len(values)} values for {width} columns in line {line}. {_EXPORT_AGAIN}.")
    headings = [heading or f"column {number}" for number, heading in enumerate(headings, start=1)]
    twice = next((heading for heading in headings if headings.count(heading) > 1), None)
    if twice is not None:
        raise DataError(f"{path} has two columns called {twice}. Rename one of them.")
    lines = pd.Index([line for line, _ in rows[1:]], name="line", dtype=int)
    return pd.DataFrame([values[:width] for _, values in rows[1:]], columns=headings, index=lines, dtype=str)


def _is_filled(values: list[str]) -> bool:
    return any(value.strip() for value in values)
