"""Which pasture photos are kept together in a fold: by date, site, month or not at all."""

from typing import Literal

import numpy as np
import pandas as pd

from biomass_pl.data.splits import split_folds
from biomass_pl.errors import FoldError, listed
from biomass_pl.pasture.targets import TARGETS, TOTAL

Strategy = Literal[
    "group_month", "group_date", "group_date_state", "group_date_state_bin", "group_site", "stratified", "random"
]

_COLUMNS = {
    "group_month": ("Sampling_Date",),
    "group_date": ("Sampling_Date",),
    "group_date_state": ("Sampling_Date", "State"),
    "group_date_state_bin": ("Sampling_Date", "State"),
    "group_site": ("Sampling_Date", "State"),
    "stratified": (),
    "random": (),
}
"""The metadata that a strategy needs for every photo."""


def make_folds(table: pd.DataFrame, *, strategy: Strategy, num_folds: int, seed: int) -> pd.Series:
    """Assigns every photo to the fold in which it is held out.

    Args:
        table: Label table, as `read_labels` returns it.
        strategy: How photos are kept together and spread.
        num_folds: Number of folds, two or more.
        seed: Seed of the shuffling.

    Returns:
        Fold number per photo, indexed by `image_id` and sorted by it; the order of the rows changes nothing.

    Raises:
        FoldError: The strategy needs a column that is missing or empty, or cannot fill every fold.
    """
    _require_columns(table, strategy)
    table = table.sort_values("image_id", ignore_index=True)
    groups, strata = _groups(table, strategy), None if strategy == "random" else _strata(table, strategy)
    return split_folds(
        table["image_id"],
        groups=groups,
        strata=strata,
        num_folds=num_folds,
        seed=seed,
        what=f"cv_strategy {strategy}",
        remedy="choose another data.cv_strategy",
    )


def photo_groups(table: pd.DataFrame, strategy: Strategy) -> pd.Series | None:
    """What a strategy keeps together: a label for each photo, indexed by `image_id`; none where it is nothing.

    Args:
        table: Label table, as `read_labels` returns it.
        strategy: How photos are kept together and spread.

    Raises:
        FoldError: The strategy needs a column that is missing or empty.
    """
    _require_columns(table, strategy)
    labels = _groups(table, strategy)
    return None if labels is None else pd.Series(labels.to_numpy(), index=pd.Index(table["image_id"]))


def _require_columns(table: pd.DataFrame, strategy: Strategy) -> None:
    for column in _COLUMNS[strategy]:
        if column not in table:
            raise FoldError(
                f"cv_strategy {strategy} needs the column {column}, which the label table lacks. "
                "Add it, or choose data.cv_strategy stratified."
            )
        empty = table["image_id"][table[column].isna()].tolist()
        if empty:
            raise FoldError(
                f"cv_strategy {strategy} needs {column} for every photo; {len(empty)} lack it. "
                f"Fill it in, or choose data.cv_strategy stratified:\n{listed(empty)}"
            )


def _groups(table: pd.DataFrame, strategy: Strategy) -> pd.Series | None:
    """Labels of what must stay in one fold; none for the strategies without groups."""
    if strategy in ("stratified", "random"):
        return None
    if strategy == "group_date":
        return table["Sampling_Date"]
    if strategy == "group_site":
        return table["State"] + " " + table["Sampling_Date"]
    return pd.to_datetime(table["Sampling_Date"]).dt.month


def _strata(table: pd.DataFrame, strategy: Strategy) -> np.ndarray:
    """Class labels that every fold should hold in the same shares."""
    if strategy == "group_date_state":
        return np.asarray(table["State"])
    grams = table[_stratified_target(table)]
    # Where all grams are equal there are no quartiles but one stratum.
    quartile = pd.qcut(grams, 4, labels=False, duplicates="drop").fillna(0).astype(int).astype(str)
    quartile = quartile.where(grams.notna(), "unknown")
    if strategy == "group_date_state_bin":
        return np.asarray(table["State"] + " " + quartile)
    return np.asarray(quartile)


def _stratified_target(table: pd.DataFrame) -> str:
    """The total; where no photo has one, the target that most have."""
    total = TARGETS[TOTAL]
    return total if table[total].notna().any() else str(table[list(TARGETS)].notna().sum().idxmax())
