"""What a table may tell of a photo beside its grams: day, state and species."""

import pandas as pd

from biomass_pl.data.table_values import DateFormat, parse_dates

METADATA = ("Sampling_Date", "State", "Species")
"""Columns that folds and auxiliary heads may use; a table of one's own may lack them."""


def parse_days(texts: pd.Series, date_format: DateFormat | None, *, of: str) -> tuple[pd.Series, list[str]]:
    """Days as year-month-day, missing where empty, and a line for what is none; those of one remedy share a line.

    Args:
        texts: A text per line of the file, its index.
        date_format: The setting `data.date_format`.
        of: Heading of the column.
    """
    days, advice = parse_dates(texts, date_format)
    wrong = pd.Series(advice, index=pd.Index(list(advice)), dtype=object)
    problems = []
    for remedy, lines in wrong.groupby(wrong, sort=False):
        shown = lines.index[:1] if remedy else lines.index
        more = f", in {len(lines) - 1} more line(s) too" if remedy and len(lines) > 1 else ""
        told = f", or set {remedy}" if remedy else ""
        if not remedy and date_format is not None:
            told = f", or as data.date_format: {date_format} says"
        problems += [
            f"line {line}: {of} '{texts[line]}' is not a date; write year/month/day such as 2015/9/4{told}{more}"
            for line in shown
        ]
    return days, problems


def present(texts: pd.Series) -> pd.Series:
    """Texts without those that are empty."""
    return texts.where(texts.str.strip() != "")
