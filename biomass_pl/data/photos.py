"""Photos from disk to RGB arrays: what can be read is converted, what cannot is named."""

import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from biomass_pl.data.heic import open_picture
from biomass_pl.errors import DataError, listed
from biomass_pl.terminal import progress

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".heic", ".heif")

Photo = TypeVar("Photo", bound=Hashable)

_CHECKED_TOGETHER = 4096
_EXIF_ORIENTATION = 0x0112
_UNREADABLE = (
    OSError,  # includes truncated and unidentified files
    SyntaxError,  # how Pillow reports a broken PNG
    ValueError,
    Image.DecompressionBombError,
)


class Photos(Protocol):
    """Photos by the names of items."""

    def read(self, name: str, *, at_least: tuple[int, int] = (0, 0)) -> np.ndarray:
        """Decodes a photo to RGB, uint8 (height, width, 3), as `read_photo` does.

        Raises:
            DataError: There is none, or it cannot be decoded.
        """

    def shape(self, name: str) -> tuple[int, int]:
        """Height and width in pixels of a photo as `read` gives it whole, told without decoding.

        Raises:
            DataError: There is none, or it is no picture.
        """


@dataclass(frozen=True)
class PhotoPaths:
    """Photos that are files.

    Args:
        paths: File of each photo by its name.
    """

    paths: Mapping[str, Path]

    def read(self, name: str, *, at_least: tuple[int, int] = (0, 0)) -> np.ndarray:
        """Decodes a photo to RGB, uint8 (height, width, 3), as `read_photo` does."""
        return read_photo(self.paths[name], at_least=at_least)

    def shape(self, name: str) -> tuple[int, int]:
        """Height and width of a photo in pixels, upright."""
        return upright_shape(self.paths[name])


