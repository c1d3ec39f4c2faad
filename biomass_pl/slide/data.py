"""Specimens of pathology, bags of feature vectors with reports, one split at a time."""

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from torch.utils.data import DataLoader

from biomass_pl.data.augmentation import View
from biomass_pl.data.base import FoldDataModule, Source, require_at_least
from biomass_pl.data.sampling import EpochOrder
from biomass_pl.data.splits import NEVER_HELD_OUT, read_folds, split_folds
from biomass_pl.errors import ConfigError
from biomass_pl.slide.bags import BagAugmentation, SpecimenDataset, padded_batch, parse_augmentation
from biomass_pl.slide.batches import length_grouped, longest_first
from biomass_pl.slide.specimens import SpecimenFiles, Specimens, broken_bags, open_specimens, specimen_table
from biomass_pl.slide.split_files import (
    SplitFiles,
    SplitName,
    read_split_files,
    require_one_fold_per_patient,
)

_ITEM_COLUMNS = ["specimen_id", "patient_id", "report", "vectors"]


class SlideDataModule(FoldDataModule):
    """Specimens, each a bag of feature vectors and a report, in one HDF5 file or in folders of feature files.

    Files of data and splits are looked for in the data folder, unless their path is absolute. A split file names
    specimens, separated by commas or lines.

    Args:
        root: Data folder.
        train_split: File or files of the specimens to learn from; none: all that no other file names.
        val_split: File or files of the specimens to validate on; none: cross-validation over those to learn from.
        test_split: File or files of the specimens that biomass predict --split test predicts and scores.
        allow_shared_patients: Let specimens of one patient be in several splits or folds; scores flatter then.
        num_folds: Number of cross-validation folds without val_split; all specimens of a patient are in one.
        fold_csv: CSV file with the columns specimen_id and fold; takes the place of folds by patient.
        num_samples: Learn from the first so many training specimens only; none: from all.
        text_data_file: JSON file of reports by patient and specimen; none: they are in the HDF5 file.
        hdf5_filename: HDF5 file of features; counts instead of root_dir.
        hdf5_feature_attribute: Name of the group of features in the group of a specimen.
        hdf5_text_attribute: Name of the report in the group of a specimen.
        root_dir: Folder of the directory layout; beside it, one of the same name and _remainder is read too.
        component: Component of the feature files to take, in the directory layout.
        image_features_cutoff: Vectors of a bag at most; of a larger one so many are drawn, in training anew each epoch.
        aug_cfg: How training bags are changed: drop_patches, noise and subsample, as values or words such as noise=0.1.
        batch_size: Specimens per step on each device, each compared with all others.
        num_workers: Processes that load specimens; 0: the main process.
        prefetch_factor: Batches that each worker prepares ahead.
        seed: Seed of folds, order and augmentation; set by seed_everything.

    Raises:
        ConfigError: A setting, or two together, cannot work.
    """

    id_columns: ClassVar[tuple[str, ...]] = ("specimen_id", "patient_id")
    item_noun: ClassVar[str] = "specimen"

    def __init__(
        self,
        *,
        root: Path = Path("data"),
        train_split: list[Path] | Path | None = None,
        val_split: list[Path] | Path | None = None,
        test_split: list[Path] | Path | None = None,
        allow_shared_patients: bool = False,
        num_folds: int = 5,
        fold_csv: Path | None = None,
        num_samples: int | None = None,
        text_data_file: Path | None = None,
        hdf5_filename: Path | None = None,
        hdf5_feature_attribute: str | None = None,
        hdf5_text_attribute: str | None = None,
        root_dir: Path | None = None,
        component: int = 0,
        image_features_cutoff: int = 100_000,
        aug_cfg: dict[str, Any] | list[str] | str | None = None,
        batch_size: int = 64,
        num_workers: int = 4,
        prefetch_factor: int = 2,
        seed: int = 42,
    ) -> None:
        super().__init__(
            root=root, batch_size=batch_size, num_workers=num_workers, prefetch_factor=prefetch_factor, seed=seed
        )
        require_at_least(1, image_features_cutoff=image_features_cutoff)
        require_at_least(1, num_samples=1 if num_samples is None else num_samples)
        if val_split is not None and fold_csv is not None:
            raise ConfigError(
                "data.val_split and data.fold_csv both say what is held out. Give one of them (--data.fold_csv null)."
            )
        self.files = SpecimenFiles(
            root_dir=self._placed(root_dir),
            component=component,
            hdf5_filename=self._placed(hdf5_filename),
            hdf5_feature_attribute=hdf5_feature_attribute,
            hdf5_text_attribute=hdf5_text_attribute,
            text_data_file=self._placed(text_data_file),
        )
        self.split_files = SplitFiles(
            train=self._all_placed(train_split), val=self._all_placed(val_split), test=self._all_placed(test_split)
        )
        self.allow_shared_patients = allow_shared_patients
        self.num_folds = num_folds
        self.fold_csv = fold_csv
        self.num_samples = num_samples
        self.image_features_cutoff = image_features_cutoff
        self.augmentation = parse_augmentation(aug_cfg or {})
        self._selected: list[str] = []

    @cached_property
    def _specimens(self) -> Specimens:
        return open_specimens(self.files)

    @cached_property
    def _splits(self) -> dict[SplitName, list[str]]:
        return read_split_files(
            self.split_files, patients=self._specimens.patients, allow_shared_patients=self.allow_shared_patients
        )

    @cached_property
    def _table(self) -> pd.DataFrame:
        """What is known of the specimens of all splits, by name."""
        names = [name for split in self._splits.values() for name in split]
        return specimen_table(self._specimens, names).set_index("specimen_id", drop=False).rename_axis(None)

    @property
    def input_dim(self) -> int:
        """Width of the feature vectors."""
        return int(self._table["width"].iloc[0])

    def items(self) -> pd.DataFrame:
        """The specimens to learn from and to validate on: `specimen_id`, `patient_id`, `report`, size in `vectors`."""
        return self._rows([*self._splits["train"], *self._splits.get("val", [])])

    def test_items(self) -> pd.DataFrame | None:
        """The specimens of `test_split`, in the columns of `items`; none without it."""
        return self._rows(self._splits["test"]) if "test" in self._splits else None

    def has_test_items(self) -> bool:
        """Whether a setting names test specimens."""
        return bool(self.split_files.test)

    def make_folds(self) -> pd.Series:
        """The fold in which each specimen is held out; with `val_split` there is one, 0, and -1 is trained on.

        Raises:
            FoldError: The folds cannot be made or read, or given ones put specimens of one patient into several.
        """
        items = self.items()
        names = items["specimen_id"]
        if "val" in self._splits:
            held_out = names.isin(self._splits["val"])
            return pd.Series(np.where(held_out, 0, NEVER_HELD_OUT), index=pd.Index(names), name="fold")
        if self.fold_csv is not None:
            folds = read_folds(self.fold_csv, names)
            if not self.allow_shared_patients:
                require_one_fold_per_patient(folds, self._specimens.patients)
            return folds
        return split_folds(
            names,
            groups=items["patient_id"],
            strata=np.zeros(len(items), dtype=int),  # folds of about as many specimens
            num_folds=self.num_folds,
            seed=self.seed,
            what="Grouping by patient_id",
            remedy="give data.val_split",
        )

    def groups(self) -> pd.Series:
        """The patient of each specimen."""
        return self.items().set_index("specimen_id")["patient_id"]

    def check(self) -> None:
        """Reads the ids, reports and sizes of all specimens, test ones included; the vectors are read in training.

        Raises:
            BiomassError: Settings, files or splits cannot be used; lists all of a kind.
        """
        _ = self._table

    @property
    def training_count(self) -> int:
        """Number of specimens that the split learns from, `num_samples` at most."""
        return len(self._training_names())

    def training_reports(self) -> list[str]:
        """Reports of the specimens that the split learns from."""
        return self._table.loc[self._training_names(), "report"].tolist()

    def training_loader(self) -> DataLoader[Any]:
        """Training specimens of the split in whole batches of similar sizes, changed and drawn anew every epoch."""
        names = self._training_names()
        order = length_grouped(self._sizes(names), self.batch_size)
        return self._loader(names, order=order, augmentation=self.augmentation)

    def plain_loader(self, *, held_out: bool) -> DataLoader[Any]:
        """Specimens of the split as they are, the largest first."""
        return self._loader(self._largest_first(self._held_out_names() if held_out else self._training_names()))

    def select(self, source: Source, *, files: Sequence[Path] = (), views: Sequence[View] = ("plain",)) -> None:
        """Chooses what `predict_dataloader` yields; see the base class.

        Raises:
            ConfigError: Files are asked for, or test specimens without `test_split`.
        """
        if source == "files":
            raise ConfigError(
                "A specimen is no file of its own. Name specimens in data.test_split, and predict them with "
                "--split test."
            )
        if source == "test" and "test" not in self._splits:
            raise ConfigError("There are no test specimens. Name them in a file, --data.test_split FILE.")
        self._selected = self._splits["test"] if source == "test" else self._held_out_names()

    def broken_items(self) -> dict[str, str]:
        """Reads the selected bags once; those that cannot be used, each with the reason."""
        return broken_bags(self._specimens.bags, self._selected)

    def leave_out(self, names: Collection[str]) -> None:
        """Takes specimens out of what was selected."""
        self._selected = [name for name in self._selected if name not in names]

    def predict_dataloader(self) -> DataLoader[Any]:
        """What `select` chose."""
        return self.loader_of(self._selected)

    def loader_of(self, names: Sequence[str]) -> DataLoader[Any]:
        """Specimens of any split as they are, the largest first; every process has all.

        Args:
            names: The specimens, such as examples of classes.
        """
        return self._loader(self._largest_first(names), shared=False)

    def _placed(self, path: Path | None) -> Path | None:
        return None if path is None else self.root / path

    def _all_placed(self, paths: list[Path] | Path | None) -> tuple[Path, ...]:
        listed = [] if paths is None else paths if isinstance(paths, list) else [paths]
        return tuple(self.root / path for path in listed)

    def _rows(self, names: Sequence[str]) -> pd.DataFrame:
        return self._table.loc[list(names), _ITEM_COLUMNS].reset_index(drop=True)

    def _training_names(self) -> list[str]:
        names = self.names()
        found: list[str] = names[~self.split.held_out(names)].tolist()
        return found[: self.num_samples]

    def _held_out_names(self) -> list[str]:
        names = self.names()
        found: list[str] = names[self.split.held_out(names)].tolist()
        return found

    def _sizes(self, names: Sequence[str]) -> np.ndarray:
        """Vectors in each bag as it comes into a batch."""
        stored = self._table.loc[list(names), "vectors"].to_numpy()
        return np.asarray(np.minimum(stored, self.image_features_cutoff))

    def _largest_first(self, names: Sequence[str]) -> list[str]:
        return [names[place] for place in longest_first(self._sizes(names))]

    def _loader(
        self,
        names: Sequence[str],
        *,
        order: EpochOrder | None = None,
        augmentation: BagAugmentation | None = None,
        shared: bool = True,
    ) -> DataLoader[Any]:
        dataset = SpecimenDataset(
            bags=self._specimens.bags,
            names=names,
            reports=self._table.loc[list(names), "report"].tolist(),
            cutoff=self.image_features_cutoff,
            augmentation=augmentation,
            seed=self.seed,
        )
        return self.loader(dataset, len(dataset), order=order, shared=shared, collate=padded_batch)
