"""The two checkpoints of a fold, whole or absent on the disk."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from biomass_pl.files import replacing


class BestCheckpoint(ModelCheckpoint):
    """`best.ckpt`: the epoch with the best monitored score.

    Args:
        folder: Where it is written.
        monitor: The logged score; larger is better.
    """

    def __init__(self, *, folder: Path, monitor: str) -> None:
        super().__init__(dirpath=folder, filename="best", monitor=monitor, mode="max", enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best score also when the run folder has moved, which Lightning would forget."""
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})


class LastCheckpoint(ModelCheckpoint):
    """`last.ckpt`: the newest whole epoch, from which a broken run goes on.

    ModelCheckpoint's own `save_last` writes only in epochs that are also the best.

    Args:
        folder: Where it is written.
    """

    def __init__(self, *, folder: Path) -> None:
        super().__init__(dirpath=folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)


class WholeFileCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it.

    Lightning's own goes through the system's temporary folder, which may be on another disk: then the
    last step copies, and a full disk or a kill leaves half a file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Saves a checkpoint to `path`."""
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)
