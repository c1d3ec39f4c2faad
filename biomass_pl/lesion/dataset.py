"""Single photos of lesions as items of a dataset."""

import zlib
from collections.abc import Sequence
from typing import Any

import albumentations as A  # noqa: N812
import numpy as np
import torch
from torch.utils.data import Dataset

from biomass_pl.lesion.photos import PhotoStore
from biomass_pl.lesion.transforms import change

_FLIP_AXES = (None, 1, 0)
"""Test-time views of (height, width, channel) arrays: as they are, flipped left-right, flipped top-bottom."""


class LesionDataset(Dataset[dict[str, Any]]):
    """Photos of lesions. What an item looks like depends on (seed, epoch, lesion) alone.

    Args:
        photos: Where the photos lie.
        names: The lesions.
        targets: 0 or 1 of each (lesions,); none where unknown.
        changes: Makes the picture from a decoded photo.
        at_least: Height and width of a decoded photo that suffice.
        seed: Seed of the random changes.
        flips: Yield each photo three times: as it is, flipped left-right, flipped top-bottom.
    """

    def __init__(
        self,
        *,
        photos: PhotoStore,
        names: Sequence[str],
        targets: np.ndarray | None,
        changes: A.Compose,
        at_least: tuple[int, int],
        seed: int,
        flips: bool = False,
    ) -> None:
        self.photos = photos
        # Arrays of text and numbers: lists of Python objects would be copied into every worker, page by page.
        self.names = np.array(names, dtype=np.str_)
        self.targets = None if targets is None else torch.tensor(targets, dtype=torch.float32)
        self.changes = changes
        self.at_least = at_least
        self.seed = seed
        self.flip_axes = _FLIP_AXES if flips else _FLIP_AXES[:1]

    def __len__(self) -> int:
        return len(self.names) * len(self.flip_axes)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """The item for (index, epoch): `id`, `tiles` uint8 (3, S, S), and `target` where it is known."""
        index, epoch = key
        position, flip = divmod(index, len(self.flip_axes))
        name = str(self.names[position])
        rng = np.random.default_rng([self.seed, epoch, zlib.crc32(name.encode())])
        picture = change(self.changes, self.photos.read(name, at_least=self.at_least), rng)
        axis = self.flip_axes[flip]
        flipped = picture if axis is None else np.flip(picture, axis)
        item = {"id": name, "tiles": torch.from_numpy(np.ascontiguousarray(flipped.transpose(2, 0, 1)))}
        return item if self.targets is None else {**item, "target": self.targets[position]}
