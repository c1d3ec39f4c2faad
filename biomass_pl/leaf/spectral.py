"""Further bands of leaf photos, such as near infrared: found by the photo's name, read, checked and summed up."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from statistics import mode

import cv2
import numpy as np
import tifffile
from PIL import ExifTags, Image

from biomass_pl.data.photos import problems_of
from biomass_pl.errors import DataError, listed

SUFFIXES = (".npy", ".tif", ".tiff")

_EXIF_TURNED = 5
"""From this EXIF orientation on, height and width of a photo are exchanged when it is shown upright."""


def find_bands(folder: Path, image_id: str) -> Path | None:
    """The file of a photo's bands: of the same relative path but for the suffix, or of its name right in the folder.

    Args:
        folder: Where bands lie.
        image_id: Path of the photo in the data folder, with /.
    """
    photo = PurePosixPath(image_id)
    places = [photo.with_suffix(suffix) for suffix in SUFFIXES] + [photo.stem + suffix for suffix in SUFFIXES]
    return next((folder / place for place in places if (folder / place).is_file()), None)


def read_bands(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Reads the bands of a photo.

    Whole numbers are divided by the largest of their kind (8 bits: 255, 16 bits: 65,535); others stay as they are.

    Args:
        path: An NPY file, or a TIFF with the bands as samples of its pixels or as pages.
        size: Height and width in pixels of the upright photo, by which the axis of the bands is told.

    Returns:
        Float32 array (height, width, bands), of the bands' own resolution.

    Raises:
        DataError: The file cannot be read, or its bands are not of the photo's shape or no numbers; names the file.
    """
    try:
        # What is in a file is data: nothing in it is executed.
        stored = np.load(path, allow_pickle=False) if path.suffix == ".npy" else tifffile.imread(path)
    except (OSError, ValueError, EOFError, RuntimeError, tifffile.TiffFileError) as error:
        raise DataError(f"Bands {path} cannot be read: {error}. Replace them.") from error
    if stored.dtype.kind not in "uif":
        raise DataError(f"Bands {path} are of the kind '{stored.dtype}'. Save whole numbers or floats.")
    bands = _channels_last(np.atleast_3d(stored), size) if stored.ndim in (2, 3) else None
    if bands is None:
        shape = " x ".join(map(str, stored.shape))
        raise DataError(
            f"Bands {path} of shape {shape} do not fit their photo of {size[0]} x {size[1]} pixels: neither the first "
            "nor the last two axes have its proportions. Register them to the photo."
        )
    largest = np.iinfo(stored.dtype).max if stored.dtype.kind in "ui" else 1
    with np.errstate(over="ignore"):  # what is too large for float32 is found below
        scaled = bands.astype(np.float32) / np.float32(largest)
    if not np.isfinite(scaled).all():
        raise DataError(f"Bands {path} hold values that are no numbers. Fill them in.")
    return scaled


