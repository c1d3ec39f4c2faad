"""`biomass predict`: held-out photos, the test table, or any photos, by the models of a run."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from lightning.pytorch import Trainer
from rich.console import Console

from biomass_pl.data.photos import find_photos
from biomass_pl.data.splits import read_folds
from biomass_pl.errors import ConfigError, RunError
from biomass_pl.evaluation.embeddings import Embeddings
from biomass_pl.evaluation.report import Report
from biomass_pl.files import write_json, write_table
from biomass_pl.harness.parser import RunCLI
from biomass_pl.harness.processes import on_its_own
from biomass_pl.pasture.postprocess import derive_dead
from biomass_pl.runs import LOGS, Run, find_run
from biomass_pl.training.callbacks.feature_bank import FeatureBankFill
from biomass_pl.training.callbacks.oof import PredictionTable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """What `biomass predict` takes beside Lightning's settings.

    Args:
        run: Run folder; none takes the newest.
        folds: Folds whose models predict; none takes all finished ones.
        split: Held-out photos (`oof`) or the test table (`test`).
        images: Photos or folders to predict instead.
        tta: Average each photo with its left-right and top-bottom flip.
        derive_dead: Pasture: replace Dead by max(0, Total - GDM).
        out: The table to write; none chooses a name in the run folder.
    """

    run: Path | None = None
    folds: list[int] | None = None
    split: Literal["oof", "test"] = "oof"
    images: list[Path] | None = None
    tta: bool = False
    derive_dead: bool = False
    out: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model says of photos.

    Args:
        table: A row per photo, with `<target>_pred`.
        embeddings: Of the same photos in the same order, where asked for.
    """

    table: pd.DataFrame
    embeddings: Embeddings | None = None


class PredictCLI(RunCLI):
    """Makes the objects that predict with one fold of a run.

    Args:
        run: The run.
        fold: The fold.
        overrides: Settings of Lightning's form that differ from the training's.
        embeddings: Whether to collect the embeddings of the photos as well.
    """

    def __init__(self, run: Run, fold: int, overrides: Sequence[str] = (), *, embeddings: bool = False) -> None:
        self.embeddings = embeddings
        # The checkpoint holds the backbone: nothing is to be fetched for it.
        own = ["--config", str(run.config(fold)), "--model.pretrained=false", "--model.backbone_weights=null"]
        alone = ["--trainer.callbacks=null", "--trainer.devices=1", "--trainer.strategy=auto", "--trainer.num_nodes=1"]
        with on_its_own():
            super().__init__([*own, *alone, *overrides], command="predict")

    def instantiate_trainer(self, **settings: Any) -> Trainer:
        """A trainer that writes nothing and collects the predictions."""
        self.collected = PredictionTable(id_column=self.datamodule.id_columns[0], embeddings=self.embeddings)
        return super().instantiate_trainer(
            callbacks=[*self.configured_callbacks(), FeatureBankFill(), self.collected],
            logger=False,
            enable_checkpointing=False,
            **settings,
        )

    def predict(self, run: Run, fold: int) -> Predictions:
        """Predicts what the data module selected, by the fold's best checkpoint."""
        with on_its_own():
            self.trainer.predict(
                self.model,
                self.datamodule,
                ckpt_path=run.best_checkpoint(fold),
                return_predictions=False,
                weights_only=True,
            )
        table = self.model.report.rounded(self.collected.table())
        if not self.embeddings:
            return Predictions(table=table)
        ids = table[self.datamodule.id_columns[0]]
        return Predictions(table=table, embeddings=Embeddings(ids=ids, values=self.collected.embeddings()))


def predict(options: PredictOptions, arguments: Sequence[str]) -> None:
    """Predicts with the folds of a run and writes a table.

    Args:
        options: The command's own options.
        arguments: Settings of Lightning's form that differ from the training's.

    Raises:
        BiomassError: Something the user can mend; nothing was written.
    """
    if "--config" in arguments:
        raise ConfigError("biomass predict uses the run's own configuration. Leave --config out, or give --run.")
    if options.images and options.split == "test":
        raise ConfigError("--images and --split test name different photos. Give one of them.")
    run = find_run(Path(LOGS), options.run)
    folds = finished_folds(run, options.folds)
    logger.info("Run folder: %s, folds %s", run.path, ", ".join(map(str, folds)))
    if options.images:
        _predict_images(run, folds, options, arguments)
    elif options.split == "test":
        _predict_test(run, folds, options, arguments)
    else:
        _predict_out_of_fold(run, folds, options, arguments)


