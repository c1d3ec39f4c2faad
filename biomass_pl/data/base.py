"""What the data of every system offers to the cross-validation: photos, folds, loaders."""

import abc
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from biomass_pl.data.bank import BankedFeatures
from biomass_pl.errors import ConfigError

_LONGEST_TEMPORARY_FOLDER = 71
"""Bytes: a socket's path has at most 103 on macOS, of which /pymp-xxxxxxxx/listener-xxxxxxxx takes 32."""

_FEATURES_PER_PHOTO = 16
"""Photos whose features are validated together where pixels of one would be."""

Split = Literal["validation", "test", "images"]
"""What is predicted: the held-out photos of the fold, the test table, or any photos."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """How the items of a training epoch are chosen and ordered.

    Args:
        items: Gives their indices from the generator of the epoch; some may be left out.
        together: Neighbours that must stay in one batch: processes take turns by so many.
    """

    items: Callable[[np.random.Generator], np.ndarray]
    together: int = 1


class EpochSampler(Sampler[tuple[int, int]]):
    """Hands out (index, epoch), so that an item can draw from a generator of its own.

    The order depends on the seed and the epoch alone. Lightning calls `set_epoch` before every epoch, also
    after resuming. Several processes take turns in that order, so that together they see the batches of one.

    Args:
        length: Number of items.
        draw: How the items of an epoch are drawn; none takes all in their order.
        seed: Seed of the order.
        shared: Whether the processes of a training share the items out; otherwise each has all.
    """

    def __init__(self, *, length: int, draw: Draw | None, seed: int, shared: bool = True) -> None:
        self.length = length
        self.draw = draw
        self.seed = seed
        self.shared = shared
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._own_share())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((int(index), self.epoch) for index in self._own_share())

    def _own_share(self) -> np.ndarray:
        order = np.arange(self.length)
        if self.draw is not None:
            order = self.draw.items(np.random.default_rng([self.seed, self.epoch]))
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        if not (self.shared and together):
            return order
        rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
        if self.draw is None:
            return order[rank::processes]
        # Training steps wait for each other: the first items fill up the last turn.
        turn = processes * self.draw.together
        filled = np.resize(order, -(-len(order) // turn) * turn)
        return filled.reshape(-1, processes, self.draw.together)[:, rank].ravel()


def shuffled(length: int) -> Draw:
    """All items, in another order every epoch."""
    return Draw(items=lambda rng: rng.permutation(length))


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
    """The photos of one fold. Which fold is told by `use_fold`, never by a setting.

    Subclasses also have `tile_size`, the side in pixels of what the backbone takes.

    Args:
        root: Data folder.
        batch_size: Photos per training, validation and prediction step, on each device.
        num_workers: Processes that load photos; 0 loads in the main process.
        prefetch_factor: Batches that each worker prepares ahead.
        seed: Seed of folds, order and augmentation.

    Raises:
        ConfigError: A number is too small, or the folder for temporary files is unfit for workers.
    """

    id_columns: ClassVar[tuple[str, ...]] = ("image_id",)
    """Columns that come first in tables; the first of them names a photo."""

    def __init__(self, *, root: Path, batch_size: int, num_workers: int, prefetch_factor: int, seed: int) -> None:
        super().__init__()
        require_at_least(1, batch_size=batch_size, prefetch_factor=prefetch_factor)
        require_at_least(0, num_workers=num_workers)
        if num_workers > 0:
            _check_socket_path()
        self.root = root
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor
        self.seed = seed
        self.banked: BankedFeatures | None = None
        self.fold = 0
        self.folds = pd.Series(dtype=int)

    @abc.abstractmethod
    def labels(self) -> pd.DataFrame:
        """The labelled photos: `id_columns`, metadata, targets."""

    def photo_ids(self) -> pd.Series:
        """Names of the labelled photos."""
        return self.labels()[self.id_columns[0]]

    @abc.abstractmethod
    def make_folds(self) -> pd.Series:
        """The fold in which each labelled photo is held out, indexed by its name."""

    @abc.abstractmethod
    def check(self) -> None:
        """Finds everything wrong with the labelled data before any training.

        Raises:
            BiomassError: Something is; the message lists all of its kind.
        """

    def check_fold(self) -> None:
        """Refuses a fold that cannot be trained on or scored.

        Raises:
            ConfigError: A setting asks for more than the training photos of the fold.
            FoldError: The fold holds out what has no score.
        """
        training = int((self.folds != self.fold).sum())
        if self.batch_size > training:
            raise ConfigError(
                f"data.batch_size {self.batch_size} is more than the {training} training photos of fold {self.fold}. "
                f"Lower it to {training} at most."
            )

    def table_features(self, columns: Sequence[str] | None) -> TableFeatures | None:
        """What the label and test tables tell of the photos beside the pictures; none where it is nothing.

        Args:
            columns: Columns to make features of; none takes all that are in both tables.

        Raises:
            BiomassError: A column or a table cannot be used.
        """
        return None

    @abc.abstractmethod
    def select(self, split: Split, *, images: Sequence[Path] = (), flips: bool = False) -> None:
        """Chooses what `predict_dataloader` yields.

        Args:
            split: Which photos.
            images: The photos for `images`.
            flips: Also yield each photo flipped both ways, under the same id.
        """

    @abc.abstractmethod
    def check_selected(self) -> None:
        """Finds everything wrong with the selected photos before they are predicted.

        Raises:
            BiomassError: Something is; the message lists all of its kind.
        """

    def use_fold(self, fold: int, folds: pd.Series) -> None:
        """Sets the fold to hold out.

        Args:
            fold: Its number.
            folds: The fold of every photo, as `make_folds` returns it.
        """
        self.fold = fold
        self.folds = folds

    def loader(
        self, dataset: Dataset[dict[str, Any]], length: int, *, draw: Draw | None = None, shared: bool = True
    ) -> DataLoader[Any]:
        """A loader over a dataset that is asked for (index, epoch).

        Args:
            dataset: The dataset.
            length: Its number of items.
            draw: How the items of a training epoch are drawn; none takes all in their order.
            shared: Whether the processes of a training share the items out.
        """
        # Features are read faster than a worker could hand them over, and many of them fit where few photos do. What is
        # predicted may be pixels all the same: whether the bank has its features shows only later.
        only_features = shared and self.banked is not None and self.banked.epochs == math.inf
        workers = 0 if only_features else self.num_workers
        return DataLoader(
            dataset,
            batch_size=self.batch_size if draw or not only_features else self.batch_size * _FEATURES_PER_PHOTO,
            sampler=EpochSampler(length=length, draw=draw, seed=self.seed, shared=shared),
            num_workers=workers,
            prefetch_factor=self.prefetch_factor if workers > 0 else None,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            # Workers share the cores; threads of their own would only get in each other's way.
            worker_init_fn=use_one_thread,
        )


def require_at_least(least: int, **settings: int) -> None:
    """Refuses numbers of the data section that are too small.

    Raises:
        ConfigError: The first of them, by name.
    """
    for name, number in settings.items():
        if number < least:
            raise ConfigError(f"data.{name} is {number}; give {least} or more.")


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