def resized_bands(bands: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bands (H, W, C) at another height and width, (height, width, C)."""
    if bands.shape[:2] == size:
        return bands
    shrinks = bands.shape[0] > size[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    # One by one: OpenCV does not resize any number of channels together.
    return np.stack(
        [cv2.resize(bands[..., band], size[::-1], interpolation=method) for band in range(bands.shape[2])], -1
    )


def photo_size(path: Path) -> tuple[int, int]:
    """Height and width of the upright photo in pixels, told without decoding it.

    Raises:
        DataError: The file is no picture.
    """
    try:
        with Image.open(path) as picture:
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= _EXIF_TURNED
            return picture.size if turned else picture.size[::-1]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"Photo {path} cannot be used: {error}. Replace or remove it.") from error


def band_files(folder: Path, image_ids: Sequence[str]) -> dict[str, Path]:
    """The file of the bands of each photo.

    Args:
        folder: Where bands lie.
        image_ids: Paths of the photos in the data folder, with /.

    Raises:
        DataError: A photo has no bands, or shares them with another; lists all of a kind.
    """
    if not folder.is_dir():
        raise DataError(f"Folder {folder} does not exist. Correct data.spectral, or leave it out.")
    found = {image_id: find_bands(folder, image_id) for image_id in image_ids}
    missing = [image_id for image_id, file in found.items() if file is None]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(found)} photos have no bands in {folder} ({', '.join(SUFFIXES)}); they would "
            f"train half of the network only. Add them, or leave out data.spectral:\n{listed(missing)}"
        )
    files = {image_id: file for image_id, file in found.items() if file is not None}
    owners: dict[Path, list[str]] = {}
    for image_id, file in files.items():
        owners.setdefault(file, []).append(image_id)
    shared = [f"{file.name}: {' and '.join(names)}" for file, names in owners.items() if len(names) > 1]
    if shared:
        raise DataError(
            f"Photos of one name share bands in {folder}. Put bands into folders as the photos are:\n{listed(shared)}"
        )
    return files


def broken_bands(files: Mapping[str, tuple[Path, Path]]) -> dict[str, str]:
    """Reads the bands of photos once.

    Args:
        files: The file of each photo and the one of its bands, by the photo's name.

    Returns:
        Why bands cannot be used, for each photo whose bands cannot; another number than most have is a reason.
    """
    counts: dict[str, int] = {}

    def problem(name: str) -> str | None:
        photo, bands = files[name]
        try:
            counts[name] = read_bands(bands, photo_size(photo)).shape[2]
        except DataError as error:
            return str(error)
        return None

    broken = problems_of(list(files), problem)
    usual = mode([counts[name] for name in files if name in counts]) if counts else 0
    odd = {name: f"Bands {files[name][1]} are {count}, most others {usual}." for name, count in counts.items()}
    return broken | {name: reason for name, reason in odd.items() if counts[name] != usual}


def require_bands(files: Mapping[str, tuple[Path, Path]]) -> None:
    """Refuses bands that cannot be used.

    Args:
        files: As for `broken_bands`.

    Raises:
        DataError: There are such; lists them.
    """
    broken = broken_bands(files)
    if broken:
        raise DataError(f"Bands of {len(broken)} photo(s) cannot be used:\n{listed(list(broken.values()))}")


def band_statistics(files: Sequence[tuple[Path, Path]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each band over the pixels of photos, every photo counting the same.

    Args:
        files: The photos, and the bands of each.

    Returns:
        Float32 mean and standard deviation, (bands,) each.

    Raises:
        DataError: A band is the same everywhere.
    """

    def moments(photo_and_bands: tuple[Path, Path]) -> tuple[np.ndarray, np.ndarray]:
        photo, file = photo_and_bands
        bands = read_bands(file, photo_size(photo)).astype(np.float64)
        return bands.mean(axis=(0, 1)), np.square(bands).mean(axis=(0, 1))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        means, squares = (np.mean(part, axis=0) for part in zip(*pool.map(moments, files), strict=True))
    deviations = np.sqrt(np.maximum(squares - means**2, 0))
    even = np.flatnonzero(deviations <= 1e-6 * np.abs(means)).tolist()
    if even:
        raise DataError(
            f"Band {', '.join(map(str, even))} (from 0) is the same in all training photos and tells nothing. "
            "Leave it out."
        )
    return means.astype(np.float32), deviations.astype(np.float32)


def _channels_last(stored: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """Bands (H, W, C) of an array whose first or last axis counts them; none where neither leaves the photo's shape."""
    last, first = stored, np.moveaxis(stored, 0, -1)
    fitting = [bands for bands in (last, first) if _is_as(bands.shape[:2], size)]
    # Of two that fit, as 4 x 4 x 4 does for a square photo, the one with fewer bands than pixels is meant.
    return min(fitting, key=lambda bands: bands.shape[2], default=None)


def _is_as(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Whether a height and width have a photo's proportions, to a pixel."""
    (height, width), (photo_height, photo_width) = shape, size
    scale = max(height / photo_height, width / photo_width)
    return abs(photo_height * scale - height) <= 1 and abs(photo_width * scale - width) <= 1
