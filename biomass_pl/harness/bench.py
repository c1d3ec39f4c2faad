"""`biomass bench`: how fast a recipe runs on this machine, part by part, before it runs for hours."""

import logging
import statistics
import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Trainer
from rich.console import Console
from rich.table import Table
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from biomass_pl.data.splits import NEVER_HELD_OUT, Split, fold_numbers
from biomass_pl.errors import ConfigError
from biomass_pl.files import write_json
from biomass_pl.harness.interrupts import passing_on_interrupts
from biomass_pl.harness.memory import peak_gpu_memory, peak_memory, reset_peak_memory
from biomass_pl.harness.parser import RunCLI
from biomass_pl.harness.recipes import recipe_name
from biomass_pl.runs import LOGS
from biomass_pl.training.callbacks.freeze import BackboneFreeze
from biomass_pl.training.callbacks.timer import WARM_UP_STEPS, StepTimer, StepTimes
from biomass_pl.training.image_task import ImageTask

logger = logging.getLogger(__name__)

_MATRIX_SIDE = {"cuda": 8192, "cpu": 1024}
"""Side of the matrices that tell a device's rate; large enough for it to reach it."""


_MATRIX_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """One stage of training.

    Args:
        name: `frozen` or `full`.
        epochs: Epochs that the recipe trains in this stage.
        step: Times of a step.
        train_photos_per_s: Photos per second of training.
        forward_photos_per_s: Photos per second of validation, loading included.
        gflops_per_photo: Floating point operations of a training step, in billions per photo.
        utilisation: Share of the device's matrix rate that a step reaches, loading left out.
        peak_memory_gb: Most memory that tensors took on a GPU; elsewhere that of the process.
    """

    name: str
    epochs: int
    step: StepTimes
    train_photos_per_s: float
    forward_photos_per_s: float
    gflops_per_photo: float
    utilisation: float
    peak_memory_gb: float


class BenchCLI(RunCLI):
    """Makes the objects that train a few steps and write nothing.

    Args:
        arguments: Settings of Lightning's form.
        frozen: Whether the backbone is frozen.
        steps: Steps to time.
    """

    def __init__(self, arguments: Sequence[str], *, frozen: bool, steps: int) -> None:
        self.frozen = frozen
        self.steps = steps
        self.timer = StepTimer()
        super().__init__([*arguments, "--trainer.devices=1", "--trainer.num_nodes=1"], command="bench")

    def instantiate_trainer(self, **settings: Any) -> Trainer:
        """A trainer that stops after the steps."""
        own = {
            "callbacks": [*([BackboneFreeze(epochs="all")] if self.frozen else []), self.timer],
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "limit_train_batches": WARM_UP_STEPS + self.steps,
            "limit_val_batches": self.steps,
            "max_epochs": 1,
            "use_distributed_sampler": False,
        }
        return super().instantiate_trainer(**(own | settings))


