"""What data modules of photos that are cut into tiles share: labels from a table, cache, bank, loaders."""

import abc
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from biomass_pl.data.augmentation import FLIPS, View
from biomass_pl.data.bank import PLAIN_VIEW, BankConfig, FeatureBank, photo_key
from biomass_pl.data.base import FoldDataModule, Source, require_at_least, use_one_thread
from biomass_pl.data.cache import PhotoCache
from biomass_pl.data.photo_changes import AugmentationConfig, TrainingTransform
from biomass_pl.data.photo_shapes import AspectRatios, aspect_ratios
from biomass_pl.data.photos import PhotoPaths, broken_photos, check_photos
from biomass_pl.data.sampling import shuffled
from biomass_pl.data.tiled_dataset import TiledDataset, TiledPhoto, ViewDataset
from biomass_pl.data.tiles import PlainTransform, TileGeometry
from biomass_pl.errors import ConfigError


class TiledPhotoDataModule(FoldDataModule):
    """Photos named in a label table, each shown as the tiles of its views.

    Args:
        root: Data folder.
        geometry: How a photo is cut into tiles.
        augmentation: Random changes of training photos.
        cache_images: Decode each photo once, into a temporary file that all workers read.
        bank: How the features of a frozen backbone are kept; none keeps none.
        batch_size: Photos per step on each device.
        num_workers: Processes that load photos; 0: the main process.
        prefetch_factor: Batches that each worker prepares ahead.
        seed: Seed of folds, order and augmentation.
        features: File of features that are read instead of photos; none reads photos.

    Raises:
        ConfigError: A setting cannot work.
        DataError: The features cannot be read.
    """

    views: ClassVar[tuple[View, ...]] = FLIPS
    tile_size: int

    def __init__(
        self,
        *,
        root: Path,
        geometry: TileGeometry,
        augmentation: AugmentationConfig,
        cache_images: bool,
        bank: BankConfig | None,
        batch_size: int,
        num_workers: int,
        prefetch_factor: int,
        seed: int,
        features: Path | None = None,
    ) -> None:
        super().__init__(
            root=root,
            batch_size=batch_size,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            seed=seed,
            features=features,
        )
        self.tile_size = geometry.tile_size
        self.cache_images = cache_images
        self.bank = None if self.given is not None else bank
        if self.bank is not None and not augmentation.changes_photos:
            self.bank = replace(self.bank, views=0)  # all views would be the plain one
        self._unscaled = geometry
        self._cut_by(geometry, augmentation)
        self._selected: Sequence[TiledPhoto] = ()
        self._views: Sequence[View] = ("plain",)

    @abc.abstractmethod
    def read_labels(self) -> pd.DataFrame:
        """Reads the label table: `image_id`, `image_path` relative to `root`, and what is known of each photo.

        Raises:
            DataError: It cannot be used.
        """

    @abc.abstractmethod
    def read_test_photos(self) -> pd.DataFrame:
        """Reads the table of test photos: `image_id` and `image_path`.

        Raises:
            DataError: There is none, or it cannot be used.
        """

    @abc.abstractmethod
    def label_tensors(self, table: pd.DataFrame) -> dict[str, torch.Tensor]:
        """What goes into a batch beside the pixels, by name.

        Args:
            table: Some rows of the label table.

        Returns:
            Tensors with a row per row of the table.
        """

    @cached_property
    def labels(self) -> pd.DataFrame:
        """The label table, read when it is first needed."""
        return self.read_labels()

    def items(self) -> pd.DataFrame:
        """The label table without the paths of the photos."""
        return self.labels.drop(columns="image_path")

    def check(self) -> None:
        """Reads the whole table and decodes every photo once, or looks for its features where these were given.

        Raises:
            DataError: The table or photos cannot be used; lists them.
        """
        if self.given is not None:
            self.given.require(self.labels["image_id"].tolist())
        else:
            check_photos(self._paths.values())

    def contents(self) -> Mapping[str, str] | None:
        """Hashes of the files of all labelled photos; none where no photo is opened."""
        if self.given is not None:
            return None
        return {image_id: photo_key(path) for image_id, path in self._paths.items()}

    def aspect_ratios(self) -> AspectRatios | None:
        """The least and the greatest width by height of the labelled photos; none where no photo is opened."""
        return aspect_ratios(self._paths.values()) if self.given is None else None

    def held_out(self) -> np.ndarray:
        """Whether each row of the label table is held out, booleans (photos,)."""
        return self.split.held_out(self.labels["image_id"])

    def select(self, source: Source, *, files: Sequence[Path] = (), views: Sequence[View] = ("plain",)) -> None:
        """Chooses what `predict_dataloader` yields; see the base class.

        Raises:
            DataError: The test table or photos cannot be used, or test photos have no features; lists them.
        """
        self._views = tuple(views)
        if source == "held_out":
            self._selected = self._labelled_photos(held_out=True)
        elif source == "test":
            table = self.read_test_photos()
            if self.given is not None:
                self.given.require(table["image_id"].tolist())
            self._selected = _unlabelled(table["image_id"], [self.root / path for path in table["image_path"]])
        else:
            self._selected = _unlabelled([str(path) for path in files], files)

    def broken_items(self) -> dict[str, str]:
        """Decodes every selected photo once; those that cannot be read, each with the reason."""
        if self.given is not None:
            return {}
        reasons = broken_photos([photo.path for photo in self._selected])
        return {photo.image_id: reasons[photo.path] for photo in self._selected if photo.path in reasons}

    def leave_out(self, names: Collection[str]) -> None:
        """Takes photos out of what was selected."""
        self._selected = [photo for photo in self._selected if photo.image_id not in names]

    def photos(self) -> PhotoPaths:
        """The labelled photos by `image_id`."""
        return PhotoPaths(self._paths)

    def selected_photos(self) -> PhotoPaths:
        """The selected photos by `image_id`."""
        return PhotoPaths({photo.image_id: photo.path for photo in self._selected})

    def photo_grid(self) -> tuple[int, int]:
        """The tiles of all views, which are beside each other."""
        rows, columns = self.geometry.grid
        return rows, self.geometry.view_count * columns

    def training_loader(self) -> DataLoader[Any]:
        """Training photos of the fold, changed at random, in another order every epoch."""
        dataset = self.training_dataset(self._labelled_photos(held_out=False))
        return self.loader(dataset, len(dataset), order=shuffled(len(dataset)))

    def training_dataset(self, photos: Sequence[TiledPhoto]) -> TiledDataset:
        """Photos as a training sees them."""
        return TiledDataset(photos=photos, **self.training_settings())

    def training_settings(self) -> dict[str, Any]:
        """What a dataset of training photos takes beside them."""
        return {
            "transform": self.training_transform,
            "seed": self.seed,
            "cache": self._cache,
            "features": self.features,
            "drawn_views": True,
        }

    def plain_loader(self, *, held_out: bool) -> DataLoader[Any]:
        """Photos of the fold, as they are."""
        photos = self._labelled_photos(held_out=held_out)
        dataset = TiledDataset(
            photos=photos, transform=self.plain_transform, seed=self.seed, cache=self._cache, features=self.features
        )
        return self.loader(dataset, len(dataset))

    def predict_dataloader(self) -> DataLoader[Any]:
        """What `select` chose."""
        dataset = TiledDataset(
            photos=self._selected,
            transform=self.plain_transform,
            seed=self.seed,
            views=self._views,
            features=self.features,
        )
        return self.loader(dataset, len(dataset), shared=False)

    def view_description(self) -> dict[str, Any]:
        """What the views of a photo depend on beside its pixels; values that JSON can hold."""
        return {"geometry": asdict(self.geometry), "augmentation": asdict(self.training_transform.config)}

    def picture_description(self) -> dict[str, Any]:
        """How photos are cut into tiles; values that JSON can hold."""
        return {"geometry": type(self.geometry).__name__, **asdict(self.geometry)}

    def view_shape(self) -> tuple[int, int]:
        """Views beside each other in a photo, and tiles of each."""
        if self.given is not None:
            return self.given.shape[:2]
        return self.geometry.view_count, math.prod(self.geometry.grid)

    def use_scale(self, scale: float) -> None:
        """Cuts photos from now on into a finer or coarser grid; see the base class."""
        self._cut_by(self._unscaled.scaled(scale), self.training_transform.config)

    def wanted_views(self, *, training: bool) -> dict[Path, list[int]]:
        """The views whose features a fold reads: all of its training photos, the plain one of the others.

        Args:
            training: For a training; otherwise for the prediction of what was selected, where it is shown as it is.
        """
        if not training:
            as_it_is = self._views == ("plain",)  # the bank keeps no flips
            return {photo.path: [PLAIN_VIEW] for photo in self._selected} if as_it_is else {}
        drawn = self.bank.views if self.bank is not None else 0
        train, held_out = (self._labelled_photos(held_out=held_out) for held_out in (False, True))
        views = {photo.path: list(range(PLAIN_VIEW, drawn + 1)) for photo in train}
        return views | {photo.path: [PLAIN_VIEW] for photo in held_out}

    def view_loader(self, photos: Mapping[str, Path], views: Mapping[str, list[int]]) -> DataLoader[Any]:
        """Pixels of the views that the bank lacks: name of the photo, views, tiles (views, V, T, 3, S, S).

        Args:
            photos: File of each photo, by its name in the bank.
            views: Wanted views by the same name.
        """
        dataset = ViewDataset(
            photos=photos,
            views=views,
            plain_transform=self.plain_transform,
            training_transform=self.training_transform,
            cache=self._cache,
        )
        return DataLoader(dataset, batch_size=None, num_workers=self.num_workers, worker_init_fn=use_one_thread)

    def _cut_by(self, geometry: TileGeometry, augmentation: AugmentationConfig) -> None:
        self.geometry = geometry
        self.plain_transform = PlainTransform(geometry=geometry)
        self.training_transform = TrainingTransform(geometry=geometry, config=augmentation)
        self.__dict__.pop("_cache", None)  # decoded for another grid

    @property
    def _paths(self) -> dict[str, Path]:
        """Files of the labelled photos by their names."""
        paths = zip(self.labels["image_id"], self.labels["image_path"], strict=True)
        return {image_id: self.root / path for image_id, path in paths}

    @cached_property
    def _cache(self) -> PhotoCache | None:
        """All labelled photos, decoded when a loader first needs them."""
        if not self.cache_images:
            return None
        return PhotoCache(paths=list(self._paths.values()), at_least=self.geometry.decode_size)

    def _labelled_photos(self, *, held_out: bool) -> list[TiledPhoto]:
        table = self.labels[self.held_out() == held_out]
        labels = self.label_tensors(table)
        return [
            TiledPhoto(
                image_id=image_id,
                path=self.root / image_path,
                labels={name: column[row] for name, column in labels.items()},
            )
            for row, (image_id, image_path) in enumerate(zip(table["image_id"], table["image_path"], strict=True))
        ]


def make_bank(*, views: int, folder: Path, limit_gb: float) -> BankConfig | None:
    """The bank of a data module's settings; none where it keeps no views.

    Raises:
        ConfigError: A number is out of its range.
    """
    require_at_least(0, bank_views=views)
    require_positive(bank_limit_gb=limit_gb)
    return BankConfig(bank=FeatureBank(folder=folder, limit_gb=limit_gb), views=views) if views > 0 else None


def require_probabilities(**settings: float) -> None:
    """Refuses numbers of the data section that are no probabilities.

    Raises:
        ConfigError: The first of them, by name.
    """
    for name, value in settings.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"data.{name} is {value}; a probability lies between 0 and 1.")


def require_positive(**settings: float) -> None:
    """Refuses numbers of the data section that are not above 0.

    Raises:
        ConfigError: The first of them, by name.
    """
    for name, value in settings.items():
        if not 0 < value < math.inf:
            raise ConfigError(f"data.{name} is {value}; give a number above 0.")


def _unlabelled(image_ids: Iterable[str], paths: Sequence[Path]) -> list[TiledPhoto]:
    return [
        TiledPhoto(image_id=image_id, path=path, labels={}) for image_id, path in zip(image_ids, paths, strict=True)
    ]
