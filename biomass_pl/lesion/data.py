"""Photos of skin lesions, one fold at a time."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from torch.utils.data import DataLoader

from biomass_pl.data.augmentation import FLIPS, View
from biomass_pl.data.base import FoldDataModule, Source, TableFeatures, Truth, require_at_least
from biomass_pl.data.sampling import EpochOrder, shuffled
from biomass_pl.data.splits import read_folds, split_folds
from biomass_pl.errors import ConfigError, FoldError
from biomass_pl.lesion.batches import balanced_batches, malignant_in_batch, resampled_negatives
from biomass_pl.lesion.dataset import LesionDataset
from biomass_pl.lesion.features import CATEGORY_COLUMNS, NUMERIC_COLUMNS, lesion_features
from biomass_pl.lesion.photos import PhotoFiles, PhotoStore, broken_in, check_store, contents_of, open_photos
from biomass_pl.lesion.tables import (
    TARGET,
    columns_of,
    has_lesions,
    read_lesions,
    read_metadata,
    require_one_fold_per_patient,
)
from biomass_pl.lesion.transforms import Augmentation, Changes, decode_size, plain_changes, training_changes


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lesions:
    """What a dataset reads.

    Args:
        photos: Where the photos lie.
        names: The lesions.
        targets: 0 or 1 of each; none where unknown.
    """

    photos: PhotoStore
    names: list[str]
    targets: np.ndarray | None


class LesionDataModule(FoldDataModule):
    """Lesion photos in the layout of ISIC 2024: `train-metadata.csv`, `train-image.hdf5`, the same with `test-`.

    Instead of the HDF5 file there may be a folder of JPEG files, `train-image` or `train-image/image`.

    Args:
        root: Data folder.
        num_folds: Number of cross-validation folds; all lesions of a patient are in one.
        fold_csv: CSV file with the columns isic_id and fold; takes the place of folds by patient.
        sample_size: Lesions used for a quick run: all malignant ones, the others drawn; none uses all.
        image_size: Side of the picture in pixels; what the backbone is built for.
        augmentation: How much training photos are changed: light, medium or heavy.
        positive_ratio: Share of malignant lesions in each training batch; each is seen once per epoch. None: not set.
        neg_pos_ratio: Benign lesions per malignant one, drawn anew every epoch, instead of positive_ratio.
        features: File of features by whichever network that are learned from instead of photos, .npz or .parquet with
            image_id and features; none: photos.
        batch_size: Photos per step on each device.
        num_workers: Processes that load photos; 0: the main process.
        prefetch_factor: Batches that each worker prepares ahead.
        seed: Seed of folds, order and augmentation; set by seed_everything.

    Raises:
        ConfigError: A setting, or two together, cannot work.
    """

    id_columns: ClassVar[tuple[str, ...]] = ("isic_id", "patient_id")
    views: ClassVar[tuple[View, ...]] = FLIPS
    truth = Truth(kind="classes", columns=(TARGET,))
    tile_size: int

    def __init__(
        self,
        *,
        root: Path = Path("data"),
        num_folds: int = 5,
        fold_csv: Path | None = None,
        sample_size: int | None = None,
        image_size: int = 224,
        augmentation: Augmentation = "medium",
        positive_ratio: float | None = None,
        neg_pos_ratio: float | None = None,
        features: Path | None = None,
        batch_size: int = 32,
        num_workers: int = 4,
        prefetch_factor: int = 4,
        seed: int = 42,
    ) -> None:
        super().__init__(
            root=root,
            batch_size=batch_size,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            seed=seed,
            features=features,
        )
        require_at_least(1, image_size=image_size, sample_size=1 if sample_size is None else sample_size)
        if positive_ratio is not None and neg_pos_ratio is not None:
            raise ConfigError(
                "data.positive_ratio and data.neg_pos_ratio both say how many benign lesions are seen. Give one of "
                "them (--data.positive_ratio null)."
            )
        if positive_ratio is not None and not 0 < positive_ratio < 1:
            raise ConfigError(f"data.positive_ratio is {positive_ratio}; give a share between 0 and 1.")
        if neg_pos_ratio is not None and not 0 < neg_pos_ratio < math.inf:
            raise ConfigError(f"data.neg_pos_ratio is {neg_pos_ratio}; give a number above 0.")
        self.num_folds = num_folds
        self.fold_csv = fold_csv
        self.sample_size = sample_size
        self.tile_size = image_size
        self.augmentation: Augmentation = augmentation
        self.positive_ratio = positive_ratio
        self.neg_pos_ratio = neg_pos_ratio
        self._selected = _Lesions(photos=PhotoFiles(), names=[], targets=None)
        self._views: Sequence[View] = ("plain",)

    @cached_property
    def _lesions(self) -> pd.DataFrame:
        """Of the whole table, whatever the size of the sample."""
        return read_lesions(self.root, "train")

    @cached_property
    def _photos(self) -> PhotoStore:
        return self._open("train")

    @cached_property
    def _used(self) -> pd.DataFrame:
        """The lesions of the sample, in the order of the table."""
        lesions = self._lesions
        malignant = np.flatnonzero(lesions[TARGET] == 1)
        if self.sample_size is None or self.sample_size >= len(lesions):
            return lesions
        if self.sample_size <= len(malignant):
            raise ConfigError(
                f"data.sample_size {self.sample_size} leaves no room for benign lesions beside the {len(malignant)} "
                f"malignant ones, which are all used. Raise it above {len(malignant)}."
            )
        benign = np.flatnonzero(lesions[TARGET] == 0)
        drawn = np.random.default_rng(self.seed).choice(benign, self.sample_size - len(malignant), replace=False)
        return lesions.iloc[np.sort(np.concatenate([malignant, drawn]))].reset_index(drop=True)

    def items(self) -> pd.DataFrame:
        """The lesions in use: `isic_id`, `patient_id`, `target`."""
        return self._used

    def headings(self) -> dict[str, str | None]:
        """What each column of the metadata is taken for, by its heading; none for one that is not used."""
        taken = dict.fromkeys((*NUMERIC_COLUMNS, *CATEGORY_COLUMNS), "a feature for biomass stack")
        taken |= {"isic_id": "photo", "patient_id": "what is kept in one fold", TARGET: "0 benign, 1 malignant"}
        return {heading: taken.get(heading) for heading in columns_of(self.root, "train")}

    def has_test_items(self) -> bool:
        """Whether there are metadata of test photos with at least one row."""
        return has_lesions(self.root, "test")

    def make_folds(self) -> pd.Series:
        """The fold in which each lesion in use is held out, the same in a sample as in the whole table.

        Raises:
            FoldError: The folds cannot be made or read, or given ones put lesions of one patient into several.
        """
        if self.fold_csv is not None:
            folds = read_folds(self.fold_csv, self._lesions["isic_id"])
            require_one_fold_per_patient(self._lesions, folds)
        else:
            folds = split_folds(
                self._lesions["isic_id"],
                groups=self._lesions["patient_id"],
                strata=self._lesions[TARGET].to_numpy(),
                num_folds=self.num_folds,
                seed=self.seed,
                what="Grouping by patient_id",
                remedy="give folds of your own as data.fold_csv",
            )
        return folds.loc[self._used["isic_id"]]

    def groups(self) -> pd.Series:
        """The patient of each lesion in use."""
        return self._used.set_index("isic_id")["patient_id"]

    def check(self) -> None:
        """Reads the table and decodes every photo once, or looks for its features where these were given.

        Raises:
            DataError: The table or photos cannot be used; lists them.
        """
        names = self._used["isic_id"].tolist()  # a folder without metadata is told first
        if self.given is not None:
            self.given.require(names)
        else:
            check_store(self._photos, names)

    def contents(self) -> Mapping[str, str] | None:
        """Hashes of the photos in use; none where no photo is opened."""
        if self.given is not None:
            return None
        return contents_of(self._photos, self._used["isic_id"].tolist())

    def check_split(self) -> None:
        """Refuses folds without malignant or benign lesions, and batches that want more than there are.

        Raises:
            ConfigError: A setting asks for more than the training photos of the fold.
            FoldError: A class is missing, among the training photos or those held out.
        """
        super().check_split()
        held_out = self._held_out()
        for name, rows in (("holds out", held_out), ("trains on", ~held_out)):
            for target, kind in ((1, "malignant"), (0, "benign")):
                if not (self._used.loc[rows, TARGET] == target).any():
                    raise FoldError(
                        f"Fold {self.split.fold} {name} no {kind} lesion; the score needs both kinds. "
                        "Lower data.num_folds, or give folds that spread them as data.fold_csv."
                    )
        malignant = int((self._used.loc[~held_out, TARGET] == 1).sum())
        if self.positive_ratio is None:
            return
        wanted = malignant_in_batch(self.batch_size, self.positive_ratio)
        if not 1 <= wanted <= malignant:
            raise ConfigError(
                f"data.positive_ratio {self.positive_ratio} puts {wanted} malignant and {self.batch_size - wanted} "
                f"benign lesions into a batch of {self.batch_size}; fold {self.split.fold} trains on {malignant} "
                "malignant ones. Change data.batch_size or data.positive_ratio so that a batch has both, and no more."
            )

    def table_features(self, columns: Sequence[str] | None) -> TableFeatures:
        """Features of the metadata, from columns that the test metadata also have, where there are any.

        Raises:
            ConfigError: A column is known in training only, or unknown.
            DataError: A table cannot be read.
        """
        tested = has_lesions(self.root, "test")
        chosen = list(columns) if columns is not None else self._usable_columns(tested=tested)
        parts = {}
        for split in ("train", "test") if tested else ("train",):
            groups = read_lesions(self.root, split).set_index("isic_id")["patient_id"]
            metadata = read_metadata(self.root, split)
            parts[split] = lesion_features(metadata, columns=chosen).set_index(metadata["isic_id"]), groups
        names = self._used["isic_id"]
        labelled, patients = parts["train"]
        test, test_patients = parts.get("test", (None, None))
        return TableFeatures(labelled=labelled.loc[names], test=test, groups=(patients.loc[names], test_patients))

    def select(self, source: Source, *, files: Sequence[Path] = (), views: Sequence[View] = ("plain",)) -> None:
        """Chooses what `predict_dataloader` yields; see the base class.

        Raises:
            DataError: The test metadata or photos cannot be used, or test photos have no features.
        """
        self._views = tuple(views)
        if source == "held_out":
            self._selected = self._labelled(held_out=True)
        elif source == "test":
            names = read_lesions(self.root, "test")["isic_id"].tolist()
            if self.given is not None:
                self.given.require(names)
            self._selected = _Lesions(photos=self._open("test"), names=names, targets=None)
        else:
            self._selected = _Lesions(photos=PhotoFiles(), names=[str(path) for path in files], targets=None)

    def broken_items(self) -> dict[str, str]:
        """Decodes every selected photo once; those that cannot be read, each with the reason."""
        if self.given is not None:
            return {}
        photos, names = self._selected.photos, self._selected.names
        missing = dict.fromkeys(photos.missing(names), "there is no such photo")
        return missing | broken_in(photos, [name for name in names if name not in missing])

    def leave_out(self, names: Collection[str]) -> None:
        """Takes photos out of what was selected."""
        kept = [position for position, name in enumerate(self._selected.names) if name not in names]
        targets = None if self._selected.targets is None else self._selected.targets[kept]
        self._selected = replace(
            self._selected, names=[self._selected.names[position] for position in kept], targets=targets
        )

    def photos(self) -> PhotoStore:
        """The labelled photos by `isic_id`."""
        return self._photos

    def training_loader(self) -> DataLoader[Any]:
        """Training photos of the fold, changed at random, drawn anew every epoch."""
        lesions = self._labelled(held_out=False)
        dataset = self._dataset(lesions, training_changes(self.tile_size, self.augmentation))
        return self.loader(dataset, len(dataset), order=self._order(lesions))

    def plain_loader(self, *, held_out: bool) -> DataLoader[Any]:
        """Photos of the fold, as they are."""
        dataset = self._dataset(self._labelled(held_out=held_out))
        return self.loader(dataset, len(dataset))

    def predict_dataloader(self) -> DataLoader[Any]:
        """What `select` chose."""
        dataset = self._dataset(self._selected, views=self._views)
        return self.loader(dataset, len(dataset), shared=False)

    def _dataset(
        self, lesions: _Lesions, changes: Changes | None = None, *, views: Sequence[View] = ("plain",)
    ) -> LesionDataset:
        return LesionDataset(
            photos=lesions.photos,
            names=lesions.names,
            targets=lesions.targets,
            changes=changes or plain_changes(self.tile_size),
            at_least=decode_size(self.tile_size, self.augmentation),
            seed=self.seed,
            views=views,
            features=self.given,
        )

    def _open(self, split: str) -> PhotoStore:
        # Photos that are never opened need not be there.
        return open_photos(self.root, split) if self.given is None else PhotoFiles()

    def _labelled(self, *, held_out: bool) -> _Lesions:
        rows = self._used[self._held_out() == held_out]
        return _Lesions(photos=self._photos, names=rows["isic_id"].tolist(), targets=rows[TARGET].to_numpy())

    def _order(self, lesions: _Lesions) -> EpochOrder:
        targets = np.asarray(lesions.targets)
        if self.positive_ratio is not None:
            return balanced_batches(targets, self.batch_size, self.positive_ratio)
        if self.neg_pos_ratio is not None:
            return resampled_negatives(targets, self.neg_pos_ratio)
        return shuffled(len(targets))

    def _held_out(self) -> np.ndarray:
        return self.split.held_out(self._used["isic_id"])

    def _usable_columns(self, *, tested: bool) -> list[str]:
        present = set(columns_of(self.root, "train"))
        if tested:
            present &= set(columns_of(self.root, "test"))
        return [column for column in (*NUMERIC_COLUMNS, *CATEGORY_COLUMNS) if column in present]
