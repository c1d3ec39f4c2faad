"""What the data of every system offers to the harness: items, folds, loaders, and what is optional."""

import abc
import logging
import math
import os
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import cv2
import pandas as pd
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from biomass_pl.data.augmentation import View
from biomass_pl.data.bank import BankConfig
from biomass_pl.data.given_features import GivenFeatures, given_features
from biomass_pl.data.photo_shapes import AspectRatios
from biomass_pl.data.photos import Photos
from biomass_pl.data.sampling import EpochOrder, EpochSampler, shuffled
from biomass_pl.data.splits import Split
from biomass_pl.data.stored_features import ItemFeatures
from biomass_pl.errors import ConfigError

logger = logging.getLogger(__name__)

_LONGEST_TEMPORARY_FOLDER = 71
"""Bytes: a socket's path has at most 103 on macOS, of which /pymp-xxxxxxxx/listener-xxxxxxxx takes 32."""

_FEATURES_PER_PHOTO = 16
"""Photos whose features are validated together where pixels of one would be, as far as they fit."""

_FEATURE_BATCH_BYTES = 256 * 2**20
"""Features that are validated together at most: those of patches are many."""

Source = Literal["held_out", "test", "files"]
"""What is predicted: the held-out items of the fold, the test items, or any files."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is known of labelled items, and to be learned.

    Args:
        kind: Whether it is one of several classes, or one or more numbers.
        columns: Columns of `FoldDataModule.items` that hold it; a value may be missing.
        units: Unit of each column; none where they are not told.
    """

    kind: Literal["classes", "values"]
    columns: tuple[str, ...]
    units: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrainingPhotos:
    """Photos of a fold to learn from without their truth.

    Args:
        photos: Where they lie.
        names: Their names.
        grid: Rows and columns of equal parts, each of which a backbone is shown as one picture.
        seed: Seed of random changes.
    """

    photos: Photos
    names: list[str]
    grid: tuple[int, int]
    seed: int


MakePairs = Callable[[TrainingPhotos], Dataset[dict[str, Any]]]
"""Makes a dataset of two views of each photo, asked for (index, epoch)."""


@dataclass(frozen=True, kw_only=True)
class TableFeatures:
    """Features from tables, a row per photo, indexed by its name.

    Args:
        labelled: Of the labelled photos.
        test: Of the test photos; none without a test table.
        groups: What belongs together, such as photos of one person; of the labelled, then of the test photos.
    """

    labelled: pd.DataFrame
    test: pd.DataFrame | None
    groups: tuple[pd.Series, pd.Series | None]


