"""Features that were given in a file: what datasets read instead of pixels in every epoch, from whichever network."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from biomass_pl.data.bank import photo_key
from biomass_pl.data.feature_files import FeatureFile, read_features

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenFeatures:
    """Features of items by their names, the same in every epoch.

    Args:
        file: The features as they were read.
        rows: Row of each item in them.
    """

    file: FeatureFile
    rows: Mapping[str, int]

    views = 0
    """Changed views of an item: there are none."""

    epochs = math.inf
    """Epochs in which they are read."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Views of an item, tiles of each, numbers of each tile; what a file does not tell apart counts as one."""
        *parts, width = self.file.values.shape[1:]
        views, tiles = [1] * (2 - len(parts)) + list(parts)
        return views, tiles, width

    @property
    def item_bytes(self) -> int:
        """Size of the features of an item."""
        return math.prod(self.shape) * np.dtype(np.float32).itemsize

    def serve(self, epoch: int) -> bool:
        """That every epoch reads features instead of pixels."""
        return True

    def read(self, name: str, path: Path, view: int) -> np.ndarray:
        """Features of an item, float32 of `shape`; neither its file nor the view matters."""
        return self._of(name).reshape(self.shape)

    def vector(self, name: str) -> np.ndarray:
        """Mean feature of an item over its views and tiles, float32 (width,)."""
        return np.asarray(self._of(name).reshape(-1, self.shape[-1]).mean(axis=0))

    def require(self, names: Sequence[str]) -> None:
        """Refuses items that have no features.

        Raises:
            DataError: There are such items; names the first of them.
        """
        self.file.rows_of(names)

    def content(self) -> str:
        """What stands for the content of the file."""
        return photo_key(self.file.path)

    def tell(self) -> None:
        """Logs what is learned from, and which settings act on nothing."""
        views, tiles, width = self.shape
        logger.info(
            "Heads learn from the features in %s: %d items, %d x %d vectors of %d numbers each. No photo is opened; "
            "model.backbone, its weights, the feature bank and all settings that change photos act on nothing.",
            *(self.file.path, len(self.rows), views, tiles, width),
        )

    def _of(self, name: str) -> np.ndarray:
        if name not in self.rows:
            self.require([name])  # where a run goes on with another file
        return np.asarray(self.file.values[self.rows[name]])


def given_features(path: Path) -> GivenFeatures:
    """Reads features from a file, once for all folds.

    Raises:
        ConfigError: The file is of a kind that is not read.
        DataError: There is no such file, it is damaged, or it holds something else.
    """
    status = path.stat() if path.is_file() else None
    return _read(path, (status.st_mtime_ns, status.st_size) if status is not None else None)


@lru_cache(maxsize=1)
def _read(path: Path, version: tuple[int, int] | None) -> GivenFeatures:
    """Depends on the time and size of the file as well, so that a file that changes is read again."""
    file = read_features(path)
    return GivenFeatures(file=file, rows={name: row for row, name in enumerate(file.names)})
