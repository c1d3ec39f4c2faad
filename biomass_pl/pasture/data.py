"""Pasture photos and their grams, one fold at a time."""

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from biomass_pl.data.augmentation import FLIPS, View
from biomass_pl.data.bank import PLAIN_VIEW, BankConfig, FeatureBank, photo_key
from biomass_pl.data.base import FoldDataModule, Source, Truth, require_at_least, use_one_thread
from biomass_pl.data.cache import PhotoCache
from biomass_pl.data.photos import PhotoPaths, broken_photos, check_photos
from biomass_pl.data.sampling import shuffled
from biomass_pl.data.splits import read_folds
from biomass_pl.errors import ConfigError, FoldError
from biomass_pl.pasture.classes import class_codes
from biomass_pl.pasture.dataset import PastureDataset, PasturePhoto, ViewDataset
from biomass_pl.pasture.folds import Strategy, make_folds
from biomass_pl.pasture.mixing import MixingConfig
from biomass_pl.pasture.sample.render import render_sample
from biomass_pl.pasture.scores import weighted_r2
from biomass_pl.pasture.tables import METADATA, read_labels, read_test_photos, warn_about_labels
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.pasture.transforms import AugmentationConfig, PlainTransform, TileGeometry, TrainingTransform

logger = logging.getLogger(__name__)

_RENDERED_WIDTH = 480
"""Width in pixels of rendered sample photos: enough for a first run, quick to decode."""


