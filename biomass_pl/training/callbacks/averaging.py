"""Averaged weights: what validates and predicts is a moving average of what learns."""

from functools import partial

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from biomass_pl.errors import ConfigError
from biomass_pl.training.callbacks.freeze import BackboneFreeze


class ExponentialAveraging(WeightAveraging):
    """An exponential moving average (EMA) of the weights, taken after every optimizer step.

    Validation runs on the average, and checkpoints hold it as their weights, so that predictions are made with it.
    The first steps would otherwise stay in the average for long: after the first one it is the weights themselves, and
    after t steps it keeps `min(decay, (1 + t) / (10 + t))` of itself. This is TensorFlow's convention; timm's and
    others' warm up along other curves, or copy the weights for longer. Statistics of batch normalisation are averaged
    as weights are; whole numbers, such as how many batches they are of, are copied.

    Args:
        decay: Share of itself that the average keeps in a step once it is warm, from 0 to below 1.
    """

    def __init__(self, *, decay: float = 0.9999) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"ExponentialAveraging.decay is {decay}; give a share from 0 to below 1.")
        self.decay = decay
        super().__init__(multi_avg_fn=partial(_update, decay=decay))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Builds the network and its average."""
        # Which depends on what is frozen, also where the freeze comes later among the callbacks.
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, BackboneFreeze):
                callback.setup(trainer, pl_module, stage)
        super().setup(trainer, pl_module, stage)


@torch.no_grad()
def _update(averages: list[Tensor], current: list[Tensor], steps: Tensor | int, *, decay: float) -> None:
    """Moves averages, all of one type, towards the current values.

    Args:
        averages: Changed in place.
        current: Values after the newest step.
        steps: Optimizer steps before it.
        decay: As of the callback.
    """
    if not averages[0].is_floating_point():
        torch._foreach_copy_(averages, current)
        return
    before = int(steps)
    kept = min(decay, (1 + before) / (10 + before))
    torch._foreach_lerp_(averages, current, 1 - kept)
