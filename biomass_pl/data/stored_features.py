"""Features of the bank that datasets read instead of pixels, and what a data module offers so that it has them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from biomass_pl.data.bank import GIGABYTE, BankConfig, FeatureSet
from biomass_pl.errors import DataError

_KEPT_BYTES = GIGABYTE
"""Features that a process keeps in memory once it has read them."""


class ItemFeatures(Protocol):
    """What datasets read instead of pixels."""

    @property
    def views(self) -> int:
        """Changed views of each training item, beside the plain one."""

    @property
    def epochs(self) -> float:
        """Epochs, from the first on, in which they are read."""

    @property
    def item_bytes(self) -> int:
        """Size of the features of one view of an item."""

    def serve(self, epoch: int) -> bool:
        """Whether an epoch reads features instead of pixels."""

    def read(self, name: str, path: Path, view: int) -> np.ndarray:
        """Features of one view of a photo, float32 (views beside each other, tiles, width)."""


@dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """Features that are there: what datasets read instead of pixels while the backbone is frozen.

    Args:
        feature_set: Where they lie.
        keys: Names of the photos in the bank, by file.
        views: Changed views of each training photo, beside the plain one.
        epochs: Epochs, from the first on, in which the backbone is frozen.
    """

    feature_set: FeatureSet
    keys: Mapping[Path, str]
    views: int
    epochs: float
    _kept: dict[tuple[Path, int], np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def item_bytes(self) -> int:
        """Size of the features of one view of a photo."""
        return self.feature_set.entry_bytes

    def serve(self, epoch: int) -> bool:
        """Whether an epoch reads features instead of pixels."""
        return epoch < self.epochs

    def read(self, name: str, path: Path, view: int) -> np.ndarray:
        """Features of one view of a photo, float32; kept in memory as far as they fit.

        Args:
            name: Its name, which says nothing of what it shows.
            path: Its file.
            view: Number of the view.

        Raises:
            DataError: They were removed or damaged since training began.
        """
        kept = self._kept.get((path, view))
        if kept is not None:
            return kept
        features = self.feature_set.read(self.keys[path], view)
        if features is None:
            raise DataError(
                f"The features of {path} are gone from the bank in {self.feature_set.folder.parent}, or damaged. "
                "Compute them again and go on: biomass fit --resume"
            )
        # Loader workers do not keep any: together they would hold each several times.
        if parent_process() is None and (len(self._kept) + 1) * features.nbytes <= _KEPT_BYTES:
            self._kept[path, view] = features
        return features


class FeatureViews(Protocol):
    """What a data module with a bank offers to whoever fills it."""

    bank: BankConfig | None
    batch_size: int
    first_epoch: int

    def view_description(self) -> dict[str, Any]:
        """What the views of a photo depend on beside its pixels; values that JSON can hold."""

    def view_shape(self) -> tuple[int, ...]:
        """Shape of the pictures of one view: what comes before the features in an entry of the bank."""

    def wanted_views(self, *, training: bool) -> dict[Path, list[int]]:
        """The views whose features are read: for a training, or for the prediction of what was selected.

        None where a prediction shows photos in ways that are not kept.
        """

    def view_loader(self, photos: Mapping[str, Path], views: Mapping[str, list[int]]) -> Iterable[Any]:
        """Name in the bank, views and pictures (views, ...) of the wanted views of photos."""

    def use_features(self, features: StoredFeatures | None) -> None:
        """Has loaders that are made from now on read features instead of pixels."""
