"""Pasture photos and their grams, one fold at a time."""

import logging
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from biomass_pl.data.base import Truth
from biomass_pl.data.photo_changes import AugmentationConfig
from biomass_pl.data.splits import read_folds
from biomass_pl.data.table_values import DateFormat
from biomass_pl.data.tiled_dataset import TiledDataset, TiledPhoto
from biomass_pl.data.tiled_photos import TiledPhotoDataModule, make_bank, require_positive, require_probabilities
from biomass_pl.data.tiles import PhotoViews, make_geometry
from biomass_pl.errors import ConfigError, FoldError
from biomass_pl.pasture.classes import class_codes
from biomass_pl.pasture.dataset import MixedDataset
from biomass_pl.pasture.folds import Strategy, make_folds, photo_groups
from biomass_pl.pasture.metadata import METADATA
from biomass_pl.pasture.mixing import MixingConfig
from biomass_pl.pasture.sample.render import render_sample
from biomass_pl.pasture.scores import weighted_r2
from biomass_pl.pasture.tables import (
    Labels,
    TableSettings,
    has_test_table,
    load_labels,
    read_headings,
    read_test_photos,
    warn_about_labels,
)
from biomass_pl.pasture.targets import TARGETS

logger = logging.getLogger(__name__)

_RENDERED_WIDTH = 480
"""Width in pixels of rendered sample photos: enough for a first run, quick to decode."""


