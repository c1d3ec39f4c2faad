"""Several processes for one training: who makes the run, who trains which fold, who predicts."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from biomass_pl.runs import Run

_RUN = "BIOMASS_RUN"
_FOLD = "BIOMASS_FOLD"

_RANK_VARIABLES = (
    "LOCAL_RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NODEID",
)
"""What tells a process its place among others."""


def assigned_fold() -> tuple[Run, int] | None:
    """The fold that another process started this one for; none in the process that the user started."""
    if _FOLD not in os.environ:
        return None
    return Run(Path(os.environ[_RUN])), int(os.environ[_FOLD])


@contextmanager
def helpers_for(run: Run, fold: int) -> Iterator[None]:
    """Tells the processes that Lightning starts inside which fold they are for, and forgets them afterwards.

    Lightning leaves its variables and its process group behind; the next fold's trainer would take itself for
    one of the helpers, and wait for ever.
    """
    started_by_a_launcher = "LOCAL_RANK" in os.environ or "SLURM_PROCID" in os.environ
    if started_by_a_launcher:
        yield
        return
    before = {name: os.environ.get(name) for name in _RANK_VARIABLES}
    os.environ.update({_RUN: str(run.path.absolute()), _FOLD: str(fold)})
    try:
        yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        del os.environ[_RUN], os.environ[_FOLD]
        _restore(before)


def made_once(trainer: Trainer, make: Callable[[], Run]) -> Run:
    """Makes a run in the first of the processes that torchrun or SLURM started, and tells the others of it.

    Args:
        trainer: A trainer of the training to come.
        make: Makes the run.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is None or trainer.world_size == 1 or not environment.creates_processes_externally:
        return make()
    trainer.strategy.setup_environment()
    path = str(make().path.absolute()) if trainer.is_global_zero else ""
    return Run(Path(trainer.strategy.broadcast(path)))


@contextmanager
def on_its_own() -> Iterator[None]:
    """Hides the other processes of the training, so that one predicts alone, on one device."""
    before = {name: os.environ.pop(name, None) for name in _RANK_VARIABLES}
    try:
        yield
    finally:
        _restore(before)


def _restore(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