def bench(arguments: Sequence[str], *, steps: int, out: Path | None) -> None:
    """Times a recipe's loading and steps, prints a table and writes JSON.

    Args:
        arguments: Settings of Lightning's form.
        steps: Steps to time in each stage.
        out: The JSON file; none chooses one under lightning_logs.

    Raises:
        BiomassError: A setting or the data are wrong.
    """
    if steps < 1:
        raise ConfigError(f"--steps {steps} times nothing. Give 1 or more.")
    cli = RunCLI(arguments, command="bench")
    cli.datamodule.prepare()
    cli.datamodule.check()
    frozen_epochs, full_epochs = _epochs(cli)
    assigned = cli.datamodule.make_folds()
    folds = len(fold_numbers(assigned))
    cli.datamodule.use(Split(fold=0, folds=assigned))
    cli.datamodule.check_split()
    rate = matrix_rate(cli.trainer.strategy.root_device, _matrix_type(cli.trainer))
    stages = []
    if frozen_epochs:
        stages.append(_measure("frozen", frozen_epochs, arguments, steps, rate))
    if full_epochs:
        stages.append(_measure("full", full_epochs, arguments, steps, rate))
    report = {
        "device": _device_name(cli.trainer.strategy.root_device),
        "precision": cli.trainer.precision,
        "matrix_tflops_per_s": rate / 1e12,
        "loader_photos_per_s": loader_rate(cli, steps),
        "photos": len(assigned),
        "folds": folds,
        "stages": [{**asdict(stage), "step_ms": stage.step.total} for stage in stages],
        "estimated_seconds": estimated_seconds(stages, assigned, cli),
    }
    out = out or Path(LOGS) / recipe_name(arguments) / "bench.json"
    write_json(report, out)
    _print(report, stages, out)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Dense matrix products of this type on the device, floating point operations per second."""
    side = _MATRIX_SIDE.get(device.type, _MATRIX_SIDE["cpu"])
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    timer = Timer("left @ right", globals={"left": left, "right": right}, num_threads=torch.get_num_threads())
    return 2 * side**3 / timer.blocked_autorange(min_run_time=_MATRIX_SECONDS).median


def loader_rate(cli: RunCLI, steps: int) -> float:
    """Training photos per second that the loader alone gives, after its first batch."""
    data = cli.datamodule
    data.use(Split(fold=0, folds=data.make_folds()))
    batches = iter(data.train_dataloader())
    next(batches)
    started, photos = time.perf_counter(), 0
    for _ in range(steps):
        batch = next(batches, None)
        if batch is None:
            break
        photos += len(batch["id"])
    return photos / (time.perf_counter() - started)


def _measure(name: str, epochs: int, arguments: Sequence[str], steps: int, rate: float) -> StageReport:
    logger.info("Timing %d steps of stage '%s'", steps, name)
    cli = BenchCLI(arguments, frozen=name == "frozen", steps=steps)
    # What the bank saves is part of the estimate; here it is pixels that count, as nothing fills it.
    cli.datamodule.use(Split(fold=0, folds=cli.datamodule.make_folds()))
    device = cli.trainer.strategy.root_device
    reset_peak_memory()
    # Few photos make short epochs: as many as the steps need.
    cli.trainer.fit_loop.max_epochs = -(-(WARM_UP_STEPS + steps) // len(cli.datamodule.train_dataloader()))
    with passing_on_interrupts():
        cli.trainer.fit(cli.model, cli.datamodule)
    memory = peak_gpu_memory() or peak_memory()
    flops = _flops_per_photo(cli, device)
    return StageReport(
        name=name,
        epochs=epochs,
        step=cli.timer.times(),
        forward_photos_per_s=statistics.median(cli.timer.validation),
        gflops_per_photo=flops / 1e9,
        peak_memory_gb=memory / 1e9,
        **speeds(cli.timer.times(), flops=flops, batch_size=cli.datamodule.batch_size, rate=rate),
    )


def speeds(step: StepTimes, *, flops: float, batch_size: int, rate: float) -> dict[str, float]:
    """Photos per second of training, and the share of a device's rate that its computing reaches.

    Args:
        step: Times of a step.
        flops: Floating point operations per photo.
        batch_size: Photos of a step.
        rate: Floating point operations per second that the device can do.
    """
    computing = (step.total - step.load) / 1000
    return {
        "train_photos_per_s": 1000 * batch_size / step.total,
        "utilisation": flops * batch_size / computing / rate,
    }


def _flops_per_photo(cli: BenchCLI, device: torch.device) -> float:
    """Operations of a forward and backward pass, counted by torch, per photo."""
    model = cli.model.to(device).train()
    if isinstance(model, ImageTask):
        model.backbone.train(not cli.frozen)
    batch = move_data_to_device(next(iter(cli.datamodule.train_dataloader())), device)
    with FlopCounterMode(display=False) as counter:
        with cli.trainer.precision_plugin.forward_context():
            loss = torch.stack(list(model.step(batch).losses.values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops() / len(batch["id"]))


def _epochs(cli: RunCLI) -> tuple[int, int]:
    """Frozen epochs and the others."""
    epochs = cli.trainer.max_epochs or 0
    for callback in cli.configured_callbacks():
        if isinstance(callback, BackboneFreeze):
            frozen = epochs if callback.epochs == "all" else min(epochs, callback.epochs)
            return frozen, epochs - frozen
    return 0, epochs


def estimated_seconds(stages: Sequence[StageReport], assigned: pd.Series, cli: RunCLI) -> float:
    """Seconds of all folds and epochs, without early stopping.

    Args:
        stages: The stages as they were timed.
        assigned: The fold in which each photo is held out.
        cli: The recipe's objects, whose data are told a split.
    """
    photos, folds = len(assigned), len(fold_numbers(assigned))
    held_out = int((assigned != NEVER_HELD_OUT).sum()) / folds
    data = cli.datamodule
    # An epoch may draw a part of the training photos.
    drawn = len(cast("Sized", data.train_dataloader().sampler)) / data.split.training_count
    seconds = 0.0
    for stage in stages:
        if stage.name == "frozen" and data.bank is not None:
            # The bank is filled once for all folds; epochs that read from it hardly count.
            views = photos * (1 + data.bank.views)
            seconds += views / stage.forward_photos_per_s
            continue
        epoch = drawn * (photos - held_out) / stage.train_photos_per_s + held_out / stage.forward_photos_per_s
        seconds += folds * stage.epochs * epoch
    return seconds


def _print(report: dict[str, Any], stages: Sequence[StageReport], out: Path) -> None:
    table = Table(title=f"{report['device']}, {report['precision']}", box=None)
    table.add_column("")
    for stage in stages:
        table.add_column(f"{stage.name}, {stage.epochs} epochs", justify="right")
    rows: list[tuple[str, Callable[[StageReport], str]]] = [
        ("training photos/s", lambda stage: f"{stage.train_photos_per_s:.1f}"),
        ("validation photos/s", lambda stage: f"{stage.forward_photos_per_s:.1f}"),
        ("ms per step", lambda stage: f"{stage.step.total:.0f}"),
        ("  waiting for photos", lambda stage: f"{stage.step.load:.0f}"),
        ("  forward", lambda stage: f"{stage.step.forward:.0f}"),
        ("  backward", lambda stage: f"{stage.step.backward:.0f}"),
        ("  update", lambda stage: f"{stage.step.update:.0f}"),
        ("GFLOP per photo", lambda stage: f"{stage.gflops_per_photo:.1f}"),
        ("share of the matrix rate", lambda stage: f"{stage.utilisation:.0%}"),
        ("peak memory, GB", lambda stage: f"{stage.peak_memory_gb:.2f}"),
    ]
    for name, text in rows:
        table.add_row(name, *map(text, stages))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"loader alone: {report['loader_photos_per_s']:.1f} photos/s; matrix rate: "
        f"{report['matrix_tflops_per_s']:.2f} TFLOP/s"
    )
    console.print(
        f"all {report['folds']} folds: about {_duration(report['estimated_seconds'])}, without early stopping"
    )
    console.print(str(out), soft_wrap=True)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _matrix_type(trainer: Trainer) -> torch.dtype:
    # On a CPU Lightning maps 16-mixed to bf16.
    half = torch.float16 if trainer.strategy.root_device.type == "cuda" else torch.bfloat16
    types = {"16-mixed": half, "16-true": torch.float16, "bf16-mixed": torch.bfloat16, "bf16-true": torch.bfloat16}
    return types.get(str(trainer.precision), torch.float32)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} with {torch.get_num_threads()} threads"
