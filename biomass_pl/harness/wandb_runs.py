"""Weights & Biases: every fold is a run of its own there, in a group of all folds."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger

from biomass_pl.runs import Run


def name_wandb_run(loggers: Any, run: Run, fold: int) -> None:
    """Gives a fold its own name, id and folder in the settings of WandbLogger, and the group of the run.

    A fold that goes on has the same id, so that its curves go on.

    Args:
        loggers: `trainer.logger` as it is parsed, before any logger is made; changed in place.
        run: The run.
        fold: The fold.
    """
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        if getattr(logger, "class_path", "").rpartition(".")[2] != WandbLogger.__name__:
            continue
        settings, more = logger.init_args, dict(logger.get("dict_kwargs") or {})
        name = settings.name or f"{run.path.parent.name}/{run.path.name}"
        # Runs of other folders and machines may have the same name.
        unique = hashlib.sha256(f"{run.path.name} {run.record()['created']}".encode()).hexdigest()[:8]
        settings.id = f"{settings.version or settings.id or unique}-fold_{fold}"
        settings.version = None
        settings.name = f"{name}/fold_{fold}"
        if settings.save_dir in (None, "."):
            settings.save_dir = settings.dir or str(run.fold_dir(fold))
        logger.dict_kwargs = {"group": name, **more}


@contextmanager
def finished_wandb_run(trainer: Trainer) -> Iterator[None]:
    """Closes the run that the block logs to, however it ends; the next fold would go on with it."""
    if not any(isinstance(logger, WandbLogger) for logger in trainer.loggers):
        yield
        return
    failed = True
    try:
        yield
        failed = False
    finally:
        wandb = import_module("wandb")
        if wandb.run is not None:
            wandb.finish(exit_code=int(failed))
