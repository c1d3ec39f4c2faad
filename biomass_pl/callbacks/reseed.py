"""The training loop's own random draws, made a function of the seed and the epoch."""

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything


class ReseedEveryEpoch(Callback):
    """Seeds all generators at every epoch start, so that a resumed run draws what the undisturbed one drew.

    Args:
        seed: Seed of the run.
    """

    def __init__(self, *, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seeds by the run's seed, the epoch and the rank: each device drops out its own units."""
        mixed = np.random.SeedSequence([self.seed, trainer.current_epoch, trainer.global_rank])
        seed_everything(int(mixed.generate_state(1)[0]), verbose=False)