class FoldDataModule(LightningDataModule, abc.ABC):
    """The items of one training. Which it holds out is told by `use`, never by a setting.

    Args:
        root: Data folder.
        batch_size: Items per training, validation and prediction step, on each device.
        num_workers: Processes that load items; 0 loads in the main process.
        prefetch_factor: Batches that each worker prepares ahead.
        seed: Seed of folds, order and augmentation.
        features: File of features that are read instead of photos; none reads photos.

    Raises:
        ConfigError: A number is too small, or the folder for temporary files is unfit for workers.
        DataError: The features cannot be read.
    """

    id_columns: ClassVar[tuple[str, ...]] = ("image_id",)
    """Columns that come first in tables; the first of them names an item."""

    item_noun: ClassVar[str] = "photo"
    """What an item is, for messages."""

    views: ClassVar[tuple[View, ...]] = ("plain",)
    """How an item can be shown in prediction; with several, predictions can be averaged over them."""

    truth: Truth | None = None
    """What a linear probe on features can be asked for; none where there is no such thing."""

    tile_size: int | None = None
    """Side in pixels of the pictures that a backbone takes; none where there are no pictures."""

    bank: BankConfig | None = None
    """How the features of a frozen backbone are kept; none keeps none."""

    def __init__(
        self,
        *,
        root: Path,
        batch_size: int,
        num_workers: int,
        prefetch_factor: int,
        seed: int,
        features: Path | None = None,
    ) -> None:
        super().__init__()
        require_at_least(1, batch_size=batch_size, prefetch_factor=prefetch_factor)
        require_at_least(0, num_workers=num_workers)
        if num_workers > 0:
            _check_socket_path()
        self.root = root
        self.batch_size = batch_size
        self.num_workers = _at_most_cores(num_workers)
        self.prefetch_factor = prefetch_factor
        self.seed = seed
        self.split = Split(fold=0, folds=pd.Series(dtype=int))
        self.first_epoch = 0
        self.given: GivenFeatures | None = given_features(features) if features is not None else None
        self.features: ItemFeatures | None = self.given
        self.pairs: MakePairs | None = None

    @property
    def given_width(self) -> int | None:
        """Length of the given feature vectors, which takes the place of the backbone's; none where none are given."""
        return None if self.given is None else self.given.shape[-1]

    def prepare(self) -> None:
        """Begins a new run: makes what its settings ask to be made, and warns once of what is odd in the data."""

    @abc.abstractmethod
    def items(self) -> pd.DataFrame:
        """The labelled items: `id_columns`, metadata, truth."""

    def names(self) -> pd.Series:
        """Names of the labelled items."""
        return self.items()[self.id_columns[0]]

    def headings(self) -> Mapping[str, str | None]:
        """What each column of the label table is taken for, by its heading; none for one that is not used.

        Empty where there is no such table.

        Raises:
            BiomassError: The table cannot be read.
        """
        return {}

    def has_test_items(self) -> bool:
        """Whether there are test items, or settings that name some, so that `select` can choose them."""
        return False

    def test_items(self) -> pd.DataFrame | None:
        """The test items with their truth, in the columns of `items`; none where their truth is not known."""
        return None

    @abc.abstractmethod
    def make_folds(self) -> pd.Series:
        """The fold in which each labelled item is held out, indexed by its name; -1 for none."""

    def groups(self) -> pd.Series | None:
        """What `make_folds` keeps together: a label for each labelled item, indexed by its name.

        None where it keeps nothing together, or where the folds were given.
        """
        return None

    @abc.abstractmethod
    def check(self) -> None:
        """Finds everything wrong with the labelled data before any training.

        Raises:
            BiomassError: Something is; the message lists all of its kind.
        """

    def contents(self) -> Mapping[str, str] | None:
        """What stands for the content of each labelled item, so that copies are found; none where nothing does."""
        return None

    def aspect_ratios(self) -> AspectRatios | None:
        """The least and the greatest width by height of the labelled photos; none where shapes say nothing."""
        return None

    @property
    def training_count(self) -> int:
        """Number of items that the split learns from."""
        return self.split.training_count

    def check_split(self) -> None:
        """Refuses a split that cannot be trained on or scored.

        Raises:
            ConfigError: A setting asks for more than the items to learn from.
            FoldError: The fold holds out what has no score.
        """
        training = self.training_count
        if self.batch_size > training:
            raise ConfigError(
                f"data.batch_size {self.batch_size} is more than the {training} training {self.item_noun}s of fold "
                f"{self.split.fold}. Lower it to {training} at most."
            )

    def table_features(self, columns: Sequence[str] | None) -> TableFeatures | None:
        """What the label and test tables tell of the items beside the pictures; none where it is nothing.

        Args:
            columns: Columns to make features of; none takes all that are in both tables.

        Raises:
            BiomassError: A column or a table cannot be used.
        """
        return None

    def photos(self) -> Photos:
        """The photos of the labelled items by their names.

        Raises:
            ConfigError: The items are no photos.
        """
        raise self._no_photos()

    def selected_photos(self) -> Photos:
        """The photos of what was selected for prediction, by the names of the items.

        Raises:
            ConfigError: The items are no photos.
        """
        raise self._no_photos()

    def _no_photos(self) -> ConfigError:
        return ConfigError(f"{type(self).__name__} has no photos to show. Choose a data module of photos.")

    def use_scale(self, scale: float) -> None:
        """Cuts photos from now on into a finer or coarser grid of tiles of the same size.

        Args:
            scale: Tiles along each side as a share of those that are set; below 1, a tile shows more of the photo.

        Raises:
            ConfigError: There is no such grid.
        """
        if scale != 1:
            raise ConfigError(
                f"--scales {scale:g} is for photos that are cut into tiles; {type(self).__name__} shows each as one "
                "picture. Leave it out."
            )

    def picture_description(self) -> dict[str, Any]:
        """How photos become the pictures that a backbone takes; values that JSON can hold."""
        return {"tile_size": self.tile_size}

    def photo_grid(self) -> tuple[int, int]:
        """Rows and columns of equal parts of a photo, each of which a backbone is shown as one picture."""
        return 1, 1

    @abc.abstractmethod
    def training_loader(self) -> DataLoader[Any]:
        """Items to learn from, drawn and changed as an epoch of supervised training wants them."""

    @abc.abstractmethod
    def plain_loader(self, *, held_out: bool) -> DataLoader[Any]:
        """Labelled items as they are, with their truth.

        Args:
            held_out: Those held out, or those to learn from.
        """

    def train_dataloader(self) -> DataLoader[Any]:
        """What an epoch of training is made of: labelled items, or pairs of views."""
        if self.pairs is None:
            return self.training_loader()
        names = self.names()[~self.split.held_out(self.names())].tolist()
        dataset = self.pairs(TrainingPhotos(photos=self.photos(), names=names, grid=self.photo_grid(), seed=self.seed))
        length = len(cast("Sized", dataset))
        return self.loader(dataset, length, order=shuffled(length))

    def val_dataloader(self) -> DataLoader[Any]:
        """The held-out items as they are."""
        return self.plain_loader(held_out=True)

    @abc.abstractmethod
    def select(self, source: Source, *, files: Sequence[Path] = (), views: Sequence[View] = ("plain",)) -> None:
        """Chooses what `predict_dataloader` yields.

        Args:
            source: Which items.
            files: The files for `files`.
            views: How each is shown, one after another, under the same name.
        """

    @abc.abstractmethod
    def broken_items(self) -> dict[str, str]:
        """The selected items that cannot be read, by name, each with the reason."""

    @abc.abstractmethod
    def leave_out(self, names: Collection[str]) -> None:
        """Takes items out of what was selected."""

    def use(self, split: Split, *, first_epoch: int = 0) -> None:
        """Settles what the next training or prediction works on, before it asks for loaders.

        Args:
            split: What is held out.
            first_epoch: Epoch with which the training begins; above 0 where it goes on.
        """
        self.split = split
        self.first_epoch = first_epoch
        self.features = self.given

    def use_features(self, features: ItemFeatures | None) -> None:
        """Has loaders that are made from now on read features instead of pixels.

        Args:
            features: The features, and for how many epochs they serve; none reads pixels, or what was given.
        """
        self.features = features or self.given

    def use_pairs(self, pairs: MakePairs | None) -> None:
        """Has training loaders that are made from now on yield pairs of views instead of labelled items.

        Args:
            pairs: Makes the dataset of pairs from the photos of the fold; none yields labelled items.
        """
        self.pairs = pairs

    def loader(
        self,
        dataset: Dataset[dict[str, Any]],
        length: int,
        *,
        order: EpochOrder | None = None,
        shared: bool = True,
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]] | None = None,
    ) -> DataLoader[Any]:
        """A loader over a dataset that is asked for (index, epoch).

        Args:
            dataset: The dataset; workers keep the copy that they get.
            length: Its number of items.
            order: How the items of a training epoch are drawn; none takes all as they come.
            shared: Whether the processes of a training share the items out.
            collate: Makes a batch of items; none stacks their tensors, which must be of one shape.
        """
        # Features are read faster than a worker could hand them over, and many of them fit where few photos do.
        features = self.features if self.features is not None and self.features.epochs == math.inf else None
        workers = 0 if features else self.num_workers
        return DataLoader(
            dataset,
            batch_size=self.batch_size if order or features is None else self._feature_batch(features),
            sampler=EpochSampler(
                length=length, order=order, seed=self.seed, first_epoch=self.first_epoch, shared=shared
            ),
            num_workers=workers,
            prefetch_factor=self.prefetch_factor if workers > 0 else None,
            persistent_workers=workers > 0,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            # Workers share the cores; threads of their own would only get in each other's way.
            worker_init_fn=use_one_thread,
        )

    def _feature_batch(self, features: ItemFeatures) -> int:
        """Items that are validated together where all are read as features."""
        fitting = _FEATURE_BATCH_BYTES // features.item_bytes
        return min(max(fitting, self.batch_size), self.batch_size * _FEATURES_PER_PHOTO)


def require_at_least(least: int, **settings: int) -> None:
    """Refuses numbers of the data section that are too small.

    Raises:
        ConfigError: The first of them, by name.
    """
    for name, number in settings.items():
        if number < least:
            raise ConfigError(f"data.{name} is {number}; give {least} or more.")


@cache  # told once, however many folds there are
def _at_most_cores(num_workers: int) -> int:
    """More processes than cores would only wait for each other."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if num_workers > cores:
        logger.info("data.num_workers %d is lowered to %d, the cores of this machine", num_workers, cores)
    return min(num_workers, cores)


def _check_socket_path() -> None:
    """Workers hand batches over through sockets beside the temporary files; with a longer path they wait for ever.

    Raises:
        ConfigError: The folder for temporary files has too long a name.
    """
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > _LONGEST_TEMPORARY_FOLDER:
        raise ConfigError(
            f"The folder for temporary files, {folder}, has too long a name for data.num_workers above 0. Name one of "
            f"at most {_LONGEST_TEMPORARY_FOLDER} characters in the environment variable TMPDIR, or set "
            "data.num_workers: 0."
        )


def use_one_thread(worker: int) -> None:
    """Keeps the threads of a worker process to one."""
    cv2.setNumThreads(0)
