"""The tables of `biomass check`, worked by hand."""

from io import StringIO

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from biomass_pl.data.base import Truth
from biomass_pl.data.splits import Split
from biomass_pl.harness.check_tables import class_table, fold_table, heading_table, item_table, shape_table


class Data:
    """As much of a data module as tables ask."""

    id_columns = ("name",)
    item_noun = "stone"

    def __init__(self, truth: Truth | None = None) -> None:
        self.truth = truth

    def use(self, split: Split) -> None:
        self.training_count = split.training_count


def cells(table: Table) -> list[list[str]]:
    """What is printed, without title, rules and empty lines; cells are two spaces or a column's end apart."""
    return [[str(cell) for cell in row] for row in zip(*(column.cells for column in table.columns), strict=True)]


def headings(table: Table) -> list[str]:
    return [str(column.header) for column in table.columns]


ITEMS = pd.DataFrame(
    {
        "name": ["a", "b", "c", "d"],
        "kind": ["old", None, "old", "new"],
        "grams": [1.0, 3.0, np.nan, 10.0],
    }
)
FOLDS = pd.Series([0, 1, 0, -1], index=["a", "b", "c", "d"])
VALUES = Truth(kind="values", columns=("grams",), units=("g",))


def test_items_are_counted_and_numbers_have_a_range():
    table = item_table(Data(VALUES), ITEMS)
    assert str(table.title) == "4 stones"
    assert headings(table) == ["column", "known", "missing", "different", "least", "median", "greatest"]
    assert cells(table) == [
        ["name", "4", "0", "4", "-", "-", "-"],
        ["kind", "3", "1", "2", "-", "-", "-"],
        ["grams (g)", "3", "1", "3", "1", "3", "10"],
    ]


def test_folds_have_counts_and_means_of_what_they_hold_out():
    table = fold_table(Data(VALUES), ITEMS, FOLDS)
    assert headings(table) == ["fold", "held out", "to learn from", "grams (g)"]
    assert cells(table) == [["all", "4", "", "4.667"], ["0", "2", "2", "1"], ["1", "1", "3", "3"]]


def test_folds_follow_the_names_of_the_items_whatever_their_order():
    table = fold_table(Data(VALUES), ITEMS, FOLDS[::-1])
    assert cells(table)[1:] == [["0", "2", "2", "1"], ["1", "1", "3", "3"]]


def test_without_a_truth_folds_have_the_means_of_all_numbers():
    assert headings(fold_table(Data(), ITEMS, FOLDS))[3:] == ["grams"]


def test_folds_have_the_items_of_each_class():
    items = ITEMS.assign(kind=["old", "new", "old", "new"])
    table = fold_table(Data(Truth(kind="classes", columns=("kind",))), items, FOLDS)
    assert headings(table)[3:] == ["new", "old"]
    assert [row[3:] for row in cells(table)] == [["2", "2"], ["0", "2"], ["1", "0"]]


def test_of_many_classes_folds_have_the_number():
    items = pd.DataFrame({"name": list("abcdefghij"), "kind": [*list("123456789"), "1"]})
    folds = pd.Series([0] * 9 + [1], index=items["name"])
    truth = Truth(kind="classes", columns=("kind",))
    table = fold_table(Data(truth), items, folds)
    assert headings(table)[3:] == ["classes"] and [row[3] for row in cells(table)] == ["9", "9", "1"]
    assert cells(class_table(Data(truth), items))[:2] == [["1", "2"], ["2", "1"]]


def test_headings_are_gathered_by_what_they_are_taken_for():
    table = heading_table({"photo": "image", "a": None, "ears": "target", "b": None, "yield": "target"})
    assert cells(table) == [["image", "photo"], ["not used", "a, b"], ["target", "ears, yield"]]


def test_the_most_frequent_sizes_come_first_and_the_rest_is_counted():
    shapes = {str(number): (100, 100 + 10 * min(number // 2, 7)) for number in range(16)} | {"x": (50, 100)}
    table = shape_table(Data(), shapes)
    assert cells(table) == [
        ["100 x 100", "1.00", "2"],
        ["110 x 100", "1.10", "2"],
        ["120 x 100", "1.20", "2"],
        ["130 x 100", "1.30", "2"],
        ["140 x 100", "1.40", "2"],
        ["4 other sizes", "1.50 to 2.00", "7"],
    ]


def test_square_brackets_are_no_markup():
    text = StringIO()
    Console(file=text, width=80).print(heading_table({"[red]a[/x]": "[b]"}))
    assert "[red]a[/x]" in text.getvalue() and "[b]" in text.getvalue()
