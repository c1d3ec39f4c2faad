"""The training loop's own random draws, made a function of the seed and the epoch."""

from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything


class ReseedEveryEpoch(Callback):
    """Seeds all generators in every epoch, so that a resumed run draws what the undisturbed one drew.

    Args:
        seed: Seed of the run.
    """

    def __init__(self, *, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seeds by the run's seed, the epoch and the rank: each device drops out its own units.

        Not earlier than at the first batch: making a loader's iterator draws a number, and a resumed run makes
        it before the epoch starts, an undisturbed one after.
        """
        if batch_idx == 0:
            mixed = np.random.SeedSequence([self.seed, trainer.current_epoch, trainer.global_rank])
            seed_everything(int(mixed.generate_state(1)[0]), verbose=False)
