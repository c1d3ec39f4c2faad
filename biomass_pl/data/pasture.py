"""Pasture photos and their grams, one fold at a time."""

import logging
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from biomass_pl.data.base import FoldDataModule, Split
from biomass_pl.data.folds import Strategy, make_folds, read_folds
from biomass_pl.data.photos import check_photos, read_photo
from biomass_pl.data.sample import render_sample
from biomass_pl.data.tables import class_codes, read_labels, read_test_photos, warn_about_labels
from biomass_pl.data.transforms import AugmentationConfig, PlainTransform, TileGeometry, TrainingTransform
from biomass_pl.errors import ConfigError
from biomass_pl.targets import TARGETS

logger = logging.getLogger(__name__)

_RENDERED_WIDTH = 640
"""Width in pixels of rendered sample photos: enough for a first run, quick to decode."""

_FLIP_AXES = (None, 2, 1)
"""Test-time views of (view, height, width, channel) arrays: as they are, flipped left-right, flipped top-bottom."""


@dataclass(frozen=True, kw_only=True)
class PasturePhoto:
    """One photo and what is known of it.

    Args:
        image_id: Its name in tables.
        path: Its file.
        labels: Tensors that go into the batch as they are: target, state, month, species.
    """

    image_id: str
    path: Path
    labels: dict[str, torch.Tensor]


class PastureDataset(Dataset[dict[str, Any]]):
    """Photos as tiles. What an item looks like depends on (seed, epoch, photo) alone.

    Args:
        photos: The photos.
        transform: Gives the two views of a decoded photo.
        seed: Seed of the random changes.
        flips: Yield each photo three times: as it is, flipped left-right, flipped top-bottom.
    """

    def __init__(
        self,
        *,
        photos: Sequence[PasturePhoto],
        transform: PlainTransform | TrainingTransform,
        seed: int,
        flips: bool = False,
    ) -> None:
        self.photos = photos
        self.transform = transform
        self.seed = seed
        self.flip_axes = _FLIP_AXES if flips else _FLIP_AXES[:1]
        self._last_read: tuple[Path, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.photos) * len(self.flip_axes)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """The item for (index, epoch): `id`, `tiles` uint8 (2, T, 3, S, S), and the labels."""
        index, epoch = key
        position, flip = divmod(index, len(self.flip_axes))
        photo = self.photos[position]
        rng = np.random.default_rng([self.seed, epoch, zlib.crc32(photo.image_id.encode())])
        views = self.transform(self._read(photo.path), rng)
        axis = self.flip_axes[flip]
        tiles = self.transform.geometry.cut(views if axis is None else np.flip(views, axis))
        return {"id": photo.image_id, "tiles": tiles, **photo.labels}

    def _read(self, path: Path) -> np.ndarray:
        # The flips of a photo follow each other: keeping the last photo decodes it once.
        if self._last_read is None or self._last_read[0] != path:
            self._last_read = path, read_photo(path, at_least=self.transform.decode_size)
        return self._last_read[1]


