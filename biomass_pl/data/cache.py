"""Photos decoded once into a temporary file that all worker processes read."""

import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from biomass_pl.data.photos import decoded_bytes, read_photo
from biomass_pl.errors import DataError
from biomass_pl.terminal import progress

_MEGABYTE = 1_000_000


class PhotoCache:
    """Decoded photos in one flat file on disk, mapped into the memory of whoever reads.

    Processes that map a file share its pages, so that the photos are in memory once however many workers read
    them. The file lies in the folder for temporary files and goes with the process and object that made it; a
    copy in another process, forked or pickled, only reads.

    Args:
        paths: The photos.
        at_least: Height and width in pixels that suffice; see `read_photo`.

    Raises:
        DataError: A photo cannot be used, or the disk is too small.
    """

    def __init__(self, *, paths: Sequence[Path], at_least: tuple[int, int]) -> None:
        unique = list(dict.fromkeys(paths))
        needed = sum(decoded_bytes(path, at_least=at_least) for path in unique)
        _require_space(needed)
        folder = Path(tempfile.mkdtemp(prefix="biomass-photos-"))
        weakref.finalize(self, _remove, folder, os.getpid())
        self._file = folder / "photos.uint8"
        self._places: dict[Path, tuple[int, tuple[int, ...]]] = {}
        self._pixels: np.ndarray | None = None
        try:
            self._fill(unique, at_least)
        except OSError as error:
            raise DataError(
                f"The decoded photos cannot be written to {self._file} ({error.strerror}): they need "
                f"{_megabytes(needed)} MB. Make room, or set data.cache_images: false."
            ) from error

    def read(self, path: Path) -> np.ndarray:
        """The decoded photo, exactly as `read_photo` gives it but read-only."""
        if self._pixels is None:
            self._pixels = np.asarray(np.memmap(self._file, dtype=np.uint8, mode="r"))
        start, shape = self._places[path]
        return self._pixels[start : start + math.prod(shape)].reshape(shape)

    def __getstate__(self) -> dict[str, Any]:
        # Pickling the mapped pixels would copy them all.
        return {**self.__dict__, "_pixels": None}

    def _fill(self, paths: Sequence[Path], at_least: tuple[int, int]) -> None:
        self._file.touch(mode=0o600)
        lock = Lock()
        end = 0

        def decode(path: Path) -> None:
            nonlocal end
            photo = read_photo(path, at_least=at_least)
            with lock:
                start, end = end, end + photo.nbytes
            self._places[path] = start, photo.shape
            # Writing meets a full disk as an error; a mapping would end the process.
            with self._file.open("r+b") as file:
                file.seek(start)
                file.write(np.ascontiguousarray(photo).data)

        with ThreadPoolExecutor(os.cpu_count()) as pool, progress("Decoding photos", len(paths)) as advance:
            decoded = pool.map(decode, paths)
            for _ in decoded:
                advance()


def _require_space(needed: int) -> None:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"The decoded photos need {_megabytes(needed)} MB in {folder}, which has {_megabytes(free)} MB left. "
            "Make room, name a larger folder in the environment variable TMPDIR, or set data.cache_images: false."
        )


def _megabytes(size: int) -> int:
    return math.ceil(size / _MEGABYTE)


def _remove(folder: Path, owner: int) -> None:
    # A forked worker inherits the finalizer, and must leave the file to the others.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
