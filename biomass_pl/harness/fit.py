"""`biomass fit`: every fold, its out-of-fold predictions, the pooled score."""

import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pandas as pd
import yaml
from lightning.pytorch import Callback

from biomass_pl.data.base import FoldDataModule
from biomass_pl.data.splits import Split, fold_numbers
from biomass_pl.errors import RunError
from biomass_pl.evaluation.pictures import draw_learning_curves
from biomass_pl.harness.before_training import Folds, check_data, check_feature_bank, check_settings
from biomass_pl.harness.fold import train_fold
from biomass_pl.harness.interrupts import passing_on_interrupts
from biomass_pl.harness.out_of_fold import read_pooled, report_scores, write_fold
from biomass_pl.harness.parser import RunCLI
from biomass_pl.harness.predictor import fingerprint, predict_labelled
from biomass_pl.harness.processes import assigned_fold, made_once
from biomass_pl.harness.recipes import recipe_name, texts
from biomass_pl.harness.resume import unfinished_run
from biomass_pl.harness.trainer_settings import check_trainer
from biomass_pl.new_runs import RunStart, check_run_name, create_run, join_run, settings_digest
from biomass_pl.runs import FOLDS_CSV, LOGS, Run
from biomass_pl.terminal import logging_to, say
from biomass_pl.training.callbacks.remote_sync import RemoteSync
from biomass_pl.training.image_task import ImageTask
from biomass_pl.training.task import Task

logger = logging.getLogger(__name__)

_RESUME_TAKES = ("--data.root", "--data.features", "--trainer.default_root_dir")
"""Settings that may be another when a run goes on: where things lie."""


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What `biomass fit` takes beside Lightning's settings.

    Args:
        folds: Folds to train; none trains all.
        name: Name of the run; none takes the configuration's.
        oof: Whether to predict the held-out photos at the end; none: yes, or as the resumed run began.
        resume: Whether to go on with an unfinished run.
        run: The run to resume, none being the newest unfinished one; or the folder that a new run is put into,
            none being the next version of its name.
        trust: Classes of one's own that the configuration of a resumed run may name.
    """

    folds: list[int] | None = None
    name: str | None = None
    oof: bool | None = None
    resume: bool = False
    run: Path | None = None
    trust: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class _Session:
    """What one call of `biomass fit` works on.

    Args:
        run: The run.
        folds: Folds to train in it.
        task: What they train; of a network of its own only what all folds share is asked.
        data: Their data.
        callbacks: Those of the configuration, apart from any training.
        first: Whether this process is the first of those that train together.
        origin: What the networks start from, in a few words; none where it is not told, or was when the run began.
        overrides: Settings that differ from the run's own.
        trusted: Classes and paths that the run's configuration may name beside ours, Lightning's and its own.
    """

    run: Run
    folds: list[int]
    task: Task
    data: FoldDataModule
    callbacks: list[Callback]
    first: bool
    origin: str | None = None
    overrides: tuple[str, ...] = ()
    trusted: frozenset[str] = frozenset()


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
        train_fold(*assigned, overrides=arguments if options.resume else ())
        return
    if options.resume:
        _train(_resumed_run(options, arguments))
        return
    cli = RunCLI(arguments)
    if cli.config.trainer.fast_dev_run:
        _try_out(cli, options)
    else:
        _train(_new_run(cli, options, arguments))


def _train(session: _Session) -> None:
    """Trains what is to be trained, predicts it, and closes the run once all folds are there."""
    run = session.run
    with logging_to(run.log) if session.first else nullcontext():
        if session.first:
            if session.origin is not None:
                logger.info("Starts from %s", session.origin)
            logger.info("Run folder: %s", run.path)
            if session.data.given is not None:
                session.data.given.tell()
        for fold in session.folds:
            with run.training(fold) if session.first else nullcontext():
                if not run.is_finished(fold):
                    train_fold(run, fold, session.overrides)
                if session.first and run.record()["oof"]:
                    _predict_fold(session, fold)
        if session.first:
            _finish(session)


def _predict_fold(session: _Session, fold: int) -> None:
    """Writes what the best and the last epoch's weights predict of the held-out items, unless it is there."""
    run = session.run
    if run.oof_csv(fold).is_file() and run.oof_last_csv(fold).is_file():
        return
    report = session.task.report
    best, last = predict_labelled(
        run, fold, session.overrides, arrays=True, weights=("best", "last"), trusted=session.trusted, illustrate=True
    )
    id_column = session.data.id_columns[0]
    write_fold(last, run.oof_last_csv(fold), id_column, report)
    write_fold(best, run.oof_csv(fold), id_column, report)


