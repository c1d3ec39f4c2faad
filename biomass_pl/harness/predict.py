"""`biomass predict`: held-out photos, the test table, or any photos, by the models of a run."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from lightning.pytorch import Trainer
from rich.console import Console

from biomass_pl.callbacks.feature_bank import FeatureBankFill
from biomass_pl.callbacks.oof import PredictionTable
from biomass_pl.data.folds import read_folds
from biomass_pl.data.photos import find_photos
from biomass_pl.errors import ConfigError, RunError
from biomass_pl.evaluation.pictures import draw_scatter
from biomass_pl.evaluation.postprocess import derive_dead
from biomass_pl.evaluation.score import render_scores, score_table
from biomass_pl.evaluation.submission import make_submission
from biomass_pl.files import write_json, write_table
from biomass_pl.harness.parser import RunCLI
from biomass_pl.harness.processes import on_its_own
from biomass_pl.runs import LOGS, Run, find_run

logger = logging.getLogger(__name__)

GRAM_DECIMALS = 6
"""Predicted grams are written, and scored, to the microgram."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """What `biomass predict` takes beside Lightning's settings.

    Args:
        run: Run folder; none takes the newest.
        folds: Folds whose models predict; none takes all finished ones.
        split: Held-out photos (`oof`) or the test table (`test`).
        images: Photos or folders to predict instead.
        tta: Average each photo with its left-right and top-bottom flip.
        derive_dead: Replace Dead by max(0, Total - GDM).
        out: The table to write; none chooses a name in the run folder.
    """

    run: Path | None = None
    folds: list[int] | None = None
    split: Literal["oof", "test"] = "oof"
    images: list[Path] | None = None
    tta: bool = False
    derive_dead: bool = False
    out: Path | None = None


class PredictCLI(RunCLI):
    """Makes the objects that predict with one fold of a run.

    Args:
        run: The run.
        fold: The fold.
        overrides: Settings of Lightning's form that differ from the training's.
    """

    def __init__(self, run: Run, fold: int, overrides: Sequence[str] = ()) -> None:
        # The checkpoint holds the backbone: nothing is to be fetched for it.
        own = ["--config", str(run.config(fold)), "--model.pretrained=false", "--model.backbone_weights=null"]
        alone = ["--trainer.callbacks=null", "--trainer.devices=1", "--trainer.strategy=auto", "--trainer.num_nodes=1"]
        with on_its_own():
            super().__init__([*own, *alone, *overrides], command="predict")

    def instantiate_trainer(self, **settings: Any) -> Trainer:
        """A trainer that writes nothing and collects the predictions."""
        self.predictions = PredictionTable()
        return super().instantiate_trainer(
            callbacks=[*self.configured_callbacks(), FeatureBankFill(), self.predictions],
            logger=False,
            enable_checkpointing=False,
            **settings,
        )

    def predict(self, run: Run, fold: int) -> pd.DataFrame:
        """Predicts what the data module selected, by the fold's best checkpoint.

        Returns:
            `image_id` and `<target>_pred` in grams, rounded to the microgram.
        """
        with on_its_own():
            self.trainer.predict(
                self.model,
                self.datamodule,
                ckpt_path=run.best_checkpoint(fold),
                return_predictions=False,
                weights_only=True,
            )
        return self.predictions.table().round(GRAM_DECIMALS)


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
    folds = _finished_folds(run, options.folds)
    logger.info("Run folder: %s, folds %s", run.path, ", ".join(map(str, folds)))
    if options.images:
        _predict_images(run, folds, options, arguments)
    elif options.split == "test":
        _predict_test(run, folds, options, arguments)
    else:
        _predict_out_of_fold(run, folds, options, arguments)


def predict_held_out(run: Run, fold: int, overrides: Sequence[str] = (), *, tta: bool = False) -> pd.DataFrame:
    """Predicts the held-out photos of one fold.

    Returns:
        A row per photo: `image_id`, `fold`, metadata, targets and `<target>_pred` in grams.
    """
    cli = PredictCLI(run, fold, overrides)
    labels = cli.datamodule.labels()
    folds = read_folds(run.folds_csv, labels["image_id"])
    cli.datamodule.use_fold(fold, folds)
    cli.datamodule.select("validation", flips=tta)
    predictions = cli.predict(run, fold)
    held_out = labels[labels["image_id"].isin(folds.index[folds == fold])].drop(columns="image_path")
    if sorted(predictions["image_id"]) != sorted(held_out["image_id"]):
        msg = f"fold {fold} of {run.path} predicted {len(predictions)} photos for {len(held_out)} held out"
        raise RuntimeError(msg)
    table = held_out.merge(predictions, on="image_id", validate="one_to_one")
    table.insert(1, "fold", fold)
    return table


def report_out_of_fold(run: Run, table: pd.DataFrame, path: Path) -> None:
    """Writes the pooled table and its scores, and prints them.

    Args:
        run: The run.
        table: Rows of all folds, as `predict_held_out` gives them.
        path: Where the table goes; the scores go beside it.
    """
    scores = score_table(table)
    metrics = path.with_name(f"{path.stem.replace('predictions', 'metrics')}.json")
    if metrics.stem == path.stem:
        metrics = path.with_name(f"{path.stem}_metrics.json")
    write_table(table, path)
    write_json(scores, metrics)
    draw_scatter(table, path.with_suffix(".png"))
    console = Console()
    console.print(render_scores(scores, title=f"Out-of-fold scores of {run.path}"))
    console.print(f"{path}\n{path.with_suffix('.png')}\n{metrics}", soft_wrap=True, highlight=False)


def _finished_folds(run: Run, asked: list[int] | None) -> list[int]:
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
    PredictCLI(run, folds[0], overrides).datamodule.check()
    tables = [predict_held_out(run, fold, overrides, tta=options.tta) for fold in folds]
    table = _finished(pd.concat(tables, ignore_index=True), options)
    choices = ["tta"] * options.tta + ["derive_dead"] * options.derive_dead
    if options.folds:
        choices += ["folds", *map(str, folds)]
    path = options.out or run.oof_predictions.with_stem("_".join([run.oof_predictions.stem, *choices]))
    report_out_of_fold(run, table, path)


def _predict_test(run: Run, folds: list[int], options: PredictOptions, overrides: Sequence[str]) -> None:
    table, root = _mean_of_folds(run, folds, options, overrides)
    submission = make_submission(table, root / "sample_submission.csv")
    _write(submission, options.out or run.path / "submission.csv", photos=len(table), folds=len(folds))


def _predict_images(run: Run, folds: list[int], options: PredictOptions, overrides: Sequence[str]) -> None:
    table, _ = _mean_of_folds(run, folds, options, overrides, images=find_photos(options.images or []))
    _write(table, options.out or run.path / "image_predictions.csv", photos=len(table), folds=len(folds))


def _mean_of_folds(
    run: Run, folds: list[int], options: PredictOptions, overrides: Sequence[str], images: Sequence[Path] = ()
) -> tuple[pd.DataFrame, Path]:
    """Mean predictions of unlabelled photos, the test table's without `images`; and the data folder."""
    tables = []
    for fold in folds:
        cli = PredictCLI(run, fold, overrides)
        cli.datamodule.select("images" if images else "test", images=images, flips=options.tta)
        if fold == folds[0]:
            cli.datamodule.check_selected()
        tables.append(cli.predict(run, fold))
    mean = pd.concat(tables).groupby("image_id", sort=False).mean().reset_index()
    return _finished(mean, options), cli.datamodule.root


def _finished(table: pd.DataFrame, options: PredictOptions) -> pd.DataFrame:
    """Applies what is done to grams after the network."""
    return (derive_dead(table) if options.derive_dead else table).round(GRAM_DECIMALS)


def _write(table: pd.DataFrame, path: Path, *, photos: int, folds: int) -> None:
    write_table(table, path)
    Console().print(f"{photos} photo(s), mean of {folds} fold(s): {path}", soft_wrap=True, highlight=False)
