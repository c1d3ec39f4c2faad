"""Features of items in a file, by whichever network they were made: NumPy archives and Parquet tables. No torch."""

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from biomass_pl.errors import ConfigError, DataError
from biomass_pl.files import read_arrays, replacing

NAMES, FEATURES = "image_id", "features"
"""What a file holds: names of the items, and their features."""

_SHAPES = "(items, width), (items, tiles, width) or (items, views, tiles, width)"
_FORMS = f"Save {NAMES} (texts) and {FEATURES} {_SHAPES}"
_SUFFIXES = {".npz": "NumPy archive", ".parquet": "Parquet table"}
_NAMED = 3
"""Items that a message names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureFile:
    """Features of items by their names.

    Args:
        path: Where they were read, for messages.
        names: Names of the items, each once.
        values: Finite float32 numbers (items, width), (items, tiles, width) or (items, views, tiles, width).
    """

    path: Path
    names: list[str]
    values: np.ndarray

    def in_order(self, names: Sequence[str]) -> "FeatureFile":
        """The features of these items, in this order.

        Raises:
            DataError: Some of them are not in the file.
        """
        return replace(self, names=list(names), values=self.values[self.rows_of(names)])

    def rows_of(self, names: Sequence[str]) -> np.ndarray:
        """Rows in which these items stand.

        Raises:
            DataError: Some of them are not in the file.
        """
        places = pd.Index(self.names).get_indexer(pd.Index(names))
        missing = [name for name, place in zip(names, places, strict=True) if place < 0]
        if missing:
            more = ", ..." if len(missing) > _NAMED else ""
            raise DataError(
                f"{self.path} lacks {len(missing)} of {len(names)} items: {', '.join(missing[:_NAMED])}{more}. "
                "Add their features, or name another file."
            )
        return np.asarray(places)

    def pooled(self) -> np.ndarray:
        """Means over views and tiles, float32 (items, width)."""
        return np.asarray(self.values.mean(axis=tuple(range(1, self.values.ndim - 1)), dtype=np.float32))


def read_features(path: Path) -> FeatureFile:
    """Reads features of items from a file.

    A NumPy archive (`.npz`) holds the array `features` and its items' names as `image_id`. Where there is no array of
    these names, the only array of texts holds the names, and the only other one the features, as in the embeddings that
    `biomass predict` writes. A Parquet table (`.parquet`) has the columns `image_id` and `features`, lists of numbers.
    Nothing in a file is executed.

    Args:
        path: The file.

    Raises:
        ConfigError: The file is of another kind, or what reads Parquet is not installed.
        DataError: There is no such file, it is damaged, or it holds something else.
    """
    if path.suffix.lower() not in _SUFFIXES:
        kinds = " or ".join(f"a {kind} ({suffix})" for suffix, kind in _SUFFIXES.items())
        raise ConfigError(f"{path} is no file of features. Give {kinds}.")
    if not path.is_file():
        raise DataError(f"Features file {path} does not exist. Correct its name.")
    names, values = _from_archive(path) if path.suffix.lower() == ".npz" else _from_parquet(path)
    return _checked(path, names, values)


def write_features(path: Path, names: Sequence[str], values: np.ndarray, made_by: Mapping[str, Any]) -> None:
    """Writes features of items as a NumPy archive, whole or not at all.

    Args:
        path: The file.
        names: Names of the items.
        values: Their features, as in `FeatureFile`.
        made_by: What they depend on; kept as JSON under `made_by`.
    """
    texts = {NAMES: np.array(names, dtype=np.str_), "made_by": np.array(json.dumps(made_by, default=str))}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **texts, **{FEATURES: values})  # type: ignore[arg-type]


def _from_archive(path: Path) -> tuple[list[Any], np.ndarray]:
    try:
        arrays = read_arrays(path)
    except ValueError as error:
        raise DataError(f"{path} cannot be read as a NumPy archive ({error}). {_FORMS} with numpy.savez.") from error
    texts = [key for key, array in arrays.items() if array.dtype.kind == "U"]
    names_key = texts[0] if NAMES not in arrays and len(texts) == 1 else NAMES
    others = [key for key in arrays if key != names_key]
    features_key = others[0] if FEATURES not in arrays and len(others) == 1 else FEATURES
    for key in (names_key, features_key):
        if key not in arrays:
            _refuse(path, key, f"is not there; there is {', '.join(arrays) or 'nothing'}")
    names = arrays[names_key]
    if names.dtype.kind != "U" or names.ndim != 1:
        _refuse(path, names_key, f"is {names.dtype} of the shape {names.shape}, and no list of texts")
    return names.tolist(), arrays[features_key]


def _from_parquet(path: Path) -> tuple[list[Any], np.ndarray]:
    try:
        pyarrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"Reading {path} needs pyarrow. Install it (pip install pyarrow), or save the features as .npz."
        ) from error
    try:
        columns = parquet.read_schema(path).names
        for key in (NAMES, FEATURES):
            if key not in columns:
                _refuse(path, key, f"is not there; there is {', '.join(columns) or 'nothing'}")
        table = parquet.read_table(path, columns=[NAMES, FEATURES])
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as a Parquet table ({error}). {_FORMS}.") from error
    column = table[FEATURES].combine_chunks()
    shape = [len(column)]
    while pyarrow.types.is_list(column.type) or pyarrow.types.is_fixed_size_list(column.type):
        lengths = column.value_lengths().unique().to_pylist() if len(column) else [0]
        if len(lengths) > 1 or None in lengths:
            _refuse(path, FEATURES, "holds lists of different lengths, or none for some items")
        shape.append(lengths[0])
        column = column.flatten()
    values = column.to_numpy(zero_copy_only=False)
    return table[NAMES].to_pylist(), values.reshape(shape)


def _checked(path: Path, names: list[Any], values: np.ndarray) -> FeatureFile:
    if not all(isinstance(name, str) for name in names):
        _refuse(path, NAMES, "holds something else than texts")
    if values.dtype.kind not in "fiu" or values.ndim not in (2, 3, 4) or 0 in values.shape:
        _refuse(path, FEATURES, f"is {values.dtype} of the shape {values.shape}, and not numbers {_SHAPES}")
    if len(names) != len(values):
        _refuse(path, FEATURES, f"has {len(values)} rows for {len(names)} names")
    twice = pd.Index(names)[pd.Index(names).duplicated()].unique()
    if len(twice):
        _refuse(path, NAMES, f"names {len(twice)} items more than once, such as {twice[0]}")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused
        numbers = values.astype(np.float32, copy=False)
    unusable = ~np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1)
    if unusable.any():
        first = names[int(unusable.argmax())]
        _refuse(path, FEATURES, f"is NaN, infinite or beyond float32 for {unusable.sum()} items, the first {first}")
    return FeatureFile(path=path, names=names, values=numbers)


def _refuse(path: Path, key: str, what: str) -> NoReturn:
    raise DataError(f"{path}: {key} {what}. {_FORMS}.")