def _finish(session: _Session) -> None:
    """Pools the folds, draws the pictures and closes the record, once all folds are there."""
    run, report, id_columns = session.run, session.task.report, session.data.id_columns
    missing = [str(fold) for fold in run.asked_folds() if not run.is_finished(fold)]
    if missing:
        logger.info("Not finished yet: fold %s. When they are: biomass predict --run %s", ", ".join(missing), run.path)
        _copy_elsewhere(session)
        return
    epochs = {fold: pd.read_csv(run.metrics_csv(fold)) for fold in run.asked_folds()}
    draw_learning_curves(epochs, run.path / "learning_curves.png", score=session.task.objective.name)
    if run.record()["oof"]:
        # In a shared run, folds of other jobs may have been trained without being predicted.
        for fold in run.asked_folds():
            _predict_fold(session, fold)
        report_scores(
            run.path,
            report,
            read_pooled([run.oof_csv(fold) for fold in run.asked_folds()], id_columns, report),
            run.oof_predictions,
            data=session.data,
            last=read_pooled([run.oof_last_csv(fold) for fold in run.asked_folds()], id_columns, report),
        )
    _copy_elsewhere(session)
    run.update_record(status="complete")
    try:
        _copy_elsewhere(session)  # that it is complete
    except BaseException:
        run.update_record(status="running")  # a complete run could not go on to copy the rest
        raise


def _copy_elsewhere(session: _Session) -> None:
    """Has the callbacks that keep a copy of the run at another place copy what was made since the last training."""
    for callback in session.callbacks:
        if isinstance(callback, RemoteSync):
            callback.copy_run(session.run.path)


def _try_out(cli: RunCLI, options: FitOptions) -> None:
    """Trains and validates a few batches of one fold, as `trainer.fast_dev_run` asks, and writes nothing."""
    folds = _checked_folds(cli, options)
    cli.datamodule.use(Split(fold=folds.asked[0], folds=folds.assigned))
    with passing_on_interrupts():
        cli.trainer.fit(cli.model, cli.datamodule)
    say(f"fast_dev_run: fold {folds.asked[0]} trained and validated on a few batches; nothing was written")


def _checked_folds(cli: RunCLI, options: FitOptions) -> Folds:
    """Makes the folds, once everything that can be checked before training was checked."""
    folds = cast("Folds", check_data(cli, options.folds))  # none only where the checks go on after a fault
    check_settings(cli, folds)
    return folds


def _new_run(cli: RunCLI, options: FitOptions, arguments: Sequence[str]) -> _Session:
    """Checks everything that can be checked before training, then makes or joins the run folder."""
    check_run_name(options.name or recipe_name(arguments))
    check_trainer(cli.config.trainer)
    folds = _checked_folds(cli, options)
    check_feature_bank(cli)
    text = cli.config_text()
    # A shared run is complete when all folds are, whichever job trains them.
    start = RunStart(
        name=options.name or recipe_name(arguments),
        folds=fold_numbers(folds.assigned) if options.run is not None else folds.asked,
        command=sys.argv,
        fingerprint=fingerprint(cli.datamodule, folds.assigned),
        settings=settings_digest(yaml.safe_load(text)),
        oof=options.oof is not False,
        aspect_ratios=cli.datamodule.aspect_ratios(),
        files={FOLDS_CSV: folds.assigned.reset_index().to_csv(index=False)},
        configurations=dict.fromkeys(folds.asked, text),
    )
    logs = Path(cli.config.trainer.default_root_dir or ".") / LOGS
    make = partial(join_run, options.run, start) if options.run is not None else partial(create_run, logs, start)
    run = made_once(cli.trainer, make)
    origin = cli.model.origin() if isinstance(cli.model, ImageTask) else None
    # The recipe is the user's own: what it names may run, and be written to.
    return _session(run, folds.asked, cli, origin=origin, trusted=frozenset(texts(yaml.safe_load(text))))


def _resumed_run(options: FitOptions, arguments: Sequence[str]) -> _Session:
    _refuse_on_resume(options, arguments)
    run, cli = unfinished_run(options.run, arguments, trusted=options.trust)
    return _session(run, run.asked_folds(), cli, overrides=tuple(arguments), trusted=frozenset(options.trust))


def _refuse_on_resume(options: FitOptions, arguments: Sequence[str]) -> None:
    given = [
        flag
        for flag, value in (("--folds", options.folds), ("--name", options.name), ("--oof", options.oof))
        if value is not None
    ]
    given += [argument for argument in arguments if argument.startswith("-") and not _says_where(argument)]
    if given:
        raise RunError(
            f"--resume goes on with the run's own settings and takes no others ({' '.join(given)}). "
            "Leave them out, or start a new run."
        )


def _says_where(argument: str) -> bool:
    return argument.partition("=")[0] in _RESUME_TAKES


def _session(run: Run, folds: list[int], cli: RunCLI, **more: Any) -> _Session:
    return _Session(
        run=run,
        folds=folds,
        task=cli.model,
        data=cli.datamodule,
        callbacks=cli.configured_callbacks(),
        first=cli.trainer.is_global_zero,
        **more,
    )
