"""Single photos as items of a dataset: read, changed and cut into tiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from biomass_pl.data.augmentation import View, as_view, item_generator
from biomass_pl.data.bank import PLAIN_VIEW, view_generator
from biomass_pl.data.cache import PhotoCache
from biomass_pl.data.photo_changes import TrainingTransform
from biomass_pl.data.photos import read_photo
from biomass_pl.data.stored_features import StoredFeatures
from biomass_pl.data.tiles import PlainTransform


@dataclass(frozen=True, kw_only=True)
class TiledPhoto:
    """One photo and what is known of it.

    Args:
        image_id: Its name in tables.
        path: Its file.
        labels: Tensors that go into the batch as they are, such as `target`.
    """

    image_id: str
    path: Path
    labels: dict[str, torch.Tensor]


class TiledDataset(Dataset[dict[str, Any]]):
    """Photos as tiles. What an item looks like depends on (seed, epoch, photo) alone.

    Args:
        photos: The photos.
        transform: Gives the views of a decoded photo.
        seed: Seed of the random changes.
        views: How each photo is shown, one after another.
        cache: Where the photos lie decoded; none reads their files.
        features: Features that some epochs read instead of pixels.
        drawn_views: Whether these epochs draw among all changed views of a photo, or take the plain one.
    """

    def __init__(
        self,
        *,
        photos: Sequence[TiledPhoto],
        transform: PlainTransform | TrainingTransform,
        seed: int,
        views: Sequence[View] = ("plain",),
        cache: PhotoCache | None = None,
        features: StoredFeatures | None = None,
        drawn_views: bool = False,
    ) -> None:
        self.photos = photos
        self.transform = transform
        self.seed = seed
        self.views = tuple(views)
        self.cache = cache
        self.features = features
        self.drawn_views = drawn_views
        self._last_read: tuple[Path, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.photos) * len(self.views)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """The item for (index, epoch): `id`, `tiles` uint8 (V, T, 3, S, S) or `features` (V, T, D), and the labels."""
        index, epoch = key
        position, view = divmod(index, len(self.views))
        photo = self.photos[position]
        rng = item_generator(self.seed, epoch, photo.image_id)
        if self.features is not None and self.features.serve(epoch):
            drawn = int(rng.integers(self.features.views + 1)) if self.drawn_views else PLAIN_VIEW
            features = torch.tensor(self.features.read(photo.path, drawn))
            return {"id": photo.image_id, "features": features, **photo.labels}
        pixels, labels = self.changed(position, rng)
        tiles = self.transform.geometry.cut(as_view(pixels, self.views[view]))
        return {"id": photo.image_id, "tiles": tiles, **labels}

    def changed(self, position: int, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
        """The views of a photo as `rng` draws them, uint8 (views, height, width, 3), and its labels."""
        photo = self.photos[position]
        return self.transform(self.read(photo.path), rng), photo.labels

    def read(self, path: Path) -> np.ndarray:
        """A decoded photo, uint8 (height, width, 3)."""
        if self.cache is not None:
            return self.cache.read(path)
        # The views of a photo follow each other: keeping the last photo decodes it once.
        if self._last_read is None or self._last_read[0] != path:
            self._last_read = path, read_photo(path, at_least=self.transform.geometry.decode_size)
        return self._last_read[1]


class ViewDataset(Dataset[tuple[str, list[int], torch.Tensor]]):
    """Views of photos that the feature bank lacks, each with the names of its photo and view.

    Args:
        photos: File of each photo, by its name in the bank.
        views: The views that are wanted of each.
        plain_transform: Makes the plain view.
        training_transform: Makes the others.
        cache: Where the photos lie decoded; none reads their files.
    """

    def __init__(
        self,
        *,
        photos: Mapping[str, Path],
        views: Mapping[str, list[int]],
        plain_transform: PlainTransform,
        training_transform: TrainingTransform,
        cache: PhotoCache | None = None,
    ) -> None:
        self.photos = photos
        self.views = list(views.items())
        self.plain_transform = plain_transform
        self.training_transform = training_transform
        self.cache = cache

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> tuple[str, list[int], torch.Tensor]:
        """Name of a photo, its wanted views, and their tiles, uint8 (views, V, T, 3, S, S)."""
        key, wanted = self.views[index]
        path = self.photos[key]
        geometry = self.plain_transform.geometry
        photo = read_photo(path, at_least=geometry.decode_size) if self.cache is None else self.cache.read(path)
        tiles = [
            geometry.cut(
                (self.plain_transform if view == PLAIN_VIEW else self.training_transform)(
                    photo, view_generator(key, view)
                )
            )
            for view in wanted
        ]
        return key, wanted, torch.stack(tiles)
