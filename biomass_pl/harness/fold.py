"""The training of one fold: its objects, its checkpoints, its record."""

import gc
import logging
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from biomass_pl.data.splits import Split, read_folds
from biomass_pl.harness.interrupts import passing_on_interrupts
from biomass_pl.harness.memory import peak_gpu_memory, peak_memory, reset_peak_memory
from biomass_pl.harness.parser import RunCLI, as_list
from biomass_pl.harness.predictor import require_data
from biomass_pl.harness.processes import helpers_for
from biomass_pl.harness.wandb_runs import finished_wandb_run, name_wandb_run
from biomass_pl.runs import Run
from biomass_pl.training.callbacks.checkpoint import (
    BestCheckpoint,
    LastCheckpoint,
    WholeFileCheckpointIO,
    next_epoch,
    read_checkpoint,
)
from biomass_pl.training.callbacks.epochs import EpochTable
from biomass_pl.training.callbacks.feature_bank import FeatureBankFill
from biomass_pl.training.callbacks.reseed import ReseedEveryEpoch
from biomass_pl.training.callbacks.step_log import StepLog
from biomass_pl.training.callbacks.stopping import KnownMonitors, StayStopped

logger = logging.getLogger(__name__)


class FitCLI(RunCLI):
    """Makes the objects that train one fold of a run.

    Args:
        run: The run; the fold's saved configuration is used.
        fold: The fold.
        overrides: Settings of Lightning's form that differ, such as where the data lie now.
    """

    def __init__(self, run: Run, fold: int, overrides: Sequence[str] = ()) -> None:
        self.run = run
        self.fold = fold
        super().__init__(["--config", str(run.config(fold)), *overrides])

    def instantiate_classes(self) -> None:
        """Gives the fold a run of its own in Weights & Biases, where it is logged there."""
        name_wandb_run(self.config["trainer"].get("logger"), self.run, self.fold)
        super().instantiate_classes()

    def instantiate_trainer(self, **settings: Any) -> Trainer:
        """A trainer that logs and saves into the fold's folder."""
        configured = self.config_init["trainer"]
        self.model.truth = self.datamodule.truth  # the objective may depend on it
        title, objective = f"fold {self.fold}", self.model.objective
        settings = {
            "callbacks": [
                KnownMonitors(),
                *self.configured_callbacks(),
                *self.progress_bar(title),
                StepLog(),
                FeatureBankFill(),
                ReseedEveryEpoch(seed=self.datamodule.seed),
                StayStopped(),
                EpochTable(path=self.run.metrics_csv(self.fold), objective=objective, title=title),
                BestCheckpoint(folder=self.run.checkpoints(self.fold), objective=objective),
                LastCheckpoint(folder=self.run.checkpoints(self.fold)),
            ],
            "default_root_dir": str(self.run.fold_dir(self.fold)),
            "use_distributed_sampler": False,  # the data module's own shares items out without predicting any twice
            "plugins": [*as_list(configured.get("plugins")), WholeFileCheckpointIO()],
            **settings,
        }
        if configured.get("logger") in (None, True):
            settings["logger"] = TensorBoardLogger(self.run.path, name="", version=f"fold_{self.fold}")
        return super().instantiate_trainer(**settings)


def train_fold(run: Run, fold: int, overrides: Sequence[str] = ()) -> None:
    """Trains one fold, from its last checkpoint if there is one, and marks it as finished."""
    with helpers_for(run, fold):
        cli = FitCLI(run, fold, overrides)
        require_data(run, cli.datamodule)
        split = Split(fold=fold, folds=read_folds(run.folds_csv, cli.datamodule.names()))
        last = run.last_checkpoint(fold)
        first_epoch = next_epoch(read_checkpoint(last)) if last.is_file() else 0
        cli.datamodule.use(split, first_epoch=first_epoch)
        if cli.trainer.is_global_zero:
            held_out = len(split.folds) - split.training_count
            learned, noun = cli.datamodule.training_count, cli.datamodule.item_noun
            logger.info("Fold %d: %d training %ss, %d held out", fold, learned, noun, held_out)
            if first_epoch:
                logger.info("Fold %d goes on with epoch %d of %s", fold, first_epoch + 1, cli.trainer.max_epochs)
        reset_peak_memory()
        with passing_on_interrupts(), finished_wandb_run(cli.trainer):
            cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=last if last.is_file() else None, weights_only=True)
        if cli.trainer.is_global_zero:
            run.finish_fold(fold, _fold_record(run, fold, cli.model.objective.name))
    del cli
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _fold_record(run: Run, fold: int, objective: str) -> dict[str, Any]:
    best = read_checkpoint(run.best_checkpoint(fold))
    epochs = pd.read_csv(run.metrics_csv(fold)).set_index("epoch")
    score = float(epochs.loc[best["epoch"], objective])
    return {
        "best_epoch": best["epoch"],
        objective: score if math.isfinite(score) else None,
        "epochs": len(epochs),
        "seconds": round(float(epochs["seconds"].sum()), 1),
        "peak_memory_bytes": peak_memory(),
        "peak_gpu_memory_bytes": peak_gpu_memory(),
    }