class PastureDataModule(TiledPhotoDataModule):
    """Pasture photos: in the layout of CSIRO Image2Biomass, or with a table of one's own that has a row per photo.

    Args:
        root: Data folder.
        table: Label table in root, CSV or Excel; none takes train.csv, else the only table there.
        test_table: Test table in root; none takes test.csv.
        columns: Headings by image, the targets, Sampling_Date, State and Species, where these are called otherwise.
        encoding: Encoding of CSV files, such as cp1252; none takes UTF-8.
        date_format: Order in which days are written; none takes the year first.
        render_sample: Photos of the rendered sample that is put into `root` when `root` does not exist; 0: none.
        num_folds: Number of cross-validation folds.
        cv_strategy: How photos are kept together, by month, date, site or not at all; by default group_date.
        fold_csv: CSV file with the columns sample_id_prefix and fold; takes the place of cv_strategy.
        views: halves: the left and the right half of a photo, each brought to the shape of the grid; whole: all of it,
            of any shape and not distorted, in overlapping tiles where it is narrower than the grid.
        grid: Rows and columns of tiles cut from each view of a photo.
        tile_size: Side of a tile in pixels; what the backbone is built for.
        native_tiles: With views: whole, tiles of the photo's own pixels, spread evenly over it.
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
        features: File of features by whichever network that are learned from instead of photos, .npz or .parquet with
            image_id and features; none: photos.
        batch_size: Photos per step on each device.
        num_workers: Processes that load photos; 0: the main process.
        prefetch_factor: Batches that each worker prepares ahead.
        seed: Seed of folds, order and augmentation; set by seed_everything.

    Raises:
        ConfigError: A setting, or two together, cannot work.
    """

    truth = Truth(kind="values", columns=TARGETS)

    def __init__(
        self,
        *,
        root: Path = Path("data"),
        table: Path | None = None,
        test_table: Path | None = None,
        columns: dict[str, str | None] | None = None,
        encoding: str | None = None,
        date_format: DateFormat | None = None,
        render_sample: int = 0,
        num_folds: int = 5,
        cv_strategy: Strategy | None = None,
        fold_csv: Path | None = None,
        views: PhotoViews = "halves",
        grid: tuple[int, int] = (2, 2),
        tile_size: int = 518,
        native_tiles: bool = False,
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
        features: Path | None = None,
        batch_size: int = 8,
        num_workers: int = 4,
        prefetch_factor: int = 4,
        seed: int = 42,
    ) -> None:
        require_probabilities(
            aug_prob=aug_prob, stereo_swap_prob=stereo_swap_prob, mixup_prob=mixup_prob, cutmix_prob=cutmix_prob
        )
        require_positive(mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha)
        super().__init__(
            root=root,
            geometry=make_geometry(
                views=views, grid=grid, tile_size=tile_size, view_size=view_size, native_tiles=native_tiles
            ),
            augmentation=AugmentationConfig(
                aug_prob=aug_prob, stereo_correct=stereo_correct_aug, stereo_swap_prob=stereo_swap_prob
            ),
            cache_images=cache_images,
            bank=make_bank(views=bank_views, folder=bank_dir, limit_gb=bank_limit_gb),
            batch_size=batch_size,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            seed=seed,
            features=features,
        )
        if fold_csv is not None and cv_strategy is not None:
            raise ConfigError(
                f"data.fold_csv and data.cv_strategy {cv_strategy} both say which photos are held out. "
                "Give one of them (--data.cv_strategy null)."
            )
        self.tables = TableSettings(
            table=table, test_table=test_table, columns=columns, encoding=encoding, date_format=date_format
        )
        self.render_sample = render_sample
        self.num_folds = num_folds
        self.cv_strategy: Strategy = cv_strategy or "group_date"
        self.fold_csv = fold_csv
        self.mixing = MixingConfig(
            mixup_prob=mixup_prob, mixup_alpha=mixup_alpha, cutmix_prob=cutmix_prob, cutmix_alpha=cutmix_alpha
        )
        if views == "whole" and self.mixing.is_on:
            raise ConfigError(
                "data.mixup_prob and data.cutmix_prob mix the halves of photos, which are all of one shape. "
                "Set them to 0, or data.views to halves."
            )
        if self.bank is not None and self.mixing.is_on:
            raise ConfigError(
                "data.mixup_prob and data.cutmix_prob mix pixels, which the feature bank does not keep. "
                "Set them to 0, or data.bank_views to 0."
            )

    @cached_property
    def _label_table(self) -> Labels:
        return load_labels(self.root, self.tables)

    def headings(self) -> dict[str, str | None]:
        """What each column of the label table is taken for, by its heading; none for one that is not used."""
        return read_headings(self.root, self.tables)

    def has_test_items(self) -> bool:
        """Whether there is a test table, or a setting that names one."""
        return has_test_table(self.root, self.tables)

    def read_labels(self) -> pd.DataFrame:
        """The label table: `image_id`, `image_path`, metadata, five targets in grams, NaN where unknown."""
        return self._label_table.photos

    def read_test_photos(self) -> pd.DataFrame:
        """`image_id` and `image_path` of the test table."""
        return read_test_photos(self.root, self.tables)

    def label_tensors(self, table: pd.DataFrame) -> dict[str, torch.Tensor]:
        """Grams `target` (photos, 5), and class numbers `state`, `month` and `species`; -1 is unknown."""
        grams = torch.tensor(table[list(TARGETS)].to_numpy(dtype=np.float32))
        return {"target": grams, **{name: torch.tensor(column) for name, column in class_codes(table).items()}}

    def prepare(self) -> None:
        """Renders a sample where it is asked for and `root` does not exist; tells what was found in the label table."""
        if self.render_sample and not self.root.exists():
            logger.warning("%s does not exist: rendering a sample of %d photos", self.root, self.render_sample)
            render_sample(out=self.root, photos=self.render_sample, width=_RENDERED_WIDTH)
        for note in self._label_table.notes:
            logger.info(note)
        warn_about_labels(self.labels)

    def make_folds(self) -> pd.Series:
        """The fold in which each photo is held out, by `fold_csv` or the strategy; -1 for none."""
        if self.fold_csv is not None:
            return read_folds(self.fold_csv, self.labels["image_id"], encoding=self.tables.encoding)
        return make_folds(self.labels, strategy=self.cv_strategy, num_folds=self.num_folds, seed=self.seed)

    def groups(self) -> pd.Series | None:
        """What the strategy keeps together, such as the date of each photo."""
        return None if self.fold_csv is not None else photo_groups(self.labels, self.cv_strategy)

    def check(self) -> None:
        """Reads the whole table and decodes every photo once.

        Raises:
            ConfigError: Photos are to be mixed, and the table does not tell which are alike.
            DataError: The table or photos cannot be used; lists them.
        """
        self._check_mixing()
        super().check()

    def check_split(self) -> None:
        """Also refuses a fold whose held-out photos have no score, and warns of one that lacks a target to learn.

        Raises:
            ConfigError: A setting asks for more than the training photos of the fold.
            FoldError: All held-out grams that are known are equal.
        """
        super().check_split()
        grams = self.labels.loc[self.held_out(), list(TARGETS)].to_numpy()
        if math.isnan(weighted_r2(grams, grams)):
            raise FoldError(
                f"Fold {self.split.fold} holds out {len(grams)} photo(s) whose grams are all equal, such as bare soil: "
                "R2 is not defined for them. Lower data.num_folds, or give folds that spread the photos as "
                "data.fold_csv."
            )
        untaught = ~np.isnan(grams).all(axis=0) & np.isnan(self.training_targets()).all(axis=0)
        if untaught.any():
            logger.warning(
                "Fold %d holds out all photos with known %s: nothing teaches what is predicted of it.",
                self.split.fold,
                " and ".join(target for target, is_so in zip(TARGETS, untaught, strict=True) if is_so),
            )

    def training_targets(self) -> np.ndarray:
        """Grams (photos, 5) of the photos that this fold trains on, NaN where unknown."""
        return self.labels.loc[~self.held_out(), list(TARGETS)].to_numpy(dtype=np.float32)

    def training_classes(self) -> dict[str, np.ndarray]:
        """Class numbers `state`, `month` and `species` of the photos that this fold trains on; -1 is unknown."""
        return class_codes(self.labels[~self.held_out()])

    def training_dataset(self, photos: Sequence[TiledPhoto]) -> TiledDataset:
        """Photos as a training sees them, mixed where that is asked for."""
        if not self.mixing.is_on or self.given is not None:
            return super().training_dataset(photos)
        return MixedDataset(mixing=self.mixing, photos=photos, **self.training_settings())

    def _check_mixing(self) -> None:
        missing = [column for column in METADATA if column not in self.labels]
        if self.mixing.is_on and missing and self.given is None:
            asked = "mixup_prob" if self.mixing.mixup_prob > 0 else "cutmix_prob"
            raise ConfigError(
                f"data.{asked} mixes photos of the same State, month and species group, and the label table has no "
                f"column {', '.join(missing)}. Add what is missing, or set data.{asked} to 0."
            )
