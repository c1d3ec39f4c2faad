"""Excel files as rows of texts: what a sheet has stored, without working out any formula."""

import importlib
import warnings
from datetime import date, datetime, time
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from biomass_pl.errors import DataError

_NEW, _OLD = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
"""First bytes of an XLSX file, and of what Excel wrote before 2007 or with a password."""


def is_excel(content: bytes) -> bool:
    """Whether the content of a file is that of an Excel file, whatever the file is called."""
    return content.startswith((_NEW, _OLD))


def read_sheet(path: Path, content: bytes) -> tuple[list[tuple[int, list[str]]], tuple[str, ...]]:
    """Reads the first sheet of an Excel file.

    Args:
        path: The file, for messages.
        content: Its bytes.

    Returns:
        The rows that are not empty, each with its number, all of one length; and what the reader should know.
        Days are written as 2015-09-04, whatever the sheet shows.

    Raises:
        DataError: The file cannot be read, or a formula has no stored value.
    """
    if content.startswith(_OLD):
        raise DataError(
            f"{path} is an Excel file of the old format or with a password. Save it in Excel as .xlsx without a "
            "password, or as CSV."
        )
    stored, written = (_workbook(path, content, data_only=data_only) for data_only in (True, False))
    sheet = stored.worksheets[0]
    rows = []
    for cells, sources in zip(sheet.iter_rows(), written.worksheets[0].iter_rows(), strict=True):
        for cell, source in zip(cells, sources, strict=True):
            # Excel marks the empty text, a value like others, by its type.
            if source.data_type == "f" and cell.value is None and cell.data_type == "n":
                raise DataError(
                    f"{path} has a formula without a stored value in cell {source.coordinate}. Open it in Excel or "
                    "LibreOffice and save it again, or save it as CSV."
                )
        texts = [_text(cell.value) for cell in cells]
        if any(text.strip() for text in texts):
            rows.append((cells[0].row, texts))
    notes: tuple[str, ...] = ()
    if len(stored.worksheets) > 1:
        notes = (f"{path} has {len(stored.worksheets)} sheets; the first, {sheet.title!r}, is read.",)
    return rows, notes


def _workbook(path: Path, content: bytes, *, data_only: bool) -> Any:
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ModuleNotFoundError as error:
        raise DataError(
            f"{path} is an Excel file, for which openpyxl is not installed. Install it: pip install "
            "'biomass-pl[excel]', or save the table as CSV."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of features beside the values, such as lists to choose from
            workbook = openpyxl.load_workbook(BytesIO(content), data_only=data_only, keep_links=False)
    except (BadZipFile, KeyError, ValueError, TypeError, OSError, SyntaxError) as error:
        raise DataError(f"{path} is not a readable Excel file ({error}). Save it again, or as CSV.") from error
    if not workbook.worksheets:
        raise DataError(f"{path} has no sheet with a table. Save the table as the first sheet, or as CSV.")
    return workbook


def _text(value: Any) -> str:
    """A stored value as text."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ")
    return value.isoformat() if isinstance(value, date | time) else str(value)