def predict_held_out(
    run: Run, fold: int, overrides: Sequence[str] = (), *, tta: bool = False, embeddings: bool = False
) -> Predictions:
    """Predicts the held-out photos of one fold.

    Returns:
        A row per photo: what names it, `fold`, metadata, targets and `<target>_pred`.
    """
    cli = PredictCLI(run, fold, overrides, embeddings=embeddings)
    id_column, *others = cli.datamodule.id_columns
    labels = cli.datamodule.labels()
    folds = read_folds(run.folds_csv, cli.datamodule.photo_ids())
    cli.datamodule.use_fold(fold, folds)
    cli.datamodule.select("validation", flips=tta)
    predictions = cli.predict(run, fold)
    held_out = labels[labels[id_column].isin(folds.index[folds == fold])]
    if sorted(predictions.table[id_column]) != sorted(held_out[id_column]):
        msg = f"fold {fold} of {run.path} predicted {len(predictions.table)} photos for {len(held_out)} held out"
        raise RuntimeError(msg)
    table = held_out.merge(predictions.table, on=id_column, validate="one_to_one")
    table.insert(1 + len(others), "fold", fold)
    found = predictions.embeddings
    return Predictions(table=table, embeddings=found and found.in_order(table[id_column]))


def read_predictions(path: Path, id_columns: Sequence[str]) -> pd.DataFrame:
    """Reads a table of predictions exactly: names stay text, numbers keep their last digit.

    Raises:
        RunError: There is no such table, or it cannot be read.
    """
    try:
        return pd.read_csv(path, dtype=dict.fromkeys(id_columns, str), float_precision="round_trip")
    except (FileNotFoundError, pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        command = "biomass predict --split test" if path.name.startswith("test") else "biomass predict"
        raise RunError(f"{path} is not there or damaged. Make it: {command} --run {path.parent}") from error


def report_out_of_fold(origin: Path, report: Report, table: pd.DataFrame, path: Path) -> None:
    """Writes the pooled table and its scores, and prints them.

    Args:
        origin: Folder of the run or stack that predicted, for the title.
        report: How its predictions are scored.
        table: Rows of all folds, as `predict_held_out` gives them.
        path: Where the table goes; the scores go beside it.
    """
    scores = report.score(table)
    metrics = beside(path, "metrics", ".json")
    write_table(table, path)
    write_json(scores, metrics)
    report.draw(table, path.with_suffix(".png"))
    console = Console()
    console.print(report.render(scores, title=f"Out-of-fold scores of {origin}"))
    console.print(f"{path}\n{path.with_suffix('.png')}\n{metrics}", soft_wrap=True, highlight=False)


def beside(table: Path, what: str, suffix: str) -> Path:
    """Where something goes that belongs to a table of predictions: `oof_metrics.json` to `oof_predictions.csv`."""
    stem = table.stem.replace("predictions", what)
    return table.with_name(f"{stem if stem != table.stem else f'{stem}_{what}'}{suffix}")


def finished_folds(run: Run, asked: list[int] | None = None) -> list[int]:
    """Folds to predict with: those asked for, or all that are finished.

    Raises:
        RunError: One of them is not finished, or none is.
    """
    finished = run.finished_folds()
    if not finished:
        raise RunError(f"{run.path} has no finished fold. Finish it: biomass fit --resume {run.path}")
    missing = [str(fold) for fold in asked or [] if fold not in finished]
    if missing:
        raise RunError(
            f"{run.path} has no finished fold {', '.join(missing)}; finished: {', '.join(map(str, finished))}. "
            "Choose --folds among them."
        )
    return sorted(set(asked)) if asked else finished


def _predict_out_of_fold(run: Run, folds: list[int], options: PredictOptions, overrides: Sequence[str]) -> None:
    cli = PredictCLI(run, folds[0], overrides)
    cli.datamodule.check()
    _check(options, cli)
    report = type(cli.model).report
    parts = [predict_held_out(run, fold, overrides, tta=options.tta, embeddings=True) for fold in folds]
    table = _finished(pd.concat([part.table for part in parts], ignore_index=True), report, options)
    choices = ["tta"] * options.tta + ["derive_dead"] * options.derive_dead
    if options.folds:
        choices += ["folds", *map(str, folds)]
    path = options.out or run.oof_predictions.with_stem("_".join([run.oof_predictions.stem, *choices]))
    report_out_of_fold(run.path, report, table, path)
    _write_embeddings(Embeddings.joined([part.embeddings for part in parts if part.embeddings]), path)


def _predict_test(run: Run, folds: list[int], options: PredictOptions, overrides: Sequence[str]) -> None:
    cli = PredictCLI(run, folds[0], overrides)
    mean = _mean_of_folds(run, folds, options, overrides, embeddings=True)
    submission = type(cli.model).report.submission(mean.table, cli.datamodule.root / "sample_submission.csv")
    _write(submission, options.out or run.path / "submission.csv", photos=len(mean.table), folds=len(folds))
    if options.out is not None:
        predictions = beside(options.out, "predictions", ".csv")
    elif folds != run.asked_folds() or options.tta or options.derive_dead:
        return  # what stands for the run are plain predictions by all its folds
    else:
        predictions = run.test_predictions
    write_table(mean.table, predictions)
    if mean.embeddings is not None:
        _write_embeddings(mean.embeddings, predictions)


def _predict_images(run: Run, folds: list[int], options: PredictOptions, overrides: Sequence[str]) -> None:
    mean = _mean_of_folds(run, folds, options, overrides, images=find_photos(options.images or []))
    _write(mean.table, options.out or run.path / "image_predictions.csv", photos=len(mean.table), folds=len(folds))


def _mean_of_folds(
    run: Run,
    folds: list[int],
    options: PredictOptions,
    overrides: Sequence[str],
    *,
    images: Sequence[Path] = (),
    embeddings: bool = False,
) -> Predictions:
    """Mean predictions of unlabelled photos, the test table's without `images`.

    Each fold has a backbone of its own: the mean of their embeddings is only about where each would put a photo.
    """
    parts = []
    for fold in folds:
        cli = PredictCLI(run, fold, overrides, embeddings=embeddings)
        cli.datamodule.select("images" if images else "test", images=images, flips=options.tta)
        if fold == folds[0]:
            _check(options, cli)
            cli.datamodule.check_selected()
        parts.append(cli.predict(run, fold))
    id_column = cli.datamodule.id_columns[0]
    mean = pd.concat([part.table for part in parts]).groupby(id_column, sort=False).mean().reset_index()
    found = [part.embeddings for part in parts if part.embeddings]
    return Predictions(
        table=_finished(mean, type(cli.model).report, options), embeddings=Embeddings.mean(found) if found else None
    )


def _check(options: PredictOptions, cli: PredictCLI) -> None:
    """Refuses, before anything is predicted, what the task does not know."""
    if options.derive_dead and "Dry_Dead_g" not in cli.model.targets:
        raise ConfigError("--derive_dead is for runs that predict grams of pasture. Leave it out.")


def _finished(table: pd.DataFrame, report: Report, options: PredictOptions) -> pd.DataFrame:
    """Applies what is done to predictions after the network."""
    return report.rounded(derive_dead(table) if options.derive_dead else table)


def _write(table: pd.DataFrame, path: Path, *, photos: int, folds: int) -> None:
    write_table(table, path)
    Console().print(f"{photos} photo(s), mean of {folds} fold(s): {path}", soft_wrap=True, highlight=False)


def _write_embeddings(embeddings: Embeddings, predictions: Path) -> None:
    path = beside(predictions, "embeddings", ".npz")
    embeddings.write(path)
    Console().print(str(path), soft_wrap=True, highlight=False)