class PastureDataModule(FoldDataModule):
    """Pasture photos in the layout of CSIRO Image2Biomass: `train.csv`, `train/`, `test.csv`, `test/`.

    Args:
        root: Data folder.
        render_sample: Photos of the rendered sample that is put into `root` when `root` does not exist; 0: none.
        num_folds: Number of cross-validation folds.
        cv_strategy: How photos are kept together, by month, date, site or not at all; by default group_date.
        fold_csv: CSV file with the columns sample_id_prefix and fold; takes the place of cv_strategy.
        grid: Rows and columns of tiles cut from each half of a photo.
        tile_size: Side of a tile in pixels; what the backbone is built for.
        view_size: Side to which each half is shrunk before its tiles are cut; none keeps native pixels.
        aug_prob: Base probability of each random change, 0 to 1.
        stereo_correct_aug: Draw colour changes for each half on its own, so that equal noise links nothing.
        stereo_swap_prob: Probability of swapping the halves of a training photo, 0 to 1.
        mixup_prob: Probability of blending a training photo with one of the same State, month and species group.
        mixup_alpha: How evenly they are blended: below 1 one of them dominates, above 1 they come near halves.
        cutmix_prob: Probability of pasting a box of such a photo instead, 0 to 1.
        cutmix_alpha: As mixup_alpha, for the area of the box.
        cache_images: Decode each photo once, into a temporary file that all workers read.
        bank_views: Changed views per training photo kept as features while the backbone is frozen; 0: pixels.
        bank_dir: Folder of these features, shared by folds and later runs.
        bank_limit_gb: Gigabytes that the folder may take.
        batch_size: Photos per step on each device.
        num_workers: Processes that load photos; 0: the main process.
        prefetch_factor: Batches that each worker prepares ahead.
        seed: Seed of folds, order and augmentation; set by seed_everything.

    Raises:
        ConfigError: A setting, or two together, cannot work.
    """

    views: ClassVar[tuple[View, ...]] = FLIPS
    truth: ClassVar[Truth] = Truth(kind="values", columns=TARGETS)
    tile_size: int

    def __init__(
        self,
        *,
        root: Path = Path("data"),
        render_sample: int = 0,
        num_folds: int = 5,
        cv_strategy: Strategy | None = None,
        fold_csv: Path | None = None,
        grid: tuple[int, int] = (2, 2),
        tile_size: int = 518,
        view_size: int | None = None,
        aug_prob: float = 0.5,
        stereo_correct_aug: bool = False,
        stereo_swap_prob: float = 0.0,
        mixup_prob: float = 0.0,
        mixup_alpha: float = 0.4,
        cutmix_prob: float = 0.0,
        cutmix_alpha: float = 1.0,
        cache_images: bool = False,
        bank_views: int = 0,
        bank_dir: Path = Path("lightning_logs/feature_bank"),
        bank_limit_gb: float = 20.0,
        batch_size: int = 8,
        num_workers: int = 4,
        prefetch_factor: int = 4,
        seed: int = 42,
    ) -> None:
        super().__init__(
            root=root, batch_size=batch_size, num_workers=num_workers, prefetch_factor=prefetch_factor, seed=seed
        )
        _require_probabilities(
            aug_prob=aug_prob, stereo_swap_prob=stereo_swap_prob, mixup_prob=mixup_prob, cutmix_prob=cutmix_prob
        )
        _require_positive(mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha, bank_limit_gb=bank_limit_gb)
        require_at_least(0, bank_views=bank_views)
        require_at_least(1, grid=min(grid), tile_size=tile_size, view_size=1 if view_size is None else view_size)
        if fold_csv is not None and cv_strategy is not None:
            raise ConfigError(
                f"data.fold_csv and data.cv_strategy {cv_strategy} both say which photos are held out. "
                "Give one of them (--data.cv_strategy null)."
            )
        self.render_sample = render_sample
        self.num_folds = num_folds
        self.cv_strategy: Strategy = cv_strategy or "group_date"
        self.fold_csv = fold_csv
        self.grid = grid
        self.tile_size = tile_size
        self.cache_images = cache_images
        self.mixing = MixingConfig(
            mixup_prob=mixup_prob, mixup_alpha=mixup_alpha, cutmix_prob=cutmix_prob, cutmix_alpha=cutmix_alpha
        )
        if bank_views > 0 and self.mixing.is_on:
            raise ConfigError(
                "data.mixup_prob and data.cutmix_prob mix pixels, which the feature bank does not keep. "
                "Set them to 0, or data.bank_views to 0."
            )
        if bank_views > 0:
            self.bank = BankConfig(bank=FeatureBank(folder=bank_dir, limit_gb=bank_limit_gb), views=bank_views)
        self.geometry = TileGeometry(grid=grid, tile_size=tile_size, view_size=view_size)
        self.plain_transform = PlainTransform(geometry=self.geometry)
        self.training_transform = TrainingTransform(
            geometry=self.geometry,
            config=AugmentationConfig(
                aug_prob=aug_prob, stereo_correct=stereo_correct_aug, stereo_swap_prob=stereo_swap_prob
            ),
        )
        self._selected: Sequence[PasturePhoto] = ()
        self._views: Sequence[View] = ("plain",)

    @cached_property
    def _labels(self) -> pd.DataFrame:
        return read_labels(self.root)

    def prepare(self) -> None:
        """Renders a sample where it is asked for and `root` does not exist; warns of what is odd in the label table."""
        if self.render_sample and not self.root.exists():
            logger.warning("%s does not exist: rendering a sample of %d photos", self.root, self.render_sample)
            render_sample(out=self.root, photos=self.render_sample, width=_RENDERED_WIDTH)
        warn_about_labels(self._labels)

    def items(self) -> pd.DataFrame:
        """The label table: `image_id`, metadata, five targets in grams."""
        return self._labels.drop(columns="image_path")

    def make_folds(self) -> pd.Series:
        """The fold in which each photo is held out, by `fold_csv` or the strategy; -1 for none."""
        if self.fold_csv is not None:
            return read_folds(self.fold_csv, self._labels["image_id"])
        return make_folds(self._labels, strategy=self.cv_strategy, num_folds=self.num_folds, seed=self.seed)

    def check(self) -> None:
        """Reads the whole table and decodes every photo once.

        Raises:
            ConfigError: Photos are to be mixed, and the table does not tell which are alike.
            DataError: The table or photos cannot be used; lists them.
        """
        self._check_mixing()
        check_photos(self.root / path for path in self._labels["image_path"])

    def contents(self) -> Mapping[str, str]:
        """Hashes of the files of all labelled photos."""
        paths = zip(self._labels["image_id"], self._labels["image_path"], strict=True)
        return {image_id: photo_key(self.root / path) for image_id, path in paths}

    def check_split(self) -> None:
        """Also refuses a fold whose held-out photos have no score.

        Raises:
            ConfigError: A setting asks for more than the training photos of the fold.
            FoldError: All held-out grams are equal.
        """
        super().check_split()
        grams = self._labels.loc[self._held_out(), list(TARGETS)].to_numpy()
        if math.isnan(weighted_r2(grams, grams)):
            raise FoldError(
                f"Fold {self.split.fold} holds out {len(grams)} photo(s) whose grams are all equal, such as bare soil: "
                "R2 is not defined for them. Lower data.num_folds, or give folds that spread the photos as "
                "data.fold_csv."
            )

    def training_targets(self) -> np.ndarray:
        """Grams (photos, 5) of the photos that this fold trains on."""
        return self._labels.loc[~self._held_out(), list(TARGETS)].to_numpy(dtype=np.float32)

    def training_classes(self) -> dict[str, np.ndarray]:
        """Class numbers `state`, `month` and `species` of the photos that this fold trains on; -1 is unknown."""
        return class_codes(self._labels[~self._held_out()])

    def select(self, source: Source, *, files: Sequence[Path] = (), views: Sequence[View] = ("plain",)) -> None:
        """Chooses what `predict_dataloader` yields; see the base class.

        Raises:
            DataError: The test table or photos cannot be used; lists them.
        """
        self._views = tuple(views)
        if source == "held_out":
            self._selected = self._labelled_photos(held_out=True)
        elif source == "test":
            table = read_test_photos(self.root)
            self._selected = _unlabelled(table["image_id"], [self.root / path for path in table["image_path"]])
        else:
            self._selected = _unlabelled([str(path) for path in files], files)

    def broken_items(self) -> dict[str, str]:
        """Decodes every selected photo once; those that cannot be read, each with the reason."""
        reasons = broken_photos([photo.path for photo in self._selected])
        return {photo.image_id: reasons[photo.path] for photo in self._selected if photo.path in reasons}

    def leave_out(self, names: Collection[str]) -> None:
        """Takes photos out of what was selected."""
        self._selected = [photo for photo in self._selected if photo.image_id not in names]

    def photos(self) -> PhotoPaths:
        """The labelled photos by `image_id`."""
        paths = zip(self._labels["image_id"], self._labels["image_path"], strict=True)
        return PhotoPaths({image_id: self.root / path for image_id, path in paths})

    def selected_photos(self) -> PhotoPaths:
        """The selected photos by `image_id`."""
        return PhotoPaths({photo.image_id: photo.path for photo in self._selected})

    def photo_grid(self) -> tuple[int, int]:
        """The tiles of both halves."""
        return self.grid[0], 2 * self.grid[1]

    def training_loader(self) -> DataLoader[Any]:
        """Training photos of the fold, changed at random, in another order every epoch."""
        photos = self._labelled_photos(held_out=False)
        dataset = PastureDataset(
            photos=photos,
            transform=self.training_transform,
            seed=self.seed,
            mixing=self.mixing if self.mixing.is_on else None,
            cache=self._cache,
            features=self.features,
            drawn_views=True,
        )
        return self.loader(dataset, len(dataset), order=shuffled(len(dataset)))

    def plain_loader(self, *, held_out: bool) -> DataLoader[Any]:
        """Photos of the fold, as they are."""
        photos = self._labelled_photos(held_out=held_out)
        dataset = PastureDataset(
            photos=photos, transform=self.plain_transform, seed=self.seed, cache=self._cache, features=self.features
        )
        return self.loader(dataset, len(dataset))

    def predict_dataloader(self) -> DataLoader[Any]:
        """What `select` chose."""
        dataset = PastureDataset(
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

    def view_shape(self) -> tuple[int, int]:
        """Views of a photo's pair and tiles of each."""
        return 2, math.prod(self.grid)

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
        """Pixels of the views that the bank lacks: name of the photo, views, tiles (views, 2, T, 3, S, S).

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

    @cached_property
    def _cache(self) -> PhotoCache | None:
        """All labelled photos, decoded when a loader first needs them."""
        if not self.cache_images:
            return None
        paths = [self.root / path for path in self._labels["image_path"]]
        return PhotoCache(paths=paths, at_least=self.geometry.decode_size)

    def _check_mixing(self) -> None:
        missing = [column for column in METADATA if column not in self._labels]
        if self.mixing.is_on and missing:
            asked = "mixup_prob" if self.mixing.mixup_prob > 0 else "cutmix_prob"
            raise ConfigError(
                f"data.{asked} mixes photos of the same State, month and species group, and train.csv has no column "
                f"{', '.join(missing)}. Add what is missing, or set data.{asked} to 0."
            )

    def _held_out(self) -> np.ndarray:
        return self.split.held_out(self._labels["image_id"])

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


def _require_probabilities(**settings: float) -> None:
    for name, value in settings.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"data.{name} is {value}; a probability lies between 0 and 1.")


def _require_positive(**settings: float) -> None:
    for name, value in settings.items():
        if not 0 < value < math.inf:
            raise ConfigError(f"data.{name} is {value}; give a number above 0.")
