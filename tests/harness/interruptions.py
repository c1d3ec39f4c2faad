"""Callbacks that break a training once, for recipes and command lines of tests in one process."""

import os
import signal
from typing import ClassVar

from lightning.pytorch import Callback

from biomass_pl.errors import TrainingError


class _Once(Callback):
    """Something that happens at the start of an epoch, the first time it is reached.

    Args:
        epochs: The epochs.
    """

    happened: ClassVar[set[tuple[str, int]]] = set()
    """Where it happened already; a test starts with none, by the fixture `interruptions`."""

    def __init__(self, *, epochs: list[int]) -> None:
        self.epochs = epochs

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        epoch = trainer.current_epoch
        if epoch in self.epochs and (type(self).__name__, epoch) not in self.happened:
            self.happened.add((type(self).__name__, epoch))
            self.happen()

    def happen(self) -> None:
        raise NotImplementedError


class FailOnce(_Once):
    """An error."""

    def happen(self) -> None:
        raise TrainingError("the power failed")


class TerminateOnce(_Once):
    """SIGTERM."""

    def happen(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


class InterruptOnce(_Once):
    """Ctrl-C."""

    def happen(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
