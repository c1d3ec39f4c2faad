"""`biomass fit`: every fold, its out-of-fold predictions, the pooled score."""

import gc
import hashlib
import logging
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from biomass_pl.data.splits import read_folds
from biomass_pl.errors import ConfigError, FoldError, RunError
from biomass_pl.evaluation.pictures import draw_learning_curves
from biomass_pl.files import write_table
from biomass_pl.harness.parser import RunCLI, config_name
from biomass_pl.harness.predict import predict_held_out, read_predictions, report_out_of_fold
from biomass_pl.harness.processes import assigned_fold, helpers_for, made_once
from biomass_pl.runs import FOLDS_CSV, LOGS, Run, RunStart, create_run, find_run, join_run
from biomass_pl.training.callbacks.checkpoint import BestCheckpoint, LastCheckpoint, WholeFileCheckpointIO
from biomass_pl.training.callbacks.epochs import EpochTable
from biomass_pl.training.callbacks.feature_bank import FeatureBankFill, check_bank
from biomass_pl.training.callbacks.freeze import BackboneFreeze
from biomass_pl.training.callbacks.reseed import ReseedEveryEpoch
from biomass_pl.training.task import BaseTask

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What `biomass fit` takes beside Lightning's settings.

    Args:
        folds: Folds to train; none trains all.
        name: Name of the run; none takes the configuration's.
        oof: Whether to predict the held-out photos at the end.
        resume: Whether to go on with an unfinished run.
        run: The run to resume, none being the newest unfinished one; or the folder that a new run is put into,
            none being the next version of its name.
    """

    folds: list[int] | None = None
    name: str | None = None
    oof: bool = True
    resume: bool = False
    run: Path | None = None


class FitCLI(RunCLI):
    """Makes the objects that train one fold of a run.

    Args:
        run: The run; the fold's saved configuration is used.
        fold: The fold.
    """

    def __init__(self, run: Run, fold: int) -> None:
        self.run = run
        self.fold = fold
        super().__init__(["--config", str(run.config(fold))])

    def instantiate_trainer(self, **settings: Any) -> Trainer:
        """A trainer that logs and saves into the fold's folder."""
        configured = self.config_init["trainer"]
        folder = self.run.fold_dir(self.fold)
        table = EpochTable(path=self.run.metrics_csv(self.fold), score=self.model.monitor, title=f"fold {self.fold}")
        settings = {
            "callbacks": [
                *self.configured_callbacks(),
                FeatureBankFill(),
                ReseedEveryEpoch(seed=self.datamodule.seed),
                table,
                BestCheckpoint(folder=self.run.checkpoints(self.fold), monitor=self.model.monitor),
                LastCheckpoint(folder=self.run.checkpoints(self.fold)),
            ],
            "default_root_dir": str(folder),
            "use_distributed_sampler": False,  # the data module's own shares photos out without predicting any twice
            "plugins": [*(configured.get("plugins") or []), WholeFileCheckpointIO()],
            **settings,
        }
        if configured.get("logger") in (None, True):
            settings["logger"] = TensorBoardLogger(self.run.path, name="", version=f"fold_{self.fold}")
        trainer = super().instantiate_trainer(**settings)
        if trainer.progress_bar_callback is not None:
            table.title = ""
        return trainer


def fit(options: FitOptions, arguments: Sequence[str]) -> None:
    """Trains the folds of a new run, or goes on with an unfinished one.

    Args:
        options: The command's own options.
        arguments: Settings of Lightning's form.

    Raises:
        BiomassError: Something the user can mend; nothing of the run was made if it shows before training.
    """
    assigned = assigned_fold()
    if assigned is not None:
        train_fold(*assigned)
        return
    session = _resumed_run(options, arguments) if options.resume else _new_run(options, arguments)
    run = session.run
    if session.first:
        logger.info("Run folder: %s", run.path)
    for fold in session.folds:
        if not run.is_finished(fold):
            train_fold(run, fold)
        if session.first and run.record()["oof"] and not run.oof_csv(fold).is_file():
            write_table(predict_held_out(run, fold).table, run.oof_csv(fold))
    if session.first:
        _finish(run, session.task, session.id_columns)


def train_fold(run: Run, fold: int) -> None:
    """Trains one fold, from its last checkpoint if there is one, and marks it as finished."""
    with helpers_for(run, fold):
        cli = FitCLI(run, fold)
        folds = read_folds(run.folds_csv, cli.datamodule.photo_ids())
        cli.datamodule.use_fold(fold, folds)
        held_out = int((folds == fold).sum())
        if cli.trainer.is_global_zero:
            logger.info("Fold %d: %d training photos, %d held out", fold, len(folds) - held_out, held_out)
        last = run.last_checkpoint(fold)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        try:
            cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=last if last.is_file() else None, weights_only=True)
        except SystemExit:
            if cli.trainer.interrupted:  # Lightning ends the process when Ctrl-C is pressed
                raise KeyboardInterrupt from None
            raise
        if cli.trainer.is_global_zero:
            run.finish_fold(fold, _fold_record(run, fold, cli.model.monitor))
    del cli
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _finish(run: Run, task: type[BaseTask], id_columns: Sequence[str]) -> None:
    """Pools the folds, draws the pictures and closes the record, once all folds are there."""
    missing = [str(fold) for fold in run.asked_folds() if not run.is_finished(fold)]
    if missing:
        logger.info("Not finished yet: fold %s. When they are: biomass predict --run %s", ", ".join(missing), run.path)
        return
    epochs = {fold: pd.read_csv(run.metrics_csv(fold)) for fold in run.asked_folds()}
    draw_learning_curves(epochs, run.path / "learning_curves.png", score=task.monitor)
    if run.record()["oof"]:
        # In a shared run, folds of other jobs may have been trained without being predicted.
        for fold in run.asked_folds():
            if not run.oof_csv(fold).is_file():
                write_table(predict_held_out(run, fold).table, run.oof_csv(fold))
        tables = [read_predictions(run.oof_csv(fold), id_columns) for fold in run.asked_folds()]
        report_out_of_fold(run.path, task.report, pd.concat(tables, ignore_index=True), run.oof_predictions)
    run.update_record(status="complete")


