"""Numbers and days in columns of text: read only where a column leaves no doubt of what they mean."""

import re
from collections.abc import Mapping
from typing import Literal

import pandas as pd

DateFormat = Literal["year-month-day", "day-month-year", "month-day-year"]
"""The order in which days are written; `-`, `/` and `.` separate the parts."""

_MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null"})

_WITH_COMMA = r"[+-]?\d*,\d+"
_GROUPED = {mark: rf"[+-]?[1-9]\d{{0,2}}(?:\{mark}\d{{3}})+" for mark in ",."}
"""Numbers whose comma or point may stand between thousands."""

_TIME = r"(?:[ T]\d{1,2}:\d{2}.*)?"
_YEAR_FIRST = re.compile(rf"(?P<year>\d{{4}})[-/.](?P<month>\d{{1,2}})[-/.](?P<day>\d{{1,2}}){_TIME}")
_YEAR_LAST: Mapping[DateFormat, re.Pattern[str]] = {
    "day-month-year": re.compile(rf"(?P<day>\d{{1,2}})[-/.](?P<month>\d{{1,2}})[-/.](?P<year>\d{{4}}){_TIME}"),
    "month-day-year": re.compile(rf"(?P<month>\d{{1,2}})[-/.](?P<day>\d{{1,2}})[-/.](?P<year>\d{{4}}){_TIME}"),
}


def is_missing(texts: pd.Series) -> pd.Series:
    """Whether each text stands for no value: an empty one, NA, N/A, NaN or null."""
    return texts.str.strip().str.lower().isin(_MISSING)


def parse_numbers(texts: pd.Series) -> tuple[pd.Series, dict[int, str]]:
    """Reads a column of numbers, with decimal commas where the column has no others and leaves no doubt of them.

    A comma or point before groups of three digits may also stand between thousands. So `1,234` is 1.234 beside `1,5`,
    and refused beside `2,345`, where both could be meant.

    Args:
        texts: A text per line of the file, its index.

    Returns:
        The numbers, NaN where missing or refused; and for each refused line what to write, empty where nobody knows.
    """
    texts = texts.str.strip()
    comma, point = (texts.str.contains(mark, regex=False) for mark in ",.")
    both = comma & point
    comma, point = comma & ~both, point & ~both
    decimal_comma = comma & texts.str.fullmatch(_WITH_COMMA) & ~texts.str.fullmatch(_GROUPED[","])
    decimal_point = point & ~texts.str.fullmatch(_GROUPED["."])
    refused = both.copy()
    if comma.any() and not decimal_point.any():
        refused |= point
    if not decimal_comma.any() or point.any():
        refused |= comma
    numbers = pd.to_numeric(texts.str.replace(",", ".", regex=False).where(~refused), errors="coerce")
    wrong = numbers.isna() & ~is_missing(texts)
    return numbers, {line: _as_meant(text) for line, text in zip(texts.index[wrong], texts[wrong], strict=True)}


def _as_meant(text: str) -> str:
    """What to write for a number that was refused."""
    last = max(",.", key=text.rfind)
    other = "." if last == "," else ","
    if not re.fullmatch(r"[+-]?[\d.,]*\d", text) or last not in text:
        return ""
    plain, grouped = text.replace(other, "").replace(",", "."), re.sub("[.,]", "", text)
    if text.count(last) > 1:
        return grouped
    return f"{plain} or {grouped}" if other not in text and re.fullmatch(_GROUPED[last], text) else plain


def parse_dates(texts: pd.Series, date_format: DateFormat | None) -> tuple[pd.Series, dict[int, str]]:
    """Reads a column of days; one that begins with its year is understood always.

    Args:
        texts: A text per line of the file, its index.
        date_format: The order of the others; none refuses them.

    Returns:
        Days such as 2015-09-04, missing where there is none or it was refused; and for each refused line the setting
        that would make days of all refused texts of its kind, empty where none would.
    """
    texts = texts.str.strip()
    days = texts.map(lambda text: _day(text, date_format))
    refused = texts[days.isna() & ~is_missing(texts)]
    others = [] if date_format in _YEAR_LAST else list(_YEAR_LAST)
    alike = {text for text in refused if any(_day(text, order) is not None for order in others)}
    fitting = [order for order in others if all(_day(text, order) is not None for text in alike)]
    setting = "data.date_format: " + " (or ".join(fitting) + ")" * (len(fitting) - 1) if fitting else ""
    return days, {line: setting if text in alike else "" for line, text in zip(refused.index, refused, strict=True)}


def _day(text: str, date_format: DateFormat | None) -> str | None:
    found = _YEAR_FIRST.fullmatch(text)
    if found is None and date_format is not None and date_format in _YEAR_LAST:
        found = _YEAR_LAST[date_format].fullmatch(text)
    if found is None:
        return None
    try:
        day = pd.Timestamp(year=int(found["year"]), month=int(found["month"]), day=int(found["day"]))
    except ValueError:
        return None
    return day.strftime("%Y-%m-%d")
