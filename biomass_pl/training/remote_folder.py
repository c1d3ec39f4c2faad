"""A folder that is copied to another place again and again: what is new or changed, each file whole."""

import contextlib
import json
import logging
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from biomass_pl.errors import ConfigError
from biomass_pl.files import write_json

logger = logging.getLogger(__name__)

STATE = ".remote_sync.json"
"""What a folder remembers of its copies: size and time of each file that was copied, by the place it went to."""

_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "hf"})
"""Protocols that show a file once all of it has arrived. Elsewhere it gets its name then."""

_Signature = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds."""


class RemoteFolder:
    """The copy of a folder. Files whose name or folder begins with a dot stay at home, as do links that lead out.

    What was deleted here stays there. A file counts as copied when it has not changed since, also in the eyes of a
    later process, and its copy is still there in full length.

    Args:
        folder: What is copied.
        url: Where it goes, as fsspec takes it: `s3://bucket/path`, `memory://path`, a path, ...

    Raises:
        ConfigError: The place is unknown, cannot be reached, or lies in the folder itself.
    """

    def __init__(self, *, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self._lock = threading.Lock()
        self._files, self._root = _file_system(url)
        if isinstance(self._files, LocalFileSystem) and Path(self._root).resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"RemoteSync.remote {url} lies in {folder}, which it is to copy. Give another place.")
        there = self._lengths()
        self._copied = {
            name: signature for name, signature in self._remembered().items() if there.get(name) == signature[0]
        }

    def copy_changes(self) -> dict[str, str]:
        """Copies files that are new or changed since they were copied.

        Returns:
            What went wrong, by the names of the files that could not be copied; the next call tries them again.
        """
        failures: dict[str, str] = {}
        with self._lock:
            before = dict(self._copied)
            try:
                for name, path, signature in self._present():
                    if self._copied.get(name) != signature:
                        self._copy(name, path, signature, failures)
            finally:
                if self._copied != before:
                    self._remember()
        return failures

    def _copy(self, name: str, path: Path, signature: _Signature, failures: dict[str, str]) -> None:
        try:
            self._upload(path, f"{self._root}/{name}")
        except Exception as error:  # file systems of other libraries can raise anything
            if path.exists():  # otherwise it was deleted meanwhile
                failures[name] = f"{type(error).__name__}: {error}"
        else:
            # As it was before: what changed meanwhile is copied again.
            self._copied[name] = signature

    def _upload(self, path: Path, target: str) -> None:
        if _OBJECT_STORES.intersection(_protocols(self._files)):
            self._files.put_file(str(path), target)
            return
        parent, _, name = target.rpartition("/")
        self._files.makedirs(parent, exist_ok=True)
        partial = f"{parent}/.{name}.{uuid.uuid4().hex}.part"
        try:
            self._files.put_file(str(path), partial)
            self._files.mv(partial, target)
        except BaseException:
            # It may never have begun, and why it ended is what matters.
            with contextlib.suppress(Exception):
                self._files.rm_file(partial)
            raise

    def _present(self) -> Iterator[tuple[str, Path, _Signature]]:
        """Names, paths and signatures of the files to copy."""
        home = self.folder.resolve()
        for path in sorted(self.folder.rglob("*")):
            parts = path.relative_to(self.folder).parts
            if any(part.startswith(".") for part in parts):
                continue  # of a process, such as a lock or a file that is being written
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                if path.is_file() and path.resolve().is_relative_to(home):
                    status = path.stat()
                    yield "/".join(parts), path, (status.st_size, status.st_mtime_ns)

    def _lengths(self) -> dict[str, int | None]:
        """Sizes of the files that are there, by name."""
        try:
            found = self._files.find(self._root, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:  # file systems of other libraries can raise anything
            raise ConfigError(
                f"RemoteSync.remote {self.url} cannot be reached ({type(error).__name__}: {error}). "
                "Correct it, or leave the callback out."
            ) from error
        return {name.removeprefix(f"{self._root}/"): info.get("size") for name, info in found.items()}

    def _remembered(self) -> dict[str, _Signature]:
        """What earlier processes copied there; nothing where that cannot be read."""
        return {name: (size, time) for name, (size, time) in _read(self.folder / STATE).get(self.url, {}).items()}

    def _remember(self) -> None:
        try:
            write_json(_read(self.folder / STATE) | {self.url: self._copied}, self.folder / STATE)
        except OSError as error:
            logger.warning("What was copied to %s is copied again by a resumed training: %s", self.url, error)


def _file_system(url: str) -> tuple[AbstractFileSystem, str]:
    try:
        files, root = url_to_fs(url)
    except ImportError as error:
        raise ConfigError(f"RemoteSync.remote {url} needs a package that is not installed: {error}") from error
    except Exception as error:  # file systems of other libraries can raise anything
        raise ConfigError(
            f"RemoteSync.remote {url} is no place to copy to ({error}). Give a URL that fsspec knows."
        ) from error
    return files, str(root).rstrip("/")


def _protocols(files: AbstractFileSystem) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)


def _read(path: Path) -> dict[str, Any]:
    """The copies that a folder remembers, by place; none where the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(url): {str(name): (int(size), int(time)) for name, (size, time) in copies.items()}
            for url, copies in content.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
