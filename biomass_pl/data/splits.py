"""Which item is held out in which fold: dealt by groups and strata or given in a file, and what no split may do."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

from biomass_pl.data.tables import read_table
from biomass_pl.errors import DataError, FoldError, listed

NEVER_HELD_OUT = -1
"""Fold of an item that every training learns from and none is scored on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """One training: what it holds out, and what it learns from.

    Args:
        fold: Number of the fold that is held out.
        folds: The fold in which each item is held out, indexed by its name; `NEVER_HELD_OUT` for none.
    """

    fold: int
    folds: pd.Series

    def held_out(self, names: pd.Series) -> np.ndarray:
        """Whether each of these items is held out, booleans (items,)."""
        return np.asarray(self.folds.loc[names] == self.fold)

    @property
    def training_count(self) -> int:
        """Number of items to learn from."""
        return int((self.folds != self.fold).sum())


def fold_numbers(folds: pd.Series) -> list[int]:
    """The folds that hold something out, ascending."""
    return sorted(int(fold) for fold in folds.unique() if fold != NEVER_HELD_OUT)


def require_one_fold_per_content(folds: pd.Series, contents: Mapping[str, str]) -> None:
    """Refuses folds that hold out an item of which an equal copy is trained on.

    Args:
        folds: The fold of each item, indexed by its name.
        contents: What stands for the content of each item, such as a hash of its bytes.

    Raises:
        FoldError: There are such copies; names them.
    """
    content = pd.Series(contents).loc[folds.index]
    apart = folds.groupby(content.to_numpy()).nunique()
    copied = content[content.isin(apart.index[apart > 1])]
    if copied.empty:
        return
    lines = [
        " and ".join(f"{name} (fold {folds.loc[name]})" for name in group.index)
        for _, group in copied.groupby(copied.to_numpy(), sort=False)
    ]
    raise FoldError(
        "The same photo stands under several names in different folds, where a model would be scored on what it was "
        f"trained on. Remove the copies, or put them into one fold with data.fold_csv:\n{listed(lines)}"
    )


def split_folds(
    image_ids: pd.Series,
    *,
    groups: pd.Series | None,
    strata: np.ndarray | None,
    num_folds: int,
    seed: int,
    what: str,
    remedy: str,
) -> pd.Series:
    """Deals photos into folds of about equal size.

    Args:
        image_ids: Names of the photos.
        groups: What stays together in one fold, with strata; none deals photos one by one.
        strata: Classes that every fold should hold in the same shares; none does not look at classes.
        num_folds: Number of folds.
        seed: Seed of the shuffling.
        what: What made groups and strata, for messages.
        remedy: What else can be done where there are too few groups.

    Returns:
        Fold number per photo, indexed by its name, in the order given.

    Raises:
        FoldError: There are fewer folds than two, or than can be filled.
    """
    if num_folds < 2:
        raise FoldError(f"data.num_folds is {num_folds}; cross-validation needs two or more.")
    units, available = ("photos", len(image_ids)) if groups is None else ("groups", groups.nunique())
    if available < num_folds:
        raise FoldError(
            f"{what} finds {available} {units} for {num_folds} folds. "
            f"Lower data.num_folds to {available} at most, or {remedy}."
        )
    folds = pd.Series(NEVER_HELD_OUT, index=pd.Index(image_ids), name="fold")
    shuffled = {"n_splits": num_folds, "shuffle": True, "random_state": seed}
    splitter = StratifiedGroupKFold if groups is not None else KFold if strata is None else StratifiedKFold
    try:
        with warnings.catch_warnings():
            # Strata smaller than the number of folds cannot be in all of them; that is as it should be.
            warnings.filterwarnings("ignore", message="The least populated class")
            for fold, (_, held_out) in enumerate(splitter(**shuffled).split(image_ids, strata, groups)):
                folds.iloc[held_out] = fold
    except ValueError as error:
        raise FoldError(
            f"{what} cannot make {num_folds} folds of {len(image_ids)} photos ({error}). "
            "Lower data.num_folds, or give folds of your own as data.fold_csv."
        ) from error
    _require_photos_in_every_fold(folds, num_folds, what)
    return folds


def read_folds(path: Path, image_ids: pd.Series, *, encoding: str | None = None) -> pd.Series:
    """Reads given folds from a CSV or Excel file with the names of the photos and `fold`.

    The names stand in a column called as `image_ids` is, or `sample_id_prefix`. Fold -1 stays in training always; so
    one split into training and validation is written with the folds -1 and 0.

    Args:
        path: The fold file.
        image_ids: Photos that must be in it, no more and no fewer.
        encoding: Encoding of a CSV file; none takes UTF-8.

    Returns:
        Fold number per photo in the order of `image_ids`, indexed by `image_id`.

    Raises:
        FoldError: The file is missing or malformed, or its photos are not those of the label table.
    """
    if not path.is_file():
        raise FoldError(f"Fold file {path} does not exist. Correct data.fold_csv.")
    try:
        rows = read_table(path, encoding=encoding).rows
    except DataError as error:
        raise FoldError(f"Fold file {error}") from error
    names = str(image_ids.name)
    if names not in rows:
        rows = rows.rename(columns={"sample_id_prefix": names})
    if not {names, "fold"} <= set(rows.columns):
        raise FoldError(f"Fold file {path} needs the columns {names} (or sample_id_prefix) and fold; add or rename.")
    rows["fold"], problems = _parse_fold_numbers(rows["fold"])
    problems += [f"photo {name} is there twice" for name in rows[names][rows.duplicated(names)].unique()]
    listed_ids, known_ids = set(rows[names]), set(image_ids)
    problems += [f"photo {name} is not in the label table" for name in sorted(listed_ids - known_ids)]
    problems += [f"photo {name} of the label table has no fold" for name in sorted(known_ids - listed_ids)]
    if problems:
        raise FoldError(f"Fold file {path} has {len(problems)} problem(s); correct it:\n{listed(problems)}")
    folds = rows.set_index(names)["fold"].loc[image_ids.tolist()].astype(int)
    _require_photos_in_every_fold(folds, int(folds.max()) + 1, f"fold file {path}")
    return folds


def _parse_fold_numbers(texts: pd.Series) -> tuple[pd.Series, list[str]]:
    whole = texts.str.fullmatch(r"\d+(\.0)?|-1(\.0)?")
    numbers = pd.to_numeric(texts.where(whole), errors="coerce")
    problems = [
        f"line {line}: fold '{text}' is not a number from 0 up (or -1: always trained on)"
        for line, text in texts[~whole].items()
    ]
    return numbers, problems


def _require_photos_in_every_fold(folds: pd.Series, num_folds: int, origin: str) -> None:
    filled = set(fold_numbers(folds))
    always_trained = bool((folds == NEVER_HELD_OUT).any())
    # Only the first, for a file with a mistyped number can lack millions of folds.
    empty = next((fold for fold in range(num_folds) if fold not in filled), None)
    if num_folds < (1 if always_trained else 2) or empty is not None:
        what = "only one fold" if empty is None else f"no validation photos in fold {empty}"
        what = what if filled else "no photo to validate on"
        raise FoldError(f"The {origin} leaves {what}. Number the folds from 0 without gaps, or use fewer.")
