"""Features of photos on disk: what a frozen backbone gives, computed once and read in every epoch.

An entry is one view of one photo. Its place follows from everything that it depends on, so that a changed photo,
transform or weight never meets a stale feature, and processes that fill the bank together write the same bytes.
"""

import hashlib
import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from biomass_pl.errors import ConfigError, DataError
from biomass_pl.files import replacing, write_json

PLAIN_VIEW = 0
"""The view without random changes; views from 1 on are drawn."""

GIGABYTE = 10**9

_FORMAT = 1
"""Raised whenever the same key would mean other bytes."""

_ABOUT = "about.json"
_CHECKSUM_BYTES = 4
_IN_USE_SECONDS = 24 * 3600
"""Entries read more recently may belong to a training that still runs."""


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """All entries of one backbone and one way to make views.

    Args:
        folder: Where they lie.
        description: What they depend on beside the photo.
        shape: Of one entry: views of the pair, tiles, features; or views, tiles, patches, features.
    """

    folder: Path
    description: Mapping[str, Any]
    shape: tuple[int, ...]

    @property
    def entry_bytes(self) -> int:
        """Size of an entry's file."""
        return 4 * math.prod(self.shape) + _CHECKSUM_BYTES

    def read(self, photo_key: str, view: int) -> np.ndarray | None:
        """Features of one view, float32 of `shape`; none where the entry is missing or damaged."""
        try:
            content = self._path(photo_key, view).read_bytes()
        except FileNotFoundError:
            return None
        payload, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
        if len(content) != self.entry_bytes or _checksum(payload) != checksum:
            return None
        return np.frombuffer(payload, dtype="<f4").reshape(self.shape)

    def write(self, photo_key: str, view: int, features: np.ndarray) -> None:
        """Writes one entry, whole or not at all."""
        payload = np.ascontiguousarray(features, dtype="<f4").tobytes()
        with replacing(self._path(photo_key, view)) as temporary:
            temporary.write_bytes(payload + _checksum(payload))

    def missing(self, views: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
        """Views that are not there or damaged, for each photo; the others count as used now."""
        found: dict[str, list[int]] = {}
        for photo_key, wanted in views.items():
            for view in wanted:
                if self.read(photo_key, view) is None:
                    found.setdefault(photo_key, []).append(view)
                else:
                    os.utime(self._path(photo_key, view))
        return found

    def _path(self, photo_key: str, view: int) -> Path:
        return self.folder / f"{photo_key}_{view}.features"


@dataclass(frozen=True, kw_only=True)
class FeatureSetSummary:
    """What `biomass bank` tells of a feature set.

    Args:
        folder: Its folder.
        description: What its entries depend on, in words.
        entries: Number of entries.
        size: Bytes of all entries.
        last_used: Seconds since 1970.
    """

    folder: Path
    description: dict[str, Any]
    entries: int
    size: int
    last_used: float


class FeatureBank:
    """A folder of feature sets with a limit to its size.

    Args:
        folder: The folder; made when first needed.
        limit_gb: Gigabytes that all entries together may take.
    """

    def __init__(self, *, folder: Path, limit_gb: float) -> None:
        self.folder = folder
        self.limit = limit_gb * GIGABYTE

    def feature_set(self, depends_on: Mapping[str, Any], shape: tuple[int, ...]) -> FeatureSet:
        """The set of the entries that depend on this; nothing is written.

        Args:
            depends_on: Everything but the photo that an entry depends on; values that JSON can hold.
            shape: Of one entry.
        """
        description = {"format": _FORMAT, **depends_on, "shape": list(shape)}
        name = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:32]
        return FeatureSet(folder=self.folder / name, description=description, shape=shape)

    def check_limit(self, feature_set: FeatureSet, entries: int) -> None:
        """Refuses more entries than the bank could ever hold.

        Raises:
            ConfigError: They alone are over its limit.
        """
        needed = entries * feature_set.entry_bytes
        if needed > self.limit:
            raise ConfigError(
                f"The features of a fold need {_gigabytes(needed)} GB, more than data.bank_limit_gb "
                f"{_gigabytes(self.limit)}. Raise it, or lower data.bank_views."
            )

    def make_room(self, feature_set: FeatureSet, entries: int) -> None:
        """Makes a set ready for new entries; what was not used for longest goes until they fit.

        Args:
            feature_set: The set.
            entries: Number of entries to come.

        Raises:
            ConfigError: They do not fit beside what was used within a day.
            DataError: The disk is too small.
        """
        write_json(dict(feature_set.description), feature_set.folder / _ABOUT)
        needed = entries * feature_set.entry_bytes
        present = self._entries()
        excess = sum(entry.st_size for _, entry in present) + needed - self.limit
        old = [entry for entry in present if entry[1].st_mtime < time.time() - _IN_USE_SECONDS]
        if excess > sum(entry.st_size for _, entry in old):
            raise ConfigError(
                f"The feature bank in {self.folder} needs {_gigabytes(self.limit + excess)} GB, its limit is "
                f"{_gigabytes(self.limit)} GB. Raise data.bank_limit_gb, lower data.bank_views, or make room: "
                f"biomass bank --dir {self.folder} --prune 0"
            )
        _remove_oldest(old, excess)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise DataError(
                f"The features need {_gigabytes(needed)} GB in {self.folder}, where {_gigabytes(free)} GB are left. "
                "Make room, lower data.bank_views, or name another data.bank_dir."
            )

    def prune(self, size_gb: float) -> int:
        """Removes the entries that were not used for longest until the rest takes at most `size_gb`.

        Returns:
            Bytes that were freed.
        """
        entries = self._entries()
        freed = _remove_oldest(entries, sum(entry.st_size for _, entry in entries) - size_gb * GIGABYTE)
        for folder in self._set_folders():
            if not any(folder.glob("*.features")):
                shutil.rmtree(folder, ignore_errors=True)
        return freed

    def summary(self) -> list[FeatureSetSummary]:
        """All feature sets, the last used first."""
        found = []
        for folder in self._set_folders():
            entries = [path.stat() for path in folder.glob("*.features")]
            summary = FeatureSetSummary(
                folder=folder,
                description=json.loads((folder / _ABOUT).read_text(encoding="utf-8")),
                entries=len(entries),
                size=sum(entry.st_size for entry in entries),
                last_used=max((entry.st_mtime for entry in entries), default=0.0),
            )
            found.append(summary)
        return sorted(found, key=lambda summary: summary.last_used, reverse=True)

    def _set_folders(self) -> list[Path]:
        return sorted(about.parent for about in self.folder.glob(f"*/{_ABOUT}"))

    def _entries(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for folder in self._set_folders():
            with os.scandir(folder) as files:
                found += [(Path(file.path), file.stat()) for file in files if file.name.endswith(".features")]
        return found


@dataclass(frozen=True, kw_only=True)
class BankConfig:
    """How the features of a frozen backbone are kept.

    Args:
        bank: Where.
        views: Changed views of each training photo, beside the plain one.
    """

    bank: FeatureBank
    views: int


def photo_key(path: Path) -> str:
    """Names a photo by its bytes: a copy has the same features, a changed file others."""
    status = path.stat()
    return _hash_of(path, status.st_mtime_ns, status.st_size)


def view_generator(photo_key: str, view: int) -> np.random.Generator:
    """Draws the random changes of one view: the same for every run, whatever its seed."""
    return np.random.default_rng([view, int(photo_key[:16], 16)])


@lru_cache(maxsize=100_000)
def _hash_of(path: Path, modified: int, size: int) -> str:
    """Depends on the time and size of the file as well, so that a file that changes is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _checksum(payload: bytes) -> bytes:
    return zlib.crc32(payload).to_bytes(_CHECKSUM_BYTES, "little")


def _remove_oldest(entries: Iterable[tuple[Path, os.stat_result]], excess: float) -> int:
    freed = 0
    for path, status in sorted(entries, key=lambda entry: entry[1].st_mtime):
        if freed >= excess:
            break
        path.unlink(missing_ok=True)
        freed += status.st_size
    return freed


def _gigabytes(size: float) -> str:
    return f"{size / GIGABYTE:.3g}"
