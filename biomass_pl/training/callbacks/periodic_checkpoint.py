"""Checkpoints of epochs along the way, beside the best and the last one."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from biomass_pl.errors import ConfigError

_SAVED = "saved_epochs"


class PeriodicCheckpoint(Checkpoint):
    """`epoch_N.ckpt` every few epochs and after the last one, N being the epochs completed.

    They lie in the folder `checkpoints` of the trainer, and a training can go on from any of them.

    Args:
        save_frequency: Epochs from one to the next; 0 saves the last one only.
        save_most_recent: Also keep `epoch_latest.ckpt`, that of the newest epoch.
        delete_previous: Delete the one before when a new `epoch_N.ckpt` is there, but none that another setting or
            training wrote.

    Raises:
        ConfigError: The frequency is below 0.
    """

    def __init__(
        self, *, save_frequency: int = 20, save_most_recent: bool = False, delete_previous: bool = False
    ) -> None:
        if save_frequency < 0:
            raise ConfigError(
                f"PeriodicCheckpoint.save_frequency is {save_frequency}; give 1 or more, or 0 for the last epoch only."
            )
        self.save_frequency = save_frequency
        self.save_most_recent = save_most_recent
        self.delete_previous = delete_previous
        self._saved: list[int] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves what is due, then deletes what it replaces; nothing where a few batches are only tried."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        epochs = trainer.current_epoch + 1
        folder = Path(trainer.default_root_dir) / "checkpoints"
        stops = trainer.should_stop and epochs >= (trainer.min_epochs or 0)
        is_due = self.save_frequency > 0 and epochs % self.save_frequency == 0
        if is_due or stops or epochs == trainer.max_epochs:
            # The new one knows of the older ones, in case that the training is cut off before they are deleted.
            older = [epoch for epoch in self._saved if epoch != epochs]
            self._saved = [*older, epochs]
            trainer.save_checkpoint(_path(folder, epochs))
            if self.delete_previous:
                self._saved = [epochs]
                if trainer.is_global_zero:
                    for epoch in older:
                        _path(folder, epoch).unlink(missing_ok=True)
        if self.save_most_recent:
            trainer.save_checkpoint(folder / "epoch_latest.ckpt")

    def state_dict(self) -> dict[str, Any]:
        """The epochs whose checkpoints are its own."""
        return {_SAVED: self._saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what the training that is resumed had saved."""
        # Only numbers: from a file of others, no path to delete is taken.
        self._saved = [int(epoch) for epoch in state_dict[_SAVED]]


def _path(folder: Path, epochs: int) -> Path:
    return folder / f"epoch_{epochs}.ckpt"
