"""Photos and any numbers that were measured on them, one fold at a time."""

import logging
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from biomass_pl.data.base import Truth
from biomass_pl.data.photo_changes import AugmentationConfig
from biomass_pl.data.splits import read_folds, split_folds
from biomass_pl.data.tiled_photos import TiledPhotoDataModule, make_bank, require_probabilities
from biomass_pl.data.tiles import PhotoViews, make_geometry
from biomass_pl.errors import ConfigError, FoldError, listed
from biomass_pl.trait.scores import mean_r2
from biomass_pl.trait.tables import GROUP, Columns, read_headings, read_measurements, read_photo_names

logger = logging.getLogger(__name__)


class RegressionDataModule(TiledPhotoDataModule):
    """Photos named in a table beside any numbers that were measured on them; a number may be missing.

    Args:
        root: Data folder.
        table: The table in it, CSV or Excel, with a row per photo.
        test_table: The table of photos to predict, which needs no numbers.
        encoding: Encoding of CSV files, such as cp1252; none takes UTF-8.
        targets: Columns of what was measured, as many as there are.
        units: Unit of each, for tables and pictures.
        image_column: Column with the photo's file, relative to root.
        group_column: Column of what is kept in one fold, such as a field or a day; none deals photos one by one.
        num_folds: Number of cross-validation folds.
        fold_csv: CSV file with the columns image_id and fold; takes the place of dealt folds.
        views: whole: all of a photo, of any shape and not distorted, in overlapping tiles where it is narrower than the
            grid; halves: its left and its right half, each brought to the shape of the grid.
        grid: Rows and columns of tiles cut from each view of a photo.
        tile_size: Side of a tile in pixels; what the backbone is built for.
        native_tiles: With views: whole, tiles of the photo's own pixels, spread evenly over it.
        aug_prob: Base probability of each random change, 0 to 1.
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

    def __init__(
        self,
        *,
        targets: list[str],
        root: Path = Path("data"),
        table: Path = Path("table.csv"),
        test_table: Path = Path("test.csv"),
        encoding: str | None = None,
        units: list[str] | None = None,
        image_column: str = "photo",
        group_column: str | None = None,
        num_folds: int = 5,
        fold_csv: Path | None = None,
        views: PhotoViews = "whole",
        grid: tuple[int, int] = (2, 2),
        tile_size: int = 518,
        native_tiles: bool = False,
        aug_prob: float = 0.5,
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
        require_probabilities(aug_prob=aug_prob)
        super().__init__(
            root=root,
            geometry=make_geometry(views=views, grid=grid, tile_size=tile_size, native_tiles=native_tiles),
            augmentation=AugmentationConfig(aug_prob=aug_prob),
            cache_images=cache_images,
            bank=make_bank(views=bank_views, folder=bank_dir, limit_gb=bank_limit_gb),
            batch_size=batch_size,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            seed=seed,
            features=features,
        )
        if units is not None and len(units) != len(targets):
            raise ConfigError(
                f"data.units has {len(units)} units for {len(targets)} targets. Give one for each, or none."
            )
        self.columns = Columns(image=image_column, group=group_column, targets=tuple(targets))
        self.truth = Truth(kind="values", columns=self.columns.targets, units=tuple(units or ()))
        self.table = table
        self.test_table = test_table
        self.encoding = encoding
        self.num_folds = num_folds
        self.fold_csv = fold_csv

    def headings(self) -> dict[str, str | None]:
        """What each column of the table is taken for, by its heading; none for one that is not used."""
        return read_headings(self.root / self.table, self.columns, encoding=self.encoding)

    def has_test_items(self) -> bool:
        """Whether there is a table of photos to predict."""
        return (self.root / self.test_table).is_file()

    def read_labels(self) -> pd.DataFrame:
        """The label table: `image_id`, `image_path`, `group` where there is one, and the targets."""
        return read_measurements(self.root / self.table, self.root, self.columns, encoding=self.encoding)

    def read_test_photos(self) -> pd.DataFrame:
        """`image_id` and `image_path` of the table of photos to predict."""
        return read_photo_names(self.root / self.test_table, self.root, self.columns.image, encoding=self.encoding)

    def label_tensors(self, table: pd.DataFrame) -> dict[str, torch.Tensor]:
        """Numbers `target` (photos, targets), NaN where one was not measured."""
        return {"target": torch.tensor(self._values(table).astype(np.float32))}

    def prepare(self) -> None:
        """Tells how many photos lack which target."""
        missing = self.labels[list(self.columns.targets)].isna().sum()
        for target, count in missing[missing > 0].items():
            logger.info("%d of %d photos have no %s: they teach the others alone", count, len(self.labels), target)

    def make_folds(self) -> pd.Series:
        """The fold in which each photo is held out; -1 for none.

        Raises:
            FoldError: The folds cannot be made or read, or given ones put photos of one group into several.
        """
        if self.fold_csv is not None:
            folds = read_folds(self.fold_csv, self.labels["image_id"], encoding=self.encoding)
            self._require_one_fold_per_group(folds)
            return folds
        groups = self.groups()
        return split_folds(
            self.labels["image_id"],
            groups=groups,
            strata=self._quarters(),
            num_folds=self.num_folds,
            seed=self.seed,
            what="Dealing photos" if groups is None else f"Grouping by {self.columns.group}",
            remedy="give folds of your own as data.fold_csv",
        )

    def groups(self) -> pd.Series | None:
        """What is kept in one fold: the group of each photo, indexed by its name; none where there are no groups."""
        return self.labels.set_index("image_id")[GROUP] if self.columns.group is not None else None

    def check_split(self) -> None:
        """Also refuses a fold whose held-out photos have no score.

        Raises:
            ConfigError: A setting asks for more than the training photos of the fold.
            FoldError: No target was measured on two held-out photos with another result.
        """
        super().check_split()
        values = self._values(self.labels[self.held_out()])
        if math.isnan(mean_r2(values, np.nan_to_num(values), np.ones(values.shape[1]))):
            raise FoldError(
                f"Fold {self.split.fold} holds out {len(values)} photo(s) without two different values of any target: "
                "R2 is not defined for them. Lower data.num_folds, or give folds that spread the photos as "
                "data.fold_csv."
            )

    def training_targets(self) -> np.ndarray:
        """Numbers (photos, targets) of the photos that this fold trains on, NaN where one was not measured."""
        return self._values(self.labels[~self.held_out()])

    def _values(self, table: pd.DataFrame) -> np.ndarray:
        return table[list(self.columns.targets)].to_numpy(dtype=np.float64)

    def _quarters(self) -> np.ndarray:
        """Quarter of each photo among all, by the mean of what was measured on it, each target in its own spread."""
        values = self.labels[list(self.columns.targets)]
        spread = values.std(ddof=0)
        standardised = (values - values.mean()) / spread.where(spread > 0, 1.0)
        means = standardised.mean(axis=1).fillna(0.0)  # of a photo on which nothing was measured
        quarters = pd.qcut(means, 4, labels=False, duplicates="drop")
        return np.asarray(quarters.fillna(0).astype(int))

    def _require_one_fold_per_group(self, folds: pd.Series) -> None:
        groups = self.groups()
        if groups is None:
            return
        counts = folds.groupby(groups.loc[folds.index].to_numpy()).nunique()
        apart = [str(name) for name in counts.index[counts > 1]]
        if apart:
            raise FoldError(
                f"data.fold_csv puts photos of {len(apart)} group(s) of the column {self.columns.group} into several "
                f"folds. Put all photos of a group into one, or set data.group_column to null:\n{listed(apart)}"
            )
