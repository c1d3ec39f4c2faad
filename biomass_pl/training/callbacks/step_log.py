"""Curves within epochs: every so many steps the losses, rates and times of training go to the loggers."""

import math
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from biomass_pl.training.task import Task, rates_of


class StepLog(Callback):
    """Logs every `trainer.log_every_n_steps` optimizer steps, and waits for the device only then.

    Loggers alone are told: early stopping, the choice of the best epoch and the table of epochs see what epochs log.
    Losses and measures of the newest batch have the names that they have once an epoch, and `_step`; rates are those
    of that step. `train/batch_time` and `train/data_time`, the wait for the loader, are seconds of a step, means since
    the last log in the same epoch; `train/samples_per_second` is of all devices together.
    """

    def __init__(self) -> None:
        self._rates: dict[str, float] = {}
        self._begin()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock; what is between epochs belongs to no step."""
        self._begin()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves out a validation within an epoch."""
        self._last = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """A batch has come."""
        self._waited += self._passed()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Notes the rates, which change after the step, where this is one to log."""
        self._steps += 1
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if trainer.loggers and every and (trainer.global_step + 1) % every == 0:
            self._rates = rates_of(optimizer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs, where this batch ended such a step."""
        self._items += len(batch["id"])
        if not self._rates or not isinstance(pl_module, Task):
            self._computed += self._passed()
            return
        values = _means(trainer, pl_module.newest_values())  # waits until the device has done the steps
        self._computed += self._passed()
        for logger in trainer.loggers:
            logger.log_metrics({**values, **self._rates, **self._times(trainer)}, step=trainer.global_step - 1)
        self._begin()

    def _begin(self) -> None:
        self._rates = {}
        self._waited = self._computed = 0.0
        self._steps = self._items = 0
        self._last = time.perf_counter()

    def _passed(self) -> float:
        """Seconds since the last call."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return seconds

    def _times(self, trainer: Trainer) -> dict[str, float]:
        seconds = self._waited + self._computed
        rate = self._items / seconds
        times = {
            "train/batch_time": seconds / self._steps,
            "train/data_time": self._waited / self._steps,
            "train/samples_per_second": rate * trainer.world_size,
        }
        return times if trainer.world_size == 1 else {**times, "train/samples_per_second_per_device": rate}


def _means(trainer: Trainer, values: dict[str, torch.Tensor]) -> dict[str, float]:
    """Means over all processes, under the names of steps; without those of which there was none."""
    stacked = torch.stack([value.float() for value in values.values()])
    means = trainer.strategy.reduce(stacked, reduce_op="mean")
    numbers = dict(zip(values, means.tolist(), strict=True))
    return {
        f"{name}_step": number
        for name, number in numbers.items()
        if name.startswith("train/loss") or not math.isnan(number)
    }
