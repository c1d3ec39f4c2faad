"""What `biomass check` tells of photos: their shapes, and a sheet of some that span what is known of all."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from biomass_pl.data.base import FoldDataModule
from biomass_pl.data.photos import Photos
from biomass_pl.errors import DataError
from biomass_pl.evaluation.photo_sheets import photo_sheet
from biomass_pl.terminal import progress

logger = logging.getLogger(__name__)

_SHOWN = 24
_SHOWN_SIDE = 256
_ALIKE = 1.1
"""How much wider or narrower a photo may be and still be of one shape with another."""

_LONGEST_NAME = 40


def photo_shapes(photos: Photos, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Height and width of photos by name, told without decoding; those that cannot be opened are left out."""

    def shape(name: str) -> tuple[int, int] | None:
        try:
            return photos.shape(name)
        except DataError:  # which the check of the data names
            return None

    found = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("Measuring photos", len(names)) as advance:
        for name, measured in zip(names, pool.map(shape, names), strict=True):
            advance()
            if measured is not None:
                found[name] = measured
    return found


def warn_of_unusual_shapes(shapes: Mapping[str, tuple[int, int]]) -> None:
    """Warns of photos that are more than a tenth wider or narrower than the others, where most are of one shape.

    Args:
        shapes: Height and width of each photo by its name.
    """
    height, width = Counter(shapes.values()).most_common(1)[0][0]
    ratios = {name: (shape[1] / shape[0]) / (width / height) for name, shape in shapes.items()}
    unusual = [name for name, ratio in ratios.items() if not 1 / _ALIKE <= ratio <= _ALIKE]
    if 0 < len(unusual) < len(shapes) / 2:
        logger.warning(
            "%d of %d photo(s) are of another shape than most, which are %.2f times as wide as high: %s%s",
            len(unusual),
            len(shapes),
            width / height,
            ", ".join(unusual[:3]),
            ", ..." if len(unusual) > 3 else "",
        )


def draw_thumbnails(data: FoldDataModule, items: pd.DataFrame, path: Path) -> int:
    """Draws photos that lie evenly between the least and the greatest truth, or among the classes.

    Args:
        data: The data module.
        items: The labelled photos that can be opened.
        path: The PNG file.

    Returns:
        How many there are on the sheet; those that cannot be decoded are left out.
    """
    chosen = items.iloc[_evenly(_order(data, items))]
    shown = list(_read(data, chosen))
    columns = ", ".join(data.truth.columns) if data.truth is not None else ""
    photo_sheet(shown, path, title=f"{len(shown)} of {len(items)} {data.item_noun}s by {columns}")
    return len(shown)


def _read(data: FoldDataModule, items: pd.DataFrame) -> Iterator[tuple[np.ndarray, str]]:
    photos, columns = data.photos(), data.truth.columns if data.truth is not None else ()
    for name, values in zip(items[data.id_columns[0]], items[list(columns)].to_numpy(dtype=object), strict=True):
        try:
            photo = photos.read(name, at_least=(_SHOWN_SIDE, _SHOWN_SIDE))
        except DataError:  # which the check of the data names
            continue
        known = [f"{column} {_told(value)}" for column, value in zip(columns, values, strict=True)]
        yield photo, "\n".join([name[-_LONGEST_NAME:], *known])


def _told(value: object) -> str:
    if isinstance(value, float):
        return "-" if np.isnan(value) else f"{value:.4g}"
    return str(value)


def _order(data: FoldDataModule, items: pd.DataFrame) -> np.ndarray:
    """Places of the items from the least to the greatest truth: by classes, or by the mean rank of the numbers."""
    columns = list(data.truth.columns) if data.truth is not None else []
    if data.truth is not None and data.truth.kind == "classes":
        return _class_by_class(items[columns[0]])
    ranks = items[columns].rank(pct=True).mean(axis=1).fillna(0.0)  # a missing number says nothing
    return np.argsort(ranks.to_numpy(), kind="stable")


def _class_by_class(classes: pd.Series) -> np.ndarray:
    """As many places of each class as there is room for, class after class."""
    within = classes.groupby(classes).cumcount()
    first = np.lexsort((classes.astype(str), within))[:_SHOWN]
    return np.asarray(first[np.argsort(classes.astype(str).to_numpy()[first], kind="stable")])


def _evenly(places: np.ndarray) -> np.ndarray:
    """At most as many of the places as are shown, the first and the last among them."""
    chosen = np.linspace(0, len(places) - 1, min(_SHOWN, len(places))).round().astype(int)
    return np.asarray(places[chosen])
