"""Single photos of lesions as items of a dataset."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from biomass_pl.data.augmentation import View, as_view, item_generator
from biomass_pl.data.given_features import GivenFeatures
from biomass_pl.lesion.photos import PhotoStore
from biomass_pl.lesion.transforms import Changes, change


class LesionDataset(Dataset[dict[str, Any]]):
    """Photos of lesions. What an item looks like depends on (seed, epoch, lesion) alone.

    Args:
        photos: Where the photos lie.
        names: The lesions.
        targets: 0 or 1 of each (lesions,); none where unknown.
        changes: Makes the picture from a decoded photo.
        at_least: Height and width of a decoded photo that suffice.
        seed: Seed of the random changes.
        views: How each photo is shown, one after another.
        features: Features that are read instead of photos; none reads photos.
    """

    def __init__(
        self,
        *,
        photos: PhotoStore,
        names: Sequence[str],
        targets: np.ndarray | None,
        changes: Changes,
        at_least: tuple[int, int],
        seed: int,
        views: Sequence[View] = ("plain",),
        features: GivenFeatures | None = None,
    ) -> None:
        self.photos = photos
        # Arrays of text and numbers: lists of Python objects would be copied into every worker, page by page.
        self.names = np.array(names, dtype=np.str_)
        self.targets = None if targets is None else torch.tensor(targets, dtype=torch.float32)
        self.changes = changes
        self.at_least = at_least
        self.seed = seed
        self.views = tuple(views)
        self.features = features

    def __len__(self) -> int:
        return len(self.names) * len(self.views)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """The item for (index, epoch).

        Returns:
            `id`, `tiles` uint8 (3, S, S) or `features` (D,), and `target` where it is known.
        """
        index, epoch = key
        position, view = divmod(index, len(self.views))
        name = str(self.names[position])
        item: dict[str, Any] = {"id": name}
        if self.features is not None:
            item["features"] = torch.from_numpy(self.features.vector(name))
        else:
            rng = item_generator(self.seed, epoch, name)
            picture = change(self.changes, self.photos.read(name, at_least=self.at_least), rng)
            shown = as_view(picture, self.views[view]).transpose(2, 0, 1)
            item["tiles"] = torch.from_numpy(np.ascontiguousarray(shown))
        return item if self.targets is None else {**item, "target": self.targets[position]}
