"""Single photos of leaves, with further bands where there are some, as items of a dataset."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from biomass_pl.data.augmentation import View, as_view, item_generator
from biomass_pl.data.given_features import GivenFeatures
from biomass_pl.data.photos import read_photo
from biomass_pl.leaf.spectral import find_bands, photo_size, read_bands, resized_bands
from biomass_pl.leaf.transforms import Changes, change, change_with_bands


@dataclass(frozen=True, kw_only=True, eq=False)
class LeafPhotos:
    """What a dataset reads, a row per photo.

    Arrays of text and numbers: lists of Python objects would be copied into every worker, page by page.

    Args:
        names: Names in tables (photos,).
        paths: Files (photos,).
        targets: Class numbers (photos,); none where unknown.
        bands: Files of further bands (photos,); none where there are no bands.
    """

    names: np.ndarray
    paths: np.ndarray
    targets: np.ndarray | None = None
    bands: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    def where(self, chosen: np.ndarray) -> "LeafPhotos":
        """Some of the photos.

        Args:
            chosen: Booleans (photos,).
        """
        return LeafPhotos(
            names=self.names[chosen],
            paths=self.paths[chosen],
            targets=None if self.targets is None else self.targets[chosen],
            bands=None if self.bands is None else self.bands[chosen],
        )


def labelled_photos(rows: pd.DataFrame, *, classes: Sequence[str], bands: Mapping[str, Path] | None) -> LeafPhotos:
    """Photos of a table.

    Args:
        rows: `image_id`, `path` and `label` of each.
        classes: Names of the classes in the order of their numbers.
        bands: File of further bands by `image_id`; none where there are no bands.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    return LeafPhotos(
        names=_texts(rows["image_id"]),
        paths=_texts(rows["path"]),
        targets=np.array([numbers[label] for label in rows["label"]], dtype=int),
        bands=None if bands is None else _texts(bands[name] for name in rows["image_id"]),
    )


def unlabelled_photos(files: Sequence[Path], *, root: Path, spectral: Path | None) -> LeafPhotos:
    """Any photos, named by their paths.

    Args:
        files: The photos.
        root: Data folder; the bands of a photo outside of it are found by its name alone.
        spectral: Folder of further bands; none where there are no bands. Bands that are missing are found so when read.
    """
    paths = _texts(files)
    if spectral is None:
        return LeafPhotos(names=paths, paths=paths)
    names = [file.relative_to(root) if file.is_relative_to(root) else Path(file.name) for file in files]
    bands = [find_bands(spectral, name.as_posix()) or spectral / f"{name.stem}.npy" for name in names]
    return LeafPhotos(names=paths, paths=paths, bands=_texts(bands))


class LeafDataset(Dataset[dict[str, Any]]):
    """Photos of leaves. What an item looks like depends on (seed, epoch, photo) alone.

    Args:
        photos: The photos.
        changes: Makes the picture from a decoded photo.
        at_least: Height and width of a decoded photo that suffice.
        seed: Seed of the random changes.
        views: How each photo is shown, one after another.
        features: Features that are read instead of photos; none reads photos.
    """

    def __init__(
        self,
        *,
        photos: LeafPhotos,
        changes: Changes,
        at_least: tuple[int, int],
        seed: int,
        views: Sequence[View] = ("plain",),
        features: GivenFeatures | None = None,
    ) -> None:
        self.photos = photos
        self.changes = changes
        self.at_least = at_least
        self.seed = seed
        self.views = tuple(views)
        self.features = features

    def __len__(self) -> int:
        return len(self.photos) * len(self.views)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """The item for (index, epoch).

        Returns:
            `id`, `tiles` uint8 (3, S, S), `bands` float32 (C, S, S) where there are some, or `features` (D,) instead,
            and `target`, the number of the class, where it is known.
        """
        index, epoch = key
        position, view = divmod(index, len(self.views))
        name = str(self.photos.names[position])
        item: dict[str, Any] = {"id": name}
        if self.features is not None:
            item["features"] = torch.from_numpy(self.features.vector(name))
        else:
            item |= self._pixels(position, self.views[view], item_generator(self.seed, epoch, name))
        if self.photos.targets is not None:
            item["target"] = torch.tensor(self.photos.targets[position], dtype=torch.int64)
        return item

    def _pixels(self, position: int, view: View, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        path = Path(self.photos.paths[position])
        photo = read_photo(path, at_least=self.at_least)
        if self.photos.bands is None:
            return {"tiles": _shown(change(self.changes, photo, rng), view)}
        stored = read_bands(Path(self.photos.bands[position]), photo_size(path))
        bands = resized_bands(stored, (photo.shape[0], photo.shape[1]))
        picture, changed = change_with_bands(self.changes, photo, bands, rng)
        return {"tiles": _shown(picture, view), "bands": _shown(changed, view)}


def _shown(pixels: np.ndarray, view: View) -> torch.Tensor:
    """Pixels (S, S, channels) in a view, as a tensor (channels, S, S)."""
    return torch.from_numpy(np.ascontiguousarray(as_view(pixels, view).transpose(2, 0, 1)))


def _texts(values: Iterable[object]) -> np.ndarray:
    return np.array([str(value) for value in values], dtype=np.str_)