def read_photo(path: Path, *, at_least: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Decodes a photo to RGB, upright.

    Grey, palette, CMYK and 16-bit pictures are converted; an EXIF rotation is applied.

    Args:
        path: The photo.
        at_least: Height and width in pixels that suffice. A larger JPEG may be decoded at a half, a quarter
            or an eighth of its size, which is faster; (0, 0) keeps the full size.

    Returns:
        uint8 array of shape (height, width, 3).

    Raises:
        DataError: The file is missing, empty, truncated or no picture.
    """
    try:
        return _decode(path, at_least)
    except _UNREADABLE as error:
        raise _unusable(path, error) from error


def photo_bytes(path: Path) -> bytes:
    """The file of a photo as it is.

    Raises:
        DataError: It is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unusable(path, error) from error


def decode_photo(content: bytes, name: str, *, at_least: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Decodes a photo from its bytes, as `read_photo` does from its file.

    Args:
        content: Bytes of a JPEG, PNG or other picture.
        name: What messages call it.
        at_least: As in `read_photo`.

    Raises:
        DataError: The bytes are empty, cut off or no picture.
    """
    try:
        return _decode(BytesIO(content), at_least)
    except _UNREADABLE as error:
        raise _unusable_bytes(content, name, error) from error


def decoded_bytes(path: Path, *, at_least: tuple[int, int] = (0, 0)) -> int:
    """Size in bytes of the array that `read_photo` gives, told without decoding.

    Args:
        path: The photo.
        at_least: Height and width in pixels that suffice.

    Raises:
        DataError: The file is missing, empty or no picture.
    """
    try:
        with open_picture(path) as picture:
            _reduce(picture, at_least)
            return picture.width * picture.height * 3
    except _UNREADABLE as error:
        raise _unusable(path, error) from error


def upright_shape(path: Path) -> tuple[int, int]:
    """Height and width in pixels of a photo as `read_photo` gives it whole, told without decoding.

    Raises:
        DataError: The file is missing, empty or no picture.
    """
    try:
        return _upright_shape(path)
    except _UNREADABLE as error:
        raise _unusable(path, error) from error


def upright_shape_of(content: bytes, name: str) -> tuple[int, int]:
    """Height and width of a photo from its bytes, as `upright_shape` tells them of its file.

    Args:
        content: Bytes of a JPEG, PNG or other picture.
        name: What messages call it.

    Raises:
        DataError: The bytes are empty or no picture.
    """
    try:
        return _upright_shape(BytesIO(content))
    except _UNREADABLE as error:
        raise _unusable_bytes(content, name, error) from error


def check_photos(paths: Iterable[Path]) -> None:
    """Decodes every photo once and names all that cannot be read.

    Raises:
        DataError: At least one photo is missing, empty, truncated or no picture.
    """
    broken = broken_photos(list(paths))
    if broken:
        problems = [f"{path}: {reason}" for path, reason in broken.items()]
        raise DataError(
            f"{len(problems)} photo(s) cannot be used; replace them or remove their rows:\n{listed(problems, 50)}"
        )


def broken_photos(paths: Sequence[Path]) -> dict[Path, str]:
    """Decodes every photo once.

    Returns:
        Why a photo cannot be read, for each that cannot.
    """

    def problem(path: Path) -> str | None:
        try:
            # The smallest scale still reads the file to its end, where a truncation shows.
            _decode(path, (1, 1))
        except _UNREADABLE as error:
            return _reason(path, error)
        return None

    return problems_of(paths, problem)


def problems_of(photos: Sequence[Photo], problem: Callable[[Photo], str | None]) -> dict[Photo, str]:
    """What is wrong with photos, several of them looked at together.

    Args:
        photos: The photos.
        problem: Says what is wrong with one, or None.
    """
    found: dict[Photo, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("Checking photos", len(photos)) as advance:
        # In parts: what waits in a pool takes memory.
        for start in range(0, len(photos), _CHECKED_TOGETHER):
            part = photos[start : start + _CHECKED_TOGETHER]
            for photo, reason in zip(part, pool.map(problem, part), strict=True):
                advance()
                if reason is not None:
                    found[photo] = reason
    return found


def find_photos(paths: Iterable[Path]) -> list[Path]:
    """Photos among files and folders, the folders searched through, in the order of their names.

    Raises:
        DataError: A path does not exist, or a folder holds no photo.
    """
    photos: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if is_photo(file.relative_to(path)))
            if not inside:
                raise DataError(f"Folder {path} holds no photo ({', '.join(PHOTO_SUFFIXES)}). Name another one.")
            photos += inside
        elif path.exists():
            photos.append(path)
        else:
            raise DataError(f"{path} does not exist. Name photos or folders of photos.")
    return list(dict.fromkeys(photos))


def is_photo(path: Path) -> bool:
    """Whether a file looks like a photo; what begins with a dot is hidden."""
    return path.suffix.lower() in PHOTO_SUFFIXES and not any(part.startswith(".") for part in path.parts)


def split_views(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The left and the right half of a photo (height, width, 3); an odd middle column is left out."""
    half = photo.shape[1] // 2
    return photo[:, :half], photo[:, photo.shape[1] - half :]


def _decode(source: Path | BytesIO, at_least: tuple[int, int]) -> np.ndarray:
    with open_picture(source) as picture:
        if min(picture.size) < 2:
            msg = f"it is only {picture.width} x {picture.height} pixels"
            raise ValueError(msg)
        _reduce(picture, at_least)
        upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I;16"):
        # Pillow would cut 16-bit values off at 255 instead of scaling them.
        upright = Image.fromarray((np.asarray(upright).astype(np.uint16) >> 8).astype(np.uint8))
    elif upright.mode in ("I", "F"):
        msg = f"its pixels are of the kind '{upright.mode}', not 8 or 16 bits"
        raise ValueError(msg)
    return np.asarray(upright.convert("RGB"))


def _upright_shape(source: Path | BytesIO) -> tuple[int, int]:
    with open_picture(source) as picture:
        height, width = picture.height, picture.width
        return (width, height) if _is_turned(picture) else (height, width)


def _is_turned(picture: Image.Image) -> bool:
    """Whether a quarter turn makes the picture upright."""
    return bool(picture.getexif().get(_EXIF_ORIENTATION, 1) >= 5)


def _reduce(picture: Image.Image, at_least: tuple[int, int]) -> None:
    """Has a JPEG decoded at the smallest scale that suffices."""
    height, width = at_least
    if min(height, width) > 0 and picture.format == "JPEG":
        if _is_turned(picture):
            height, width = width, height
        picture.draft(None, (width, height))


def _unusable(path: Path, error: BaseException) -> DataError:
    return DataError(f"Photo {path} cannot be used: {_reason(path, error)}. Replace or remove it.")


def _unusable_bytes(content: bytes, name: str, error: BaseException) -> DataError:
    reason = _reason_of(error) if content else "it is empty"
    return DataError(f"Photo {name} cannot be used: {reason}. Replace it.")


def _reason(path: Path, error: BaseException) -> str:
    """Why a photo could not be decoded, in words of the user."""
    if not path.exists():
        return "the file does not exist"
    if path.is_dir():
        return "it is a folder"
    if path.stat().st_size == 0:
        return "the file is empty"
    return _reason_of(error)


def _reason_of(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not a picture"
    return str(error) or type(error).__name__
