"""File systems of fsspec that break, and that tell what arrives."""

import threading
from typing import Any, ClassVar

from fsspec import register_implementation
from fsspec.implementations.memory import MemoryFileSystem


class FlakyFileSystem(MemoryFileSystem):
    """A memory that can be told to fail, and that can be waited for. Uploads need a name of their own."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    failing: ClassVar[dict[str, int]] = {}
    """How often uploads to paths with this in their name fail yet."""
    halfway: ClassVar[bool] = False
    """Whether an upload that fails leaves half a file."""
    uploads: ClassVar[list[str]] = []
    """Where files were put, before they got their name."""
    arrival: ClassVar[threading.Condition] = threading.Condition()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix(f"{cls.protocol}:/"))

    @classmethod
    def start_anew(cls) -> None:
        cls.store.clear()
        cls.failing.clear()
        cls.uploads.clear()
        cls.halfway = False

    @classmethod
    def names(cls) -> set[str]:
        return set(cls.store)

    @classmethod
    def wait_for(cls, name: str) -> bool:
        """Whether a file is there within half a minute."""
        with cls.arrival:
            return cls.arrival.wait_for(lambda: name in cls.store, timeout=30)

    def put_file(self, lpath: str, rpath: str, *args: Any, **kwargs: Any) -> None:
        self.uploads.append(rpath)
        for part, times in self.failing.items():
            if part in rpath and times > 0:
                self.failing[part] -= 1
                if self.halfway:
                    self.pipe_file(rpath, b"ha")
                raise ConnectionError("the network is down")
        super().put_file(lpath, rpath, *args, **kwargs)

    def mv(self, *args: Any, **kwargs: Any) -> None:
        super().mv(*args, **kwargs)
        with self.arrival:
            self.arrival.notify_all()


class Unreachable(MemoryFileSystem):
    """Nothing can be listed."""

    protocol = "unreachable"

    def find(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        raise ConnectionError("no route to host")


class ObjectStore(FlakyFileSystem):
    """A place that shows whole files only, by the name of one that is known for it."""

    protocol = "oci"
    store: ClassVar[dict[str, Any]] = {}
    uploads: ClassVar[list[str]] = []


for implementation in (FlakyFileSystem, Unreachable, ObjectStore):
    register_implementation(implementation.protocol, implementation, clobber=True)
