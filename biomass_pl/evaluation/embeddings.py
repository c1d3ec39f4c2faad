"""What the backbones of a run make of photos, one vector each, in a file with their names. No torch."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from biomass_pl.errors import DataError
from biomass_pl.files import replacing

_VALUES = "embedding"


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """One vector per photo.

    Args:
        ids: Names of the photos; the name of the series is that of the column.
        values: Vectors (photos, D), float32.
    """

    ids: pd.Series
    values: np.ndarray

    def in_order(self, ids: pd.Series) -> "Embeddings":
        """The same photos in another order.

        Raises:
            DataError: A photo has no vector.
        """
        places = pd.Index(self.ids).get_indexer(pd.Index(ids))
        if (places < 0).any():
            missing = ids[places < 0]
            raise DataError(
                f"{len(missing)} photo(s) have no embedding, the first is {missing.iloc[0]}. "
                "Make them again: biomass predict"
            )
        return Embeddings(ids=ids, values=self.values[places])

    def write(self, path: Path) -> None:
        """Writes a NumPy archive: the names under the name of their column, the vectors under `embedding`."""
        arrays = {str(self.ids.name): self.ids.to_numpy(dtype=str), _VALUES: self.values}
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @staticmethod
    def read(path: Path) -> "Embeddings":
        """Reads what `write` wrote.

        Raises:
            DataError: The file cannot be read.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                (column,) = set(arrays.files) - {_VALUES}
                return Embeddings(ids=pd.Series(arrays[column], name=column), values=arrays[_VALUES])
        except (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} holds no embeddings ({error}). Make them again: biomass predict") from error

    @staticmethod
    def joined(parts: "Sequence[Embeddings]") -> "Embeddings":
        """All photos of several files, one after another."""
        return Embeddings(
            ids=pd.concat([part.ids for part in parts], ignore_index=True),
            values=np.concatenate([part.values for part in parts]),
        )

    @staticmethod
    def mean(parts: "Sequence[Embeddings]") -> "Embeddings":
        """Mean vectors of the same photos in the same order."""
        return Embeddings(ids=parts[0].ids, values=np.mean([part.values for part in parts], axis=0))
