"""The sources of this package, kept beside what they trained."""

import logging
import shutil
import uuid
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

import biomass_pl
from biomass_pl.training.callbacks.run_folder import run_folder

logger = logging.getLogger(__name__)

_FOLDER = "code"


class SourceCopy(Callback):
    """Copies the package's sources into the folder `code` of the run, to read what a run was trained with.

    Nothing is ever run from there. A run that goes on with other sources gets them as `code_2`, and so on.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copies them, unless the run has them already."""
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            copy_sources(Path(biomass_pl.__file__).parent, run_folder(trainer))


def copy_sources(package: Path, folder: Path) -> Path:
    """Copies the sources of a package, whole or not at all, unless a copy of the same is there.

    Args:
        package: The folder of the package.
        folder: Where the copies are.

    Returns:
        The copy.
    """
    number = 1
    while (copy := folder / (_FOLDER if number == 1 else f"{_FOLDER}_{number}")).exists():
        if _same(package, copy / package.name):
            return copy
        number += 1
    if number > 1:
        logger.warning("The sources of %s changed since this run began; they are kept in %s", package.name, copy)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{copy.name}.{uuid.uuid4().hex}.tmp"
    try:
        shutil.copytree(package, temporary / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        temporary.rename(copy)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return copy


def _same(package: Path, copy: Path) -> bool:
    """Whether a copy has the same files with the same contents."""
    names = _files(package)
    return names == _files(copy) and all((package / name).read_bytes() == (copy / name).read_bytes() for name in names)


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
