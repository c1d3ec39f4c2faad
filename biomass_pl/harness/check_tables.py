"""The tables that `biomass check` shows: columns, items, classes, photos and folds, whatever the system."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from biomass_pl.data.base import FoldDataModule
from biomass_pl.data.splits import Split, fold_numbers

_MOST_SIZES = 5
_MOST_CLASSES = 8
"""Classes that have columns of their own beside the folds."""

_NUMBERS = ("least", "median", "greatest")


def heading_table(headings: Mapping[str, str | None]) -> Table:
    """What the columns of the label table are taken for.

    Args:
        headings: As `FoldDataModule.headings` gives them.
    """
    columns = defaultdict(list)
    for heading, taken in headings.items():
        columns[taken or "not used"].append(heading)
    rows = [(name, ", ".join(found)) for name, found in columns.items()]
    return _table("columns of the label table", ["taken for", "column"], rows, texts=2)


def item_table(data: FoldDataModule, items: pd.DataFrame) -> Table:
    """How many items have each value, and between what numbers they lie."""
    rows = []
    for column in map(str, items):
        values = items[column]
        known = values[values.notna()]
        numbers = [_number(value) for value in _least_median_greatest(known)] or ["-"] * len(_NUMBERS)
        counts = (len(known), len(values) - len(known), known.nunique())
        rows.append((_with_unit(data, column), *map(str, counts), *numbers))
    return _table(f"{len(items)} {data.item_noun}s", ["column", "known", "missing", "different", *_NUMBERS], rows)


def class_table(data: FoldDataModule, items: pd.DataFrame) -> Table:
    """How many items there are of each class."""
    columns = data.truth.columns if data.truth is not None else ()
    counts = [count for column in columns for count in _class_counts(items[column]).items()]
    return _table("classes", ["class", f"{data.item_noun}s"], [(name, str(count)) for name, count in counts])


def shape_table(data: FoldDataModule, shapes: Mapping[str, tuple[int, int]]) -> Table:
    """The most frequent sizes of photos.

    Args:
        data: The data module.
        shapes: Height and width of each in pixels.
    """
    sizes = Counter(shapes.values()).most_common()
    rows = [
        (f"{width} x {height}", f"{width / height:.2f}", str(count)) for (height, width), count in sizes[:_MOST_SIZES]
    ]
    others = sizes[_MOST_SIZES:]
    if others:
        ratios = sorted(width / height for (height, width), _ in others)
        count = sum(count for _, count in others)
        rows.append((f"{len(others)} other sizes", f"{ratios[0]:.2f} to {ratios[-1]:.2f}", str(count)))
    return _table("sizes", ["pixels", "width by height", f"{data.item_noun}s"], rows)


def fold_table(data: FoldDataModule, items: pd.DataFrame, folds: pd.Series) -> Table:
    """What each fold holds out: how many items, and of their truth the means or the classes.

    Leaves the data module at the last fold.

    Args:
        data: The data module.
        items: All items.
        folds: The fold in which each item is held out, indexed by its name.
    """
    headings, summary = _truth_summary(data, items)
    what = f"with {data.item_noun}s of each class" if _has_classes(data) else "with means of what they hold out"
    held_out = folds.loc[items[data.id_columns[0]]].to_numpy()
    rows = [("all", str(len(items)), "", *summary(items))]
    for fold in fold_numbers(folds):
        data.use(Split(fold=fold, folds=folds))
        inside = items[held_out == fold]
        rows.append((str(fold), str(len(inside)), str(data.training_count), *summary(inside)))
    return _table(f"folds, {what}", ["fold", "held out", "to learn from", *headings], rows)


def _truth_summary(data: FoldDataModule, items: pd.DataFrame) -> tuple[list[str], Callable[[pd.DataFrame], list[str]]]:
    """Headings, and what stands below them for some of the items."""
    if data.truth is not None and _has_classes(data):
        column = data.truth.columns[0]
        classes = list(_class_counts(items[column]))
        if len(classes) > _MOST_CLASSES:
            return ["classes"], lambda rows: [str(rows[column].nunique())]
        return classes, lambda rows: [str(_class_counts(rows[column]).get(name, 0)) for name in classes]
    if data.truth is not None:
        columns = list(data.truth.columns)
    else:
        columns = [str(column) for column in items if pd.api.types.is_numeric_dtype(items[column])]
    return (
        [_with_unit(data, column) for column in columns],
        lambda rows: [_number(rows[column].mean()) for column in columns],
    )


def _has_classes(data: FoldDataModule) -> bool:
    return data.truth is not None and data.truth.kind == "classes"


def _class_counts(values: pd.Series) -> dict[str, int]:
    """Items of each class by its name, in the order of the classes."""
    return {str(value): int(count) for value, count in values.value_counts().sort_index().items()}


def _least_median_greatest(known: pd.Series) -> list[float]:
    """Of numbers; empty for anything else."""
    if known.empty or not pd.api.types.is_numeric_dtype(known):
        return []
    return [float(value) for value in np.quantile(known.to_numpy(dtype=np.float64), (0, 0.5, 1))]


def _with_unit(data: FoldDataModule, column: str) -> str:
    units = dict(zip(data.truth.columns, data.truth.units, strict=False)) if data.truth is not None else {}
    return f"{column} ({units[column]})" if column in units else column


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4g}"


def _table(title: str, headings: Iterable[str], rows: Iterable[Iterable[str]], *, texts: int = 1) -> Table:
    """A table in which square brackets are no markup; behind the first columns, of texts, there are numbers."""
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, padding=0, title_justify="left", min_width=len(title) + 2)
    for number, heading in enumerate(headings):
        table.add_column(Text(heading), justify="right" if number >= texts else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
