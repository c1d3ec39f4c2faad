"""Settings of Lightning's trainer: names that others published, and what a cross-validation cannot serve."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import DeviceStatsMonitor
from lightning.pytorch.plugins import BitsandbytesPrecision, Precision

from biomass_pl.errors import ConfigError
from biomass_pl.training.precision_names import lightning_precision
from biomass_pl.training.task import Task

_EPOCHS = "Rates and schedules count epochs: set trainer.max_epochs, and trainer.limit_train_batches for short ones."


class RunTrainer(Trainer):
    """Lightning's trainer, whose number format a configuration may name as it likes.

    `trainer_precision` makes Lightning's name of it, once the task is known.

    Args:
        precision: Number format of training: 32-true, 16-mixed, bf16-mixed, or a published name such as amp.
        **settings: Lightning's own.
    """

    def __init__(self, *, precision: str | int | None = None, **settings: Any) -> None:
        super().__init__(precision=precision, **settings)  # type: ignore[arg-type]


def trainer_precision(name: str | int | None, task: Task) -> str | None:
    """Lightning's name of the number format that a configuration asks for; none where it leaves that open.

    Args:
        name: As Lightning names it, or as published.
        task: What is trained.

    Raises:
        ConfigError: There is no such format, the task cannot be trained in it, or the name may mean two of them.
    """
    return None if name is None else lightning_precision(name, allowed=task.precisions)


def check_strategy(strategy: Any) -> None:
    """Refuses a strategy that Lightning had once.

    Args:
        strategy: That of the configuration.

    Raises:
        ConfigError: It is Horovod.
    """
    if isinstance(strategy, str) and strategy.lower() == "horovod":
        raise ConfigError(
            "trainer.strategy horovod left Lightning with its version 2; use ddp, with trainer.devices or torchrun to "
            "start the processes."
        )


def check_plugins(plugins: Sequence[Any], precision: str | int | None) -> None:
    """Refuses two number formats at once, and one that the machine lacks.

    Args:
        plugins: Those of the configuration.
        precision: `trainer.precision`.

    Raises:
        ConfigError: A plugin brings a format, and a format is named; or it needs a GPU.
    """
    if any(isinstance(plugin, BitsandbytesPrecision) for plugin in plugins) and not torch.cuda.is_available():
        raise ConfigError("BitsandbytesPrecision of trainer.plugins needs a CUDA GPU, and there is none. Leave it out.")
    own = [type(plugin).__name__ for plugin in plugins if isinstance(plugin, Precision)]
    if own and precision is not None:
        raise ConfigError(
            f"{own[0]} of trainer.plugins has a number format of its own, beside trainer.precision {precision}. "
            "Leave one of them out."
        )


def check_device_stats(trainer: Trainer) -> None:
    """Refuses statistics of the device that nothing measures or nobody is told.

    Raises:
        ConfigError: psutil is not installed, or there is no logger.
    """
    monitors = [callback for callback in trainer.callbacks if isinstance(callback, DeviceStatsMonitor)]  # type: ignore[attr-defined]
    if monitors and not trainer.loggers:
        raise ConfigError("DeviceStatsMonitor tells the loggers, of which trainer.logger: false leaves none.")
    on_cpu = isinstance(trainer.accelerator, CPUAccelerator)
    of_cpu = any(on_cpu if monitor._cpu_stats is None else monitor._cpu_stats for monitor in monitors)
    if of_cpu and find_spec("psutil") is None:
        raise ConfigError(
            "DeviceStatsMonitor measures processors with psutil, which is not there: pip install psutil. "
            "With cpu_stats: false it measures GPUs alone."
        )


def check_trainer(trainer: Any) -> None:
    """Refuses what would end in no score, or in another training than asked for.

    Args:
        trainer: The trainer section of a parsed configuration.

    Raises:
        ConfigError: Names the setting and what to set instead.
    """
    if trainer.max_steps not in (None, -1):
        raise ConfigError(f"trainer.max_steps {trainer.max_steps} may end within an epoch. {_EPOCHS}")
    epochs = trainer.max_epochs
    if epochs is None or epochs < 1:
        raise ConfigError(f"trainer.max_epochs is {epochs}; a training of every fold needs 1 or more.")
    if trainer.limit_train_batches == 0:
        raise ConfigError("trainer.limit_train_batches 0 trains nothing. Give 1 or more, or leave it out.")
    if trainer.limit_val_batches == 0:
        raise ConfigError(
            "trainer.limit_val_batches 0 leaves no score by which the best epoch could be told. "
            "Give 1 or more, or leave it out."
        )
    if trainer.overfit_batches:
        raise ConfigError(
            f"trainer.overfit_batches {trainer.overfit_batches} would validate on training photos. "
            "To see whether a few batches are learned: --trainer.limit_train_batches 2 --trainer.max_epochs 50."
        )
    if trainer.enable_checkpointing is False:
        raise ConfigError("trainer.enable_checkpointing false would leave nothing to predict with. Leave it out.")
    every = trainer.check_val_every_n_epoch
    if every is None or every > epochs:
        raise ConfigError(
            f"trainer.check_val_every_n_epoch {every} never validates within trainer.max_epochs {epochs}. Lower it."
        )
