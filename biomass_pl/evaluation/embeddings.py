"""What the networks of a run make of items, named arrays of vectors, in a file with the items' names. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from biomass_pl.errors import DataError
from biomass_pl.files import read_arrays, replacing


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """One vector per item, or several of different kinds.

    Args:
        ids: Names of the items; the name of the series is that of the column.
        arrays: Vectors by what they are called (such as `embedding`, or `image` and `text`): each of shape
            (items, width), its rows those of `ids`.
    """

    ids: pd.Series
    arrays: Mapping[str, np.ndarray]

    def in_order(self, ids: pd.Series) -> "Embeddings":
        """The same items in another order.

        Raises:
            DataError: An item has no vector.
        """
        places = pd.Index(self.ids).get_indexer(pd.Index(ids))
        if (places < 0).any():
            missing = ids[places < 0]
            raise DataError(
                f"{len(missing)} photo(s) have no embedding, the first is {missing.iloc[0]}. "
                "Make them again: biomass predict"
            )
        return Embeddings(ids=ids, arrays={name: array[places] for name, array in self.arrays.items()})

    def matrix(self) -> np.ndarray:
        """All arrays side by side in their order, float32, shape (items, sum of the widths)."""
        return np.concatenate(list(self.arrays.values()), axis=1, dtype=np.float32)

    def write(self, path: Path) -> None:
        """Writes a NumPy archive: the names under the name of their column, every array under its own."""
        arrays = {str(self.ids.name): self.ids.to_numpy(dtype=str), **self.arrays}
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @staticmethod
    def read(path: Path) -> "Embeddings":
        """Reads what `write` wrote: the array of text holds the names.

        Raises:
            DataError: The file is damaged or holds something else.
        """
        try:
            return _checked(read_arrays(path))
        except ValueError as error:
            raise DataError(f"{path} holds no embeddings ({error}). Make them again: biomass predict") from error

    @staticmethod
    def joined(parts: "Sequence[Embeddings]") -> "Embeddings":
        """All items of several files, one after another."""
        return Embeddings(
            ids=pd.concat([part.ids for part in parts], ignore_index=True),
            arrays={name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays},
        )

    @staticmethod
    def mean(parts: "Sequence[Embeddings]") -> "Embeddings":
        """Mean vectors of the same items in the same order."""
        means = {name: np.mean([part.arrays[name] for part in parts], axis=0) for name in parts[0].arrays}
        return Embeddings(ids=parts[0].ids, arrays=means)


def _checked(arrays: dict[str, np.ndarray]) -> Embeddings:
    """Embeddings of a file's arrays.

    Raises:
        ValueError: They are not one column of names and vectors for each.
    """
    texts = [name for name, array in arrays.items() if array.dtype.kind == "U"]
    if len(texts) != 1:
        msg = f"one array of names is expected, not {len(texts)}"
        raise ValueError(msg)
    column = texts[0]
    ids = arrays.pop(column)
    if not arrays:
        msg = f"there is nothing beside {column}"
        raise ValueError(msg)
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or array.ndim != 2 or ids.shape != array.shape[:1]:
            msg = f"{name} is no row of numbers for each of {column}"
            raise ValueError(msg)
    return Embeddings(ids=pd.Series(ids, name=column), arrays=arrays)
