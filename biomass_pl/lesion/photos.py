"""Where the photos of lesions lie: an HDF5 file of JPEG bytes, or a folder of JPEG files."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from biomass_pl.data.hdf5_file import Hdf5File
from biomass_pl.data.photos import (
    Photos,
    decode_photo,
    photo_bytes,
    problems_of,
    read_photo,
    upright_shape,
    upright_shape_of,
)
from biomass_pl.errors import DataError, listed


class PhotoStore(Photos, Protocol):
    """Photos by the names that the metadata give them."""

    def missing(self, names: Sequence[str]) -> list[str]:
        """The names that have no photo."""

    def content(self, name: str) -> bytes:
        """Bytes of a photo's file.

        Raises:
            DataError: There is none, or it cannot be read.
        """


@dataclass(frozen=True, eq=False)
class Hdf5Photos:
    """An HDF5 file with one scalar dataset of JPEG bytes per photo, as ISIC 2024 has it.

    Args:
        file: The file.
    """

    file: Hdf5File

    def missing(self, names: Sequence[str]) -> list[str]:
        """The names that are not in the file."""
        present = set(self.file.opened().keys())
        return [name for name in names if name not in present]

    def content(self, name: str) -> bytes:
        """Bytes of a photo; see `PhotoStore`."""
        path = self.file.path
        try:
            return np.asarray(self.file.opened()[name][()]).tobytes()
        except (KeyError, TypeError, OSError) as error:
            raise DataError(f"{path} has no photo {name} that can be read ({error}). Restore the file.") from error

    def read(self, name: str, *, at_least: tuple[int, int] = (0, 0)) -> np.ndarray:
        """Decodes a photo; see `PhotoStore`."""
        return decode_photo(self.content(name), f"{name} in {self.file.path}", at_least=at_least)

    def shape(self, name: str) -> tuple[int, int]:
        """Height and width of a photo; see `PhotoStore`."""
        return upright_shape_of(self.content(name), f"{name} in {self.file.path}")


@dataclass(frozen=True)
class FolderPhotos:
    """A folder with a file `<name>.jpg` per photo.

    Args:
        folder: The folder.
    """

    folder: Path

    def missing(self, names: Sequence[str]) -> list[str]:
        """The names that have no file."""
        present = {file.name for file in self.folder.iterdir()}
        return [name for name in names if f"{name}.jpg" not in present]

    def content(self, name: str) -> bytes:
        """Bytes of a photo; see `PhotoStore`."""
        return photo_bytes(self.folder / f"{name}.jpg")

    def read(self, name: str, *, at_least: tuple[int, int] = (0, 0)) -> np.ndarray:
        """Decodes a photo; see `PhotoStore`."""
        return read_photo(self.folder / f"{name}.jpg", at_least=at_least)

    def shape(self, name: str) -> tuple[int, int]:
        """Height and width of a photo; see `PhotoStore`."""
        return upright_shape(self.folder / f"{name}.jpg")


@dataclass(frozen=True)
class PhotoFiles:
    """Photos that are named by their paths."""

    def missing(self, names: Sequence[str]) -> list[str]:
        """The paths that do not exist."""
        return [name for name in names if not Path(name).exists()]

    def content(self, name: str) -> bytes:
        """Bytes of a photo; see `PhotoStore`."""
        return photo_bytes(Path(name))

    def read(self, name: str, *, at_least: tuple[int, int] = (0, 0)) -> np.ndarray:
        """Decodes a photo; see `PhotoStore`."""
        return read_photo(Path(name), at_least=at_least)

    def shape(self, name: str) -> tuple[int, int]:
        """Height and width of a photo; see `PhotoStore`."""
        return upright_shape(Path(name))


def open_photos(root: Path, split: str) -> PhotoStore:
    """The photos of a data folder.

    Args:
        root: Data folder, with `<split>-image.hdf5`, or the JPEG files in `<split>-image/image` or `<split>-image`.
        split: `train` or `test`.

    Raises:
        DataError: The folder has none of them.
    """
    packed, nested, plain = (
        root / f"{split}-image.hdf5",
        root / f"{split}-image" / "image",
        root / f"{split}-image",
    )
    if packed.is_file():
        return Hdf5Photos(Hdf5File(packed))
    for folder in (nested, plain):
        if folder.is_dir():
            return FolderPhotos(folder)
    raise DataError(f"{root} has neither {packed.name} nor a folder {plain.name} of JPEG files. Add one of them.")


def check_store(store: PhotoStore, names: Sequence[str]) -> None:
    """Decodes every photo once and names all that are missing or cannot be read.

    Raises:
        DataError: At least one is.
    """
    missing = store.missing(names)
    if missing:
        raise DataError(
            f"{len(missing)} of {len(names)} photos are missing; add them, or leave out what names them:\n"
            f"{listed(missing)}"
        )
    problems = list(broken_in(store, names).values())
    if problems:
        raise DataError(f"{len(problems)} photo(s) cannot be used:\n{listed(problems)}")


def broken_in(store: PhotoStore, names: Sequence[str]) -> dict[str, str]:
    """Decodes every photo once.

    Returns:
        Why a photo cannot be read, for each that cannot.
    """

    def problem(name: str) -> str | None:
        try:
            # The smallest scale still reads the photo to its end, where a truncation shows.
            store.read(name, at_least=(1, 1))
        except DataError as error:
            return str(error)
        return None

    return problems_of(names, problem)


def contents_of(store: PhotoStore, names: Sequence[str]) -> dict[str, str]:
    """A hash of each photo's bytes."""
    return {name: hashlib.sha256(store.content(name)).hexdigest() for name in names}
