"""The two checkpoints of a fold, whole or absent on the disk, and what a training resumes from them."""

import math
import pickle
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from biomass_pl.errors import RunError
from biomass_pl.files import replacing
from biomass_pl.training.task import Objective

_SAVING_SHARE = 20
"""Times the duration of saving that must have passed before `last.ckpt` is written again."""


_DAMAGED = (
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    EOFError,
    OSError,  # how torch reports an empty file
    LookupError,
    TypeError,
    AttributeError,
)
"""What reading a file that is no checkpoint can raise."""


class BestCheckpoint(ModelCheckpoint):
    """`best.ckpt`: the epoch with the best monitored score.

    Args:
        folder: Where it is written.
        objective: What makes an epoch the best.
    """

    def __init__(self, *, folder: Path, objective: Objective) -> None:
        super().__init__(
            dirpath=folder,
            filename="best",
            monitor=objective.name,
            mode=objective.mode,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best score also when the run folder has moved, which Lightning would forget."""
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})


class LastCheckpoint(ModelCheckpoint):
    """`last.ckpt`: a whole epoch, from which a broken run goes on.

    Epochs that pass faster than their state is written are not all kept: a resumed run repeats the few since.
    ModelCheckpoint's own `save_last` writes only in epochs that are also the best.

    Args:
        folder: Where it is written.
    """

    def __init__(self, *, folder: Path) -> None:
        super().__init__(dirpath=folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        self._saved = -math.inf
        self._saving = 0.0
        self._best: list[torch.Tensor | None] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves beside a new best and at the end, else unless saving would take more than a twentieth of the time."""
        started = time.monotonic()
        due = started >= self._saved + _SAVING_SHARE * self._saving or trainer.current_epoch + 1 == trainer.max_epochs
        # A best checkpoint of an epoch that a resumed run repeats would not be known to it.
        best = [other.best_model_score for other in trainer.checkpoint_callbacks if isinstance(other, BestCheckpoint)]
        due, self._best = due or best != self._best, best
        # All processes save together, so that the first one decides.
        if trainer.strategy.broadcast(due or trainer.should_stop):
            super().on_train_epoch_end(trainer, pl_module)
            self._saved = time.monotonic()
            self._saving = self._saved - started


class WholeFileCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it.

    Lightning's own goes through the system's temporary folder, which may be on another disk: then the
    last step copies, and a full disk or a kill leaves half a file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Saves a checkpoint to `path`."""
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint without running anything that is in it.

    Raises:
        RunError: It is not there, damaged, or holds more than plain values.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        checkpoint["state_dict"].keys(), checkpoint["loops"].keys()
    except FileNotFoundError as error:
        raise RunError(f"{path} does not exist. Finish the training: biomass fit --resume") from error
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.filename is not None:  # it may be whole, but not for us to read
            raise
        raise RunError(
            f"{path} is no checkpoint of this package: it is damaged, or holds more than weights and plain values, "
            "which is never read. Train the fold again."
        ) from error
    return checkpoint


def next_epoch(checkpoint: dict[str, Any]) -> int:
    """The epoch, from 0, with which a training goes on from a checkpoint.

    Args:
        checkpoint: As `read_checkpoint` returns it.

    Raises:
        RunError: It does not say.
    """
    try:
        return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError("A checkpoint does not tell its epoch: it is damaged. Train the fold again.") from error
