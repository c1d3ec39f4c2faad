"""Numbers and days in text: decimal commas, thousands, and orders of the parts, only where there is no doubt."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomass_pl.data.table_values import is_missing, parse_dates, parse_numbers


def numbers(*texts):
    """Numbers, None for none, and what to write by the position."""
    values, advice = parse_numbers(pd.Series(texts, index=range(len(texts))))
    return [None if math.isnan(value) else value for value in values], advice


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1.5", "2", " 3 ", "-0.5", ".5", "1e2"], [1.5, 2, 3, -0.5, 0.5, 100]),
        (["1,5", "2", "0,25", ",5"], [1.5, 2, 0.25, 0.5]),
        (["1,234", "1,5"], [1.234, 1.5]),  # beside 1,5 there is no doubt
        (["0,123"], [0.123]),
        (["1234,567"], [1234.567]),
        (["1.234", "2.345"], [1.234, 2.345]),  # a point alone is a decimal point
        (["", " ", "NA", "n/a", "NaN", "null", "#N/A", "1"], [None] * 7 + [1]),
    ],
)
def test_numbers_without_doubt_are_read(texts, values):
    assert numbers(*texts) == (values, {})


@pytest.mark.parametrize(
    ("texts", "advice"),
    [
        (["1,234", "2"], {0: "1.234 or 1234"}),
        (["1,234", "2,345"], {0: "1.234 or 1234", 1: "2.345 or 2345"}),
        (["1,234,567"], {0: "1234567"}),
        (["12,5", "3.5"], {0: "12.5"}),
        (["1.234", "1,5"], {0: "1.234 or 1234", 1: "1.5"}),
        (["1.234", "2,345"], {0: "1.234 or 1234", 1: "2.345 or 2345"}),
        (["1.234,5", "1,5"], {0: "1234.5"}),
        (["1,234.5", "1.5"], {0: "1234.5"}),
        (["much", "1.5", "<1", "1 234,5", "-"], {0: "", 2: "", 3: "", 4: ""}),
    ],
)
def test_doubtful_numbers_are_refused_with_what_to_write(texts, advice):
    values, found = numbers(*texts)
    assert found == advice
    assert [place for place, value in enumerate(values) if value is None] == sorted(advice)


@given(values=st.lists(st.floats(0, 1e4).map(lambda value: round(value, 2)), min_size=1))
def test_a_column_with_decimal_commas_means_what_it_means_with_points(values):
    texts = [f"{value:.2f}" for value in values]
    assert numbers(*(text.replace(".", ",") for text in texts))[0] == numbers(*texts)[0] == values


def dates(*texts, date_format=None):
    days, advice = parse_dates(pd.Series(texts, index=range(len(texts))), date_format)
    return [None if pd.isna(day) else day for day in days], advice


@pytest.mark.parametrize("date_format", [None, "year-month-day", "day-month-year", "month-day-year"])
def test_a_day_that_begins_with_its_year_is_understood_always(date_format):
    texts = ["2015/9/4", "2015-09-04", "2015.9.4", "2015-09-04 10:30:00", " ", "NA"]
    assert dates(*texts, date_format=date_format) == (["2015-09-04"] * 4 + [None] * 2, {})


def test_the_setting_decides_which_number_is_the_day():
    assert dates("04/09/2015", "4.9.2015", date_format="day-month-year") == (["2015-09-04"] * 2, {})
    assert dates("04/09/2015", "4-9-2015", date_format="month-day-year") == (["2015-04-09"] * 2, {})


@pytest.mark.parametrize(
    ("text", "date_format", "setting"),
    [
        ("04/09/2015", None, "data.date_format: day-month-year (or month-day-year)"),
        ("25/09/2015", None, "data.date_format: day-month-year"),
        ("04/09/2015", "year-month-day", "data.date_format: day-month-year (or month-day-year)"),
        ("25/09/2015", "month-day-year", ""),
        ("30/2/2015", "day-month-year", ""),
        ("4-9-15", None, ""),
        ("42251", None, ""),
        ("soon", None, ""),
    ],
)
def test_other_days_are_refused_with_the_setting_that_would_help(text, date_format, setting):
    assert dates(text, date_format=date_format) == ([None], {0: setting})


def test_what_stands_for_no_value():
    assert is_missing(pd.Series(["", " ", "na", "0", "-", "none"])).tolist() == [True, True, True, False, False, False]


def test_one_day_beyond_twelve_tells_the_order_of_all():
    days, settings = dates("04/09/2015", "25/09/2015", "2015/9/4", "soon")
    assert days == [None, None, "2015-09-04", None]
    assert settings == {0: "data.date_format: day-month-year", 1: "data.date_format: day-month-year", 3: ""}
    assert dates("25/09/2015", "9/25/2015")[1] == {0: "", 1: ""}