class PastureDataModule(FoldDataModule):
    """Pasture photos in the layout of CSIRO Image2Biomass: `train.csv`, `train/`, `test.csv`, `test/`.

    Args:
        root: Data folder.
        render_sample: Photos of the rendered sample that is put into `root` when `root` does not exist; 0: none.
        num_folds: Number of cross-validation folds.
        cv_strategy: How photos are kept together: by month, date, site (State and date), or not at all.
        fold_csv: CSV file with the columns sample_id_prefix and fold; takes the place of cv_strategy.
        grid: Rows and columns of tiles cut from each half of a photo.
        tile_size: Side of a tile in pixels; what the backbone is built for.
        aug_prob: Base probability of each random change of a training photo, 0 to 1.
        stereo_correct_aug: Draw colour changes for each half on its own, so that equal noise links nothing.
        stereo_swap_prob: Probability of swapping the halves of a training photo, 0 to 1.
        batch_size: Photos per step on each device.
        num_workers: Processes that load photos; 0 loads in the main process.
        seed: Seed of folds, order and augmentation; set by seed_everything.
    """

    def __init__(
        self,
        *,
        root: Path = Path("data"),
        render_sample: int = 0,
        num_folds: int = 5,
        cv_strategy: Strategy = "group_date",
        fold_csv: Path | None = None,
        grid: tuple[int, int] = (2, 2),
        tile_size: int = 518,
        aug_prob: float = 0.5,
        stereo_correct_aug: bool = False,
        stereo_swap_prob: float = 0.0,
        batch_size: int = 8,
        num_workers: int = 4,
        seed: int = 42,
    ) -> None:
        super().__init__(root=root, batch_size=batch_size, num_workers=num_workers, seed=seed)
        for name, value in {"aug_prob": aug_prob, "stereo_swap_prob": stereo_swap_prob}.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"data.{name} is {value}; a probability lies between 0 and 1.")
        for name, number in {"grid": min(grid), "tile_size": tile_size, "batch_size": batch_size}.items():
            if number < 1:
                raise ConfigError(f"data.{name} is {number}; give 1 or more.")
        if num_workers < 0:
            raise ConfigError(f"data.num_workers is {num_workers}; give 0 or more.")
        self.render_sample = render_sample
        self.num_folds = num_folds
        self.cv_strategy = cv_strategy
        self.fold_csv = fold_csv
        self.grid = grid
        self.tile_size = tile_size
        geometry = TileGeometry(grid=grid, tile_size=tile_size)
        self.plain_transform = PlainTransform(geometry=geometry)
        self.training_transform = TrainingTransform(
            geometry=geometry,
            config=AugmentationConfig(
                aug_prob=aug_prob, stereo_correct=stereo_correct_aug, stereo_swap_prob=stereo_swap_prob
            ),
        )
        self._selected: Sequence[PasturePhoto] = ()
        self._flips = False

    @cached_property
    def _labels(self) -> pd.DataFrame:
        if self.render_sample and not self.root.exists():
            logger.warning("%s does not exist: rendering a sample of %d photos", self.root, self.render_sample)
            render_sample(out=self.root, photos=self.render_sample, width=_RENDERED_WIDTH)
        return read_labels(self.root)

    def labels(self) -> pd.DataFrame:
        """The label table: `image_id`, `image_path`, metadata, five targets in grams."""
        return self._labels

    def make_folds(self) -> pd.Series:
        """The fold in which each photo is held out, by `fold_csv` or the strategy."""
        if self.fold_csv is not None:
            return read_folds(self.fold_csv, self._labels["image_id"])
        return make_folds(self._labels, strategy=self.cv_strategy, num_folds=self.num_folds, seed=self.seed)

    def check(self) -> None:
        """Reads the whole table and decodes every photo once.

        Raises:
            DataError: The table or photos cannot be used; lists them.
        """
        check_photos(self.root / path for path in self._labels["image_path"])
        warn_about_labels(self._labels)

    def training_targets(self) -> np.ndarray:
        """Grams (photos, 5) of the photos that this fold trains on."""
        return self._labels.loc[~self._held_out(), list(TARGETS)].to_numpy(dtype=np.float32)

    def training_classes(self) -> dict[str, np.ndarray]:
        """Class numbers `state`, `month` and `species` of the photos that this fold trains on; -1 is unknown."""
        return class_codes(self._labels[~self._held_out()])

    def select(self, split: Split, *, images: Sequence[Path] = (), flips: bool = False) -> None:
        """Chooses what `predict_dataloader` yields; see the base class.

        Raises:
            DataError: The test table or photos cannot be used; lists them.
        """
        self._flips = flips
        if split == "validation":
            self._selected = self._labelled_photos(held_out=True)
        elif split == "test":
            table = read_test_photos(self.root)
            self._selected = _unlabelled(table["image_id"], [self.root / path for path in table["image_path"]])
        else:
            self._selected = _unlabelled([str(path) for path in images], images)

    def check_selected(self) -> None:
        """Decodes every selected photo once.

        Raises:
            DataError: Photos cannot be used; lists them.
        """
        check_photos(photo.path for photo in self._selected)

    def train_dataloader(self) -> DataLoader[Any]:
        """Training photos of the fold, changed at random, in another order every epoch."""
        photos = self._labelled_photos(held_out=False)
        dataset = PastureDataset(photos=photos, transform=self.training_transform, seed=self.seed)
        return self.loader(dataset, len(dataset), shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Held-out photos of the fold, as they are."""
        photos = self._labelled_photos(held_out=True)
        dataset = PastureDataset(photos=photos, transform=self.plain_transform, seed=self.seed)
        return self.loader(dataset, len(dataset))

    def predict_dataloader(self) -> DataLoader[Any]:
        """What `select` chose."""
        dataset = PastureDataset(
            photos=self._selected, transform=self.plain_transform, seed=self.seed, flips=self._flips
        )
        return self.loader(dataset, len(dataset))

    def _held_out(self) -> np.ndarray:
        return np.asarray(self.folds.loc[self._labels["image_id"]] == self.fold)

    def _labelled_photos(self, *, held_out: bool) -> list[PasturePhoto]:
        table = self._labels[self._held_out() == held_out]
        grams = torch.tensor(table[list(TARGETS)].to_numpy(dtype=np.float32))
        codes = {name: torch.tensor(column) for name, column in class_codes(table).items()}
        return [
            PasturePhoto(
                image_id=image_id,
                path=self.root / image_path,
                labels={"target": grams[row], **{name: column[row] for name, column in codes.items()}},
            )
            for row, (image_id, image_path) in enumerate(zip(table["image_id"], table["image_path"], strict=True))
        ]


def _unlabelled(image_ids: Iterable[str], paths: Sequence[Path]) -> list[PasturePhoto]:
    return [
        PasturePhoto(image_id=image_id, path=path, labels={}) for image_id, path in zip(image_ids, paths, strict=True)
    ]
