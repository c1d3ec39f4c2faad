"""What all rendered samples share: random streams by key, and a folder that appears whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from biomass_pl.errors import DataError

Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
Key = tuple[int, ...]


def stream(key: Key, purpose: str) -> np.random.Generator:
    """A generator of its own for each purpose: another number of draws for one of them must not move the others."""
    return np.random.default_rng([*key, *purpose.encode()])


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Gives a temporary folder beside `out` that takes its place when the block ends well."""
    out = out.absolute()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"{out} is there already: give an empty or a new folder to --out, or delete it first.")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
