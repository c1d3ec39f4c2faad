"""Photos of leaves, one fold at a time."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from torch.utils.data import DataLoader

from biomass_pl.data.augmentation import View
from biomass_pl.data.bank import photo_key
from biomass_pl.data.base import FoldDataModule, Source, Truth, require_at_least
from biomass_pl.data.photos import PhotoPaths, broken_photos, check_photos
from biomass_pl.data.sampling import shuffled
from biomass_pl.data.splits import read_folds, split_folds
from biomass_pl.errors import ConfigError, DataError, FoldError, listed
from biomass_pl.leaf.batches import equally_often
from biomass_pl.leaf.dataset import LeafDataset, LeafPhotos, labelled_photos, unlabelled_photos
from biomass_pl.leaf.sources import (
    find_originals,
    find_sources,
    require_one_fold_per_source,
    require_sources_for_every_fold,
    sources_by_group,
    tell_of_groups,
    warn_about_lost_copies,
)
from biomass_pl.leaf.spectral import (
    band_files,
    band_statistics,
    broken_bands,
    photo_size,
    read_bands,
    require_bands,
)
from biomass_pl.leaf.tables import LeafTable, read_headings, read_leaves, require_one_label_per_content
from biomass_pl.leaf.transforms import Changes, Severity, decode_size, plain_changes, training_changes


class LeafDataModule(FoldDataModule):
    """Photos of leaves in a folder per class, in the published layout, or named in a CSV table.

    The published layout has the folders `Original Dataset` and `Augmented Dataset`. Copies in the latter are trained
    on with their originals and never held out.

    Args:
        root: Data folder.
        labels: CSV file with the columns path, label and perhaps group, what belongs together; takes the place of
            folders.
        num_folds: Number of cross-validation folds; photos of a group and near-identical ones are in one.
        fold_csv: CSV file with the columns image_id and fold; takes the place of dealt folds.
        image_size: Side of the picture in pixels; what the backbone is built for.
        severity: How much training photos are changed: light, moderate or aggressive.
        balance: sampler draws training photos of all classes equally often, with replacement; none takes each once.
        spectral: Folder of further bands, NPY or TIFF files named as the photos; none trains on colours alone.
        features: File of features by whichever network that are learned from instead of photos, .npz or .parquet with
            image_id and features; none: photos.
        batch_size: Photos per step on each device.
        num_workers: Processes that load photos; 0: the main process.
        prefetch_factor: Batches that each worker prepares ahead.
        seed: Seed of folds, order and augmentation; set by seed_everything.

    Raises:
        ConfigError: A setting, or two together, cannot work.
    """

    views: ClassVar[tuple[View, ...]] = ("plain", "left-right")  # as published
    truth = Truth(kind="classes", columns=("label",))
    tile_size: int

    def __init__(
        self,
        *,
        root: Path = Path("data"),
        labels: Path | None = None,
        num_folds: int = 5,
        fold_csv: Path | None = None,
        image_size: int = 256,
        severity: Severity = "moderate",
        balance: Literal["sampler"] | None = None,
        spectral: Path | None = None,
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
        if self.given is not None and spectral is not None:
            raise ConfigError(
                "data.spectral reads bands beside photos, which data.features replaces. Give one of them."
            )
        require_at_least(1, image_size=image_size)
        self.labels = labels
        self.num_folds = num_folds
        self.fold_csv = fold_csv
        self.tile_size = image_size
        self.severity: Severity = severity
        self.balance = balance
        self.spectral = spectral
        self._training_changes = training_changes(image_size, severity)
        self._selected = unlabelled_photos([], root=root, spectral=spectral)
        self._views: Sequence[View] = ("plain",)

    @cached_property
    def _table(self) -> LeafTable:
        return read_leaves(self.root, self.labels, opens_photos=self.given is None)

    @cached_property
    def _all_photos(self) -> dict[str, Path]:
        """Files of originals and copies by their names."""
        both = pd.concat([self._table.originals, self._table.copies])
        return {name: Path(path) for name, path in zip(both["image_id"], both["path"], strict=True)}

    @cached_property
    def _contents(self) -> dict[str, str]:
        """Hashes of the files of originals and copies; empty where no photo is opened."""
        if self.given is not None:
            return {}
        return {name: photo_key(path) for name, path in self._all_photos.items()}

    @cached_property
    def _items(self) -> pd.DataFrame:
        originals = self._table.originals
        by_group = self.given is not None
        sources = sources_by_group(originals) if by_group else find_sources(originals, self._contents)
        return originals[["image_id", "label"]].assign(source=sources)

    @cached_property
    def _sources_of_copies(self) -> list[frozenset[str]]:
        sources = self._items["source"].to_numpy()
        return find_originals(self._table.copies, self._table.originals, sources=sources, contents=self._contents)

    @property
    def _files_with_bands(self) -> dict[str, tuple[Path, Path]]:
        return {name: (self._all_photos[name], file) for name, file in self._band_files.items()}

    @cached_property
    def _band_files(self) -> dict[str, Path]:
        """Files of the bands of originals and copies."""
        return {} if self.spectral is None else band_files(self.spectral, list(self._all_photos))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their numbers."""
        return self._table.classes

    def class_counts(self) -> np.ndarray:
        """Training photos of the fold in each class, copies included, (classes,)."""
        return np.bincount(np.asarray(self._training_photos().targets), minlength=len(self.classes))

    @cached_property
    def band_count(self) -> int:
        """Bands beside the colours; 0 without `spectral`."""
        if self.spectral is None:
            return 0
        photo, bands = self._files_with_bands[self.names()[0]]
        return int(read_bands(bands, photo_size(photo)).shape[2])

    def band_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each band over the originals that the fold trains on, (bands,) each.

        Raises:
            DataError: A band is the same everywhere.
        """
        return band_statistics([self._files_with_bands[name] for name in self.names()[~self._held_out()]])

    def prepare(self) -> None:
        """Warns once of copies that are left out, as no original of theirs is found or no photo is opened."""
        if self.given is not None:
            tell_of_groups()
        warn_about_lost_copies(self._table.copies, self._sources_of_copies)

    def headings(self) -> dict[str, str | None]:
        """What each column of the label table is taken for, by its heading; empty for class folders."""
        return {} if self.labels is None else read_headings(self.labels)

    def items(self) -> pd.DataFrame:
        """The labelled photos, copies aside: `image_id`, `label`, `source`, the name of the first photo of the same."""
        return self._items

    def names(self) -> pd.Series:
        """Names of the labelled photos, told without a look at them."""
        return self._table.originals["image_id"]

    def make_folds(self) -> pd.Series:
        """The fold in which each photo is held out.

        Raises:
            FoldError: The folds cannot be made or read, given ones put photos of one source into several, or a class
                is too small.
        """
        items = self._items
        sources = items.set_index("image_id")["source"]
        if self.fold_csv is not None:
            folds = read_folds(self.fold_csv, items["image_id"])
            require_one_fold_per_source(folds, sources)
            return folds
        require_sources_for_every_fold(items, self.num_folds)
        return split_folds(
            items["image_id"],
            groups=items["source"],
            strata=items["label"].to_numpy(),
            num_folds=self.num_folds,
            seed=self.seed,
            what="Grouping by source photo",
            remedy="give folds of your own as data.fold_csv",
        )

    def groups(self) -> pd.Series:
        """The source of each photo: the same for all copies of a picture."""
        return self._items.set_index("image_id")["source"]

    def check(self) -> None:
        """Reads labels and bands, decodes every photo and copy once, and looks for photos under several labels.

        Where features were given, they are looked for instead.

        Raises:
            DataError: Photos, labels or bands cannot be used; lists all of a kind.
        """
        if self.given is not None:
            self.given.require(self.names().tolist())
            return
        check_photos(self._all_photos.values())
        require_one_label_per_content(self._table, self._contents)
        require_bands(self._files_with_bands)

    def contents(self) -> Mapping[str, str] | None:
        """Hashes of photos, copies and bands; none where no photo is opened."""
        if self.given is not None:
            return None
        bands = {f"bands of {name}": photo_key(file) for name, file in self._band_files.items()}
        return self._contents | bands

    def check_split(self) -> None:
        """Also refuses a fold that trains on no photo of a class.

        Raises:
            ConfigError: A setting asks for more than the training photos of the fold.
            FoldError: A class is missing among the training photos.
        """
        super().check_split()
        lacking = [name for name, count in zip(self.classes, self.class_counts(), strict=True) if count == 0]
        if lacking:
            raise FoldError(
                f"Fold {self.split.fold} trains on no photo of {len(lacking)} class(es). Give folds that spread them "
                f"as data.fold_csv:\n{listed(lacking)}"
            )

    def select(self, source: Source, *, files: Sequence[Path] = (), views: Sequence[View] = ("plain",)) -> None:
        """Chooses what `predict_dataloader` yields; see the base class.

        Raises:
            DataError: Test photos are asked for.
        """
        if source == "test":
            raise DataError(
                "Class folders and label tables have no test photos beside them. Predict photos with --images FOLDER."
            )
        self._views = tuple(views)
        if source == "held_out":
            self._selected = self._labelled(held_out=True)
        else:
            self._selected = unlabelled_photos(files, root=self.root, spectral=self.spectral)

    def broken_items(self) -> dict[str, str]:
        """Reads every selected photo and its bands once; those that cannot be read, each with the reason."""
        names, paths = self._selected.names.tolist(), [Path(path) for path in self._selected.paths]
        reasons = broken_photos(paths)
        broken = {name: reasons[path] for name, path in zip(names, paths, strict=True) if path in reasons}
        if self._selected.bands is None:
            return broken
        bands = [Path(file) for file in self._selected.bands]
        files = {name: (path, file) for name, path, file in zip(names, paths, bands, strict=True)}
        return broken | broken_bands({name: pair for name, pair in files.items() if name not in broken})

    def leave_out(self, names: Collection[str]) -> None:
        """Takes photos out of what was selected."""
        self._selected = self._selected.where(~np.isin(self._selected.names, list(names)))

    def photos(self) -> PhotoPaths:
        """The labelled photos by `image_id`."""
        return PhotoPaths(self._all_photos)

    def training_loader(self) -> DataLoader[Any]:
        """Training photos of the fold and their copies, changed at random, drawn anew every epoch."""
        photos = self._training_photos()
        dataset = self._dataset(photos, self._training_changes)
        order = shuffled(len(photos)) if self.balance is None else equally_often(np.asarray(photos.targets))
        return self.loader(dataset, len(dataset), order=order)

    def plain_loader(self, *, held_out: bool) -> DataLoader[Any]:
        """Photos of the fold, copies aside, as they are."""
        dataset = self._dataset(self._labelled(held_out=held_out), plain_changes(self.tile_size))
        return self.loader(dataset, len(dataset))

    def predict_dataloader(self) -> DataLoader[Any]:
        """What `select` chose."""
        dataset = self._dataset(self._selected, plain_changes(self.tile_size), views=self._views)
        return self.loader(dataset, len(dataset), shared=False)

    def _dataset(self, photos: LeafPhotos, changes: Changes, *, views: Sequence[View] = ("plain",)) -> LeafDataset:
        return LeafDataset(
            photos=photos,
            changes=changes,
            at_least=decode_size(self.tile_size, self.severity),
            seed=self.seed,
            views=views,
            features=self.given,
        )

    def _held_out(self) -> np.ndarray:
        return self.split.held_out(self.names())

    def _labelled(self, *, held_out: bool) -> LeafPhotos:
        return self._photos_of(self._table.originals[self._held_out() == held_out])

    def _training_photos(self) -> LeafPhotos:
        """Originals that the fold trains on, and those of their copies that show nothing that is held out."""
        held_out = self._held_out()
        scored = set(self._items.loc[held_out, "source"])
        allowed = [bool(found) and found.isdisjoint(scored) for found in self._sources_of_copies]
        copies = self._table.copies[np.array(allowed, dtype=bool)]
        return self._photos_of(pd.concat([self._table.originals[~held_out], copies]))

    def _photos_of(self, rows: pd.DataFrame) -> LeafPhotos:
        bands = None if self.spectral is None else self._band_files
        return labelled_photos(rows, classes=self.classes, bands=bands)