@dataclass(frozen=True, kw_only=True)
class _Session:
    """What one call of `biomass fit` works on.

    Args:
        run: The run.
        folds: Folds to train in it.
        task: What they train.
        id_columns: Columns that name a photo.
        first: Whether this process is the first of those that train together.
    """

    run: Run
    folds: list[int]
    task: type[BaseTask]
    id_columns: tuple[str, ...]
    first: bool


def _new_run(options: FitOptions, arguments: Sequence[str]) -> _Session:
    """Checks everything that can be checked before training, then makes or joins the run folder."""
    cli = RunCLI(arguments)
    cli.datamodule.check()
    folds = cli.datamodule.make_folds()
    asked = _asked_folds(options, folds)
    _check_together(cli, folds, asked)
    cli.model.configure_model()
    if cli.datamodule.banked is not None:
        check_bank(cli.model, cli.datamodule)
    # A shared run is complete when all folds are, whichever job trains them.
    start = RunStart(
        name=options.name or config_name(arguments),
        folds=_asked_folds(FitOptions(), folds) if options.run is not None else asked,
        command=sys.argv,
        fingerprint=_fingerprint(cli.datamodule.labels(), folds),
        oof=options.oof,
        files={
            FOLDS_CSV: folds.reset_index().to_csv(index=False),
            **{f"{Run(Path()).config(fold)}": cli.config_text() for fold in asked},
        },
    )
    logs = Path(cli.config.trainer.default_root_dir or ".") / LOGS
    make = partial(join_run, options.run, start) if options.run is not None else partial(create_run, logs, start)
    run = made_once(cli.trainer, make)
    return _session(run, asked, cli)


def _check_together(cli: RunCLI, folds: pd.Series, asked: list[int]) -> None:
    """Refuses combinations of settings that no single section can see.

    Raises:
        ConfigError: There is one.
    """
    freezes = [callback for callback in cli.configured_callbacks() if isinstance(callback, BackboneFreeze)]
    for freeze in freezes:
        freeze.check(cli.trainer)
    if cli.datamodule.banked is not None and not freezes:
        raise ConfigError(
            "data.bank_views keeps the features of a frozen backbone, and nothing freezes it. Add the callback "
            "BackboneFreeze, or set data.bank_views to 0."
        )
    for fold in asked:
        cli.datamodule.use_fold(fold, folds)
        cli.datamodule.check_fold()
        cli.model.check_data(cli.datamodule)


def _resumed_run(options: FitOptions, arguments: Sequence[str]) -> _Session:
    if arguments:
        raise RunError(
            f"--resume goes on with the run's own settings and takes no others ({' '.join(arguments)}). "
            "Leave them out, or start a new run."
        )
    run = find_run(Path(LOGS), options.run, unfinished=True)
    cli = RunCLI(["--config", str(run.config(run.asked_folds()[0]))])
    labels = cli.datamodule.labels()
    folds = read_folds(run.folds_csv, cli.datamodule.photo_ids())
    if _fingerprint(labels, folds) != run.record()["data"]:
        raise RunError(
            f"The label table or the folds changed since {run.path} began. Restore them, or start a new run."
        )
    return _session(run, run.asked_folds(), cli)


def _session(run: Run, folds: list[int], cli: RunCLI) -> _Session:
    return _Session(
        run=run,
        folds=folds,
        task=type(cli.model),
        id_columns=cli.datamodule.id_columns,
        first=cli.trainer.is_global_zero,
    )


def _asked_folds(options: FitOptions, folds: pd.Series) -> list[int]:
    known = sorted(int(fold) for fold in folds.unique())
    asked = known if options.folds is None else sorted(set(options.folds))
    unknown = [str(fold) for fold in asked if fold not in known]
    if unknown:
        raise FoldError(f"There is no fold {', '.join(unknown)}; choose --folds among {known[0]} to {known[-1]}.")
    return asked


def _fingerprint(labels: pd.DataFrame, folds: pd.Series) -> dict[str, str]:
    tables = {"labels": labels, "folds": folds.reset_index()}
    return {name: hashlib.sha256(table.to_csv(index=False).encode()).hexdigest() for name, table in tables.items()}


def _fold_record(run: Run, fold: int, monitor: str) -> dict[str, Any]:
    best = torch.load(run.best_checkpoint(fold), map_location="cpu", weights_only=True, mmap=True)
    epochs = pd.read_csv(run.metrics_csv(fold)).set_index("epoch")
    # Linux counts the resident memory of this process in KiB, macOS in bytes.
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "best_epoch": best["epoch"],
        monitor: float(epochs.loc[best["epoch"], monitor]),
        "epochs": len(epochs),
        "seconds": round(float(epochs["seconds"].sum()), 1),
        "peak_memory_bytes": resident,
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
    }
