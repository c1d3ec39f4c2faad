"""Times the parts of training steps."""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

WARM_UP_STEPS = 3
"""Steps before the timed ones: memory is allocated, kernels are chosen or compiled."""


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """Median milliseconds of a training step by part.

    Args:
        load: Waiting for the loader.
        forward: Copy to the device, forward pass and losses.
        backward: Backward pass.
        update: Clipping and optimizer.
    """

    load: float
    forward: float
    backward: float
    update: float

    @property
    def total(self) -> float:
        """The whole step."""
        return self.load + self.forward + self.backward + self.update


class StepTimer(Callback):
    """Notes when each part of a step ends, the device's work included."""

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = {"load": [], "forward": [], "backward": [], "update": []}
        self.validation: list[float] = []
        self._last = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._last = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """A batch has come."""
        self._note("load", pl_module)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """The loss is there."""
        self._note("forward", pl_module)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The gradients are there."""
        self._note("backward", pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The weights are new."""
        self._note("update", pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock of validation."""
        self._last = time.perf_counter()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A batch is predicted."""
        wait_for(pl_module.device)
        now = time.perf_counter()
        self.validation.append(len(batch["id"]) / (now - self._last))
        self._last = now

    def times(self) -> StepTimes:
        """Medians in milliseconds after the warm-up."""
        return StepTimes(
            **{name: 1000 * statistics.median(seconds[WARM_UP_STEPS:]) for name, seconds in self.parts.items()}
        )

    def _note(self, part: str, pl_module: LightningModule) -> None:
        wait_for(pl_module.device)
        now = time.perf_counter()
        self.parts[part].append(now - self._last)
        self._last = now


def wait_for(device: torch.device) -> None:
    """Waits until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
