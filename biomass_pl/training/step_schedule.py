"""Learning rates with a warm-up counted in optimizer steps."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from biomass_pl.errors import ConfigError
from biomass_pl.training.optim import TrainingLength


@dataclass(frozen=True, kw_only=True)
class StepSchedule:
    """How the rate changes from one optimizer step to the next.

    Args:
        name: After the warm-up: half a `cosine` down to 0, `const` for the same rate throughout, or `const-cooldown`
            for the same rate until the last epochs, then a polynomial down to `cooldown_end`.
        warmup: Optimizer steps in which the rate grows linearly; the last of them has the full rate.
        epochs_cooldown: Epochs of the cooldown; `const-cooldown` needs it.
        cooldown_end: Rate after the cooldown.
        cooldown_power: Power of the polynomial; 1 is linear.
        skip: Keep the full rate after the warm-up, whatever the name; with warmup 0, from the first step.

    Raises:
        ConfigError: A setting is out of range, or there is a cooldown without its length or a length without cooldown.
    """

    name: Literal["cosine", "const", "const-cooldown"] = "cosine"
    warmup: int = 100
    epochs_cooldown: int | None = None
    cooldown_end: float = 0.0
    cooldown_power: float = 1.0
    skip: bool = False

    def __post_init__(self) -> None:
        names = ("cosine", "const", "const-cooldown")
        if self.name not in names:
            raise ConfigError(f"model.scheduler.name is '{self.name}'; give one of {', '.join(names)}.")
        if self.warmup < 0:
            raise ConfigError(f"model.scheduler.warmup is {self.warmup}; give 0 steps or more.")
        if (self.name == "const-cooldown") != (self.epochs_cooldown is not None):
            raise ConfigError(
                f"model.scheduler.name {self.name} with model.scheduler.epochs_cooldown {self.epochs_cooldown}: "
                "const-cooldown needs its number of epochs, and no other schedule has one."
            )
        if self.epochs_cooldown is not None and self.epochs_cooldown < 1:
            raise ConfigError(f"model.scheduler.epochs_cooldown is {self.epochs_cooldown}; give 1 or more.")
        if not (math.isfinite(self.cooldown_end) and self.cooldown_end >= 0):
            raise ConfigError(f"model.scheduler.cooldown_end is {self.cooldown_end}; give a rate of 0 or more.")
        if not (math.isfinite(self.cooldown_power) and self.cooldown_power > 0):
            raise ConfigError(f"model.scheduler.cooldown_power is {self.cooldown_power}; give more than 0.")

    def check(self, *, peak: float, length: TrainingLength) -> None:
        """Refuses a cooldown that does not fit a training.

        Args:
            peak: The full rate.
            length: How long training lasts.

        Raises:
            ConfigError: It is longer than the training, or ends above the full rate.
        """
        if self.epochs_cooldown is None or self.skip:
            return
        if self.epochs_cooldown > length.epochs:
            raise ConfigError(
                f"model.scheduler.epochs_cooldown {self.epochs_cooldown} is more than trainer.max_epochs "
                f"{length.epochs}. Lower it."
            )
        if self.cooldown_end > peak:
            raise ConfigError(
                f"model.scheduler.cooldown_end {self.cooldown_end} is above the rate {peak} that cools down. Lower it."
            )

    def rate(self, step: int, *, peak: float, length: TrainingLength) -> float:
        """The rate at an optimizer step, from 0; past the end of training it is that of the end.

        Args:
            step: The step.
            peak: The full rate.
            length: How long training lasts.
        """
        last = length.epochs * length.steps_per_epoch
        step = min(step, last)
        if step < self.warmup:
            return peak * (step + 1) / self.warmup
        if self.skip or self.name == "const":
            return peak
        if self.epochs_cooldown is None:
            return peak * (1 + math.cos(math.pi * (step - self.warmup) / max(1, last - self.warmup))) / 2
        left = min(1.0, (last - step) / (self.epochs_cooldown * length.steps_per_epoch))
        return self.cooldown_end + (peak - self.cooldown_end) * math.pow(left, self.cooldown_power)


torch.serialization.add_safe_globals([StepSchedule])  # checkpoints of tasks made in Python hold one
