"""An HDF5 file that every process opens on its own."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from biomass_pl.errors import DataError


@dataclass(eq=False)
class Hdf5File:
    """An HDF5 file to read from, in whatever process.

    An open file cannot be handed over to another process: each opens it when it first reads.

    Args:
        path: The file.
    """

    path: Path
    _file: Any = field(default=None, init=False, repr=False)
    _process: int = field(default=-1, init=False, repr=False)

    def opened(self) -> Any:
        """The open file.

        Raises:
            DataError: There is none, or it is no HDF5 file.
        """
        if self._process != os.getpid():
            try:
                self._file = h5py.File(self.path, "r")
            except OSError as error:
                raise DataError(f"{self.path} is no HDF5 file that can be read ({error}). Restore it.") from error
            self._process = os.getpid()
        return self._file

    def close(self) -> None:
        """Closes the file, as before other processes begin; reading opens it again."""
        if self._process == os.getpid():
            self._file.close()
        self._file, self._process = None, -1

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_process": -1}
