"""`biomass predict`: held-out items, the test table, or any files, by the models of a run."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from biomass_pl.data.base import Source
from biomass_pl.data.photo_shapes import warn_of_shapes
from biomass_pl.data.photos import find_photos
from biomass_pl.data.splits import read_folds
from biomass_pl.errors import ConfigError, DataError, RunError, listed
from biomass_pl.evaluation.embeddings import Embeddings
from biomass_pl.evaluation.maps import MAP
from biomass_pl.evaluation.report import MakesSubmission
from biomass_pl.files import require_writable, write_table
from biomass_pl.harness.maps import require_maps, write_maps
from biomass_pl.harness.out_of_fold import companion, read_pooled, report_scores
from biomass_pl.harness.predictor import (
    LabelledSource,
    PredictCLI,
    Predictions,
    fingerprint,
    predict_labelled,
    require_data,
)
from biomass_pl.harness.recipes import logs_folder, refuse_recipe
from biomass_pl.runs import Run, find_run
from biomass_pl.systems import PredictionStep, resolved, system_of
from biomass_pl.terminal import say
from biomass_pl.training.callbacks.predictions import mean_rows

logger = logging.getLogger(__name__)

_SAME_PREDICTIONS = ("--trainer.", "--data.num_workers", "--data.batch_size", "--data.prefetch_factor")
"""Settings that change no prediction but in its last digits."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """What `biomass predict` takes beside Lightning's settings.

    Args:
        run: Run folder; none takes the newest.
        folds: Folds whose models predict; none takes all finished ones.
        split: Held-out items (`oof`) or the test table (`test`).
        images: Photos or folders to predict instead.
        tta: Average each item over its views, such as the flips of a photo.
        skip_broken: Leave out what cannot be read, with the reason in a column `error`.
        steps: What is done to the predictions afterwards.
        out: The table to write; none chooses a name in the run folder.
        maps: Folder for a map of every photo; none makes none.
        trust: Classes of one's own that the run's configuration may name.
    """

    run: Path | None = None
    folds: list[int] | None = None
    split: Literal["oof", "test"] = "oof"
    images: list[Path] | None = None
    tta: bool = False
    skip_broken: bool = False
    steps: Sequence[PredictionStep] = ()
    out: Path | None = None
    maps: Path | None = None
    trust: Sequence[str] = ()


def predict(options: PredictOptions, arguments: Sequence[str]) -> None:
    """Predicts with the folds of a run and writes a table.

    Args:
        options: The command's own options.
        arguments: Settings of Lightning's form that differ from the training's.

    Raises:
        BiomassError: Something the user can mend; nothing was written.
    """
    refuse_recipe(arguments, "predict")
    if options.images and options.split == "test":
        raise ConfigError("--images and --split test name different photos. Give one of them.")
    if options.skip_broken and not options.images:
        raise ConfigError("--skip_broken leaves out photos given with --images. Leave it out, or give --images.")
    if options.out is not None and options.out.suffix.lower() != ".csv":
        raise ConfigError(f"--out {options.out} is to be a table. Give a name that ends in .csv.")
    run = find_run(logs_folder(arguments), options.run, trained=True)
    if run.learner is not None:
        raise RunError(
            f"{run.path} holds predictions of biomass stack ({run.learner}) and no networks to predict with. "
            "Name a run of biomass fit with --run."
        )
    folds = finished_folds(run, options.folds)
    logger.info("Run folder: %s, folds %s", run.path, ", ".join(map(str, folds)))
    command = _Command(run=run, folds=folds, options=options, overrides=arguments)
    first = command.check()
    if options.images:
        command.predict_images()
        return
    require_data(run, first.datamodule)
    if options.split == "oof":
        command.score("held_out", first)
    elif first.datamodule.test_items() is not None:
        command.score("test", first)
    else:
        command.predict_test()


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


@dataclass(frozen=True, kw_only=True)
class _Mean:
    """Mean predictions of all folds.

    Args:
        table: A row per item.
        embeddings: Mean arrays of the same rows.
        maps: Mean maps of them, where asked for.
        broken: Items that were left out, with the reason.
        cli: The objects of the last fold.
    """

    table: pd.DataFrame
    embeddings: Embeddings
    maps: np.ndarray | None
    broken: dict[str, str]
    cli: PredictCLI


@dataclass(frozen=True, kw_only=True)
class _Command:
    """One call of `biomass predict`.

    Args:
        run: The run.
        folds: Folds to predict with.
        options: The command's own options.
        overrides: Settings that differ from the training's.
    """

    run: Run
    folds: list[int]
    options: PredictOptions
    overrides: Sequence[str]

    def check(self) -> PredictCLI:
        """Refuses, before anything is predicted, what the run's system does not know or what cannot be written.

        Returns:
            The objects of the first fold.

        Raises:
            ConfigError: A step that is for other systems, several views where there is one, or photos where features
                were given.
        """
        require_writable(self.options.out or self.run.path / "predictions.csv")
        cli = self._predictor(self.folds[0])
        names = [base.__name__ for base in (*type(cli.datamodule).__mro__, *type(cli.model).__mro__)]
        system = next((found for found in map(system_of, names) if found is not None), None)
        for step in self.options.steps:
            if system is None or step not in system.prediction_steps:
                raise ConfigError(f"--{step.name} is not for this run: it is to {step.help}. Leave it out.")
        if cli.datamodule.given is not None and (self.options.images or self.options.tta):
            raise ConfigError(
                f"This run learned from the features in {cli.datamodule.given.file.path} and has no network to look at "
                "photos with. Leave --images and --tta out; --data.features names another file."
            )
        if self.options.tta and cli.datamodule.views == ("plain",):
            raise ConfigError("--tta averages several views of an item; the data of this run have one. Leave it out.")
        if self.options.maps is not None:
            require_maps(cli.model, self.options.maps, several_views=self.options.tta)
        return cli

    def score(self, source: LabelledSource, first: PredictCLI) -> None:
        """Predicts items whose truth is known, and scores them.

        The rows of all folds stand one after another, those of test items too, which every fold predicts: each is a
        model of its own, and neither texts nor embeddings of different models have a mean.
        """
        first.datamodule.check()
        report, id_columns = first.model.report, first.datamodule.id_columns
        own, items = (
            (self.run.oof_predictions, "Out-of-fold") if source == "held_out" else (self.run.test_predictions, "Test")
        )
        path = self.options.out or self._own_name(own, self._differences(first))
        last = None
        if path == self.run.oof_predictions and all(self.run.oof_last_csv(fold).is_file() for fold in self.folds):
            last = read_pooled([self.run.oof_last_csv(fold) for fold in self.folds], id_columns, report)
        predicted = partial(
            predict_labelled,
            source=source,
            flips=self.options.tta,
            arrays=True,
            maps=self.options.maps is not None,
            trusted=self.options.trust,
        )
        parts = [predicted(self.run, fold, self.overrides)[0] for fold in self.folds]
        table = report.finished(self._stepped(pd.concat([part.table for part in parts], ignore_index=True)))
        arrays = {name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays}
        embeddings, maps = _without_maps(Embeddings(ids=table[id_columns[0]], arrays=arrays))
        predictions = Predictions(table=table, arrays=embeddings.arrays)
        report_scores(self.run.path, report, predictions, path, data=first.datamodule, last=last, items=items)
        _write_embeddings(embeddings, path)
        self._write_maps(maps, table[id_columns[0]], first, source)

    def predict_test(self) -> None:
        """Predicts unlabelled test items by the mean of the folds, and makes a submission where the system has one."""
        mean = self._mean_of_folds("test")
        report, root = mean.cli.model.report, mean.cli.datamodule.root
        differences = self._differences(mean.cli)
        predictions = self._own_name(self.run.test_predictions, differences)
        if isinstance(report, MakesSubmission):
            if self.options.out is not None:
                predictions = companion(self.options.out, "predictions", ".csv")
            submission = report.submission(mean.table, root / "sample_submission.csv")
            path = self.options.out or self._own_name(self.run.path / "submission.csv", differences)
            self._write(submission, path, len(mean.table))
            write_table(mean.table, predictions)
        else:
            predictions = self.options.out or predictions
            self._write(mean.table, predictions, len(mean.table))
        _write_embeddings(mean.embeddings, predictions)
        self._write_maps(mean.maps, mean.embeddings.ids, mean.cli, "test")

    def predict_images(self) -> None:
        """Predicts any photos by the mean of the folds."""
        photos = find_photos(self.options.images or [])
        mean = self._mean_of_folds("files", photos)
        warn_of_shapes([photo for photo in photos if str(photo) not in mean.broken], self.run.aspect_ratios())
        table = mean.table
        if self.options.skip_broken:
            id_column = mean.cli.datamodule.id_columns[0]
            broken = pd.DataFrame({id_column: list(mean.broken), "error": list(mean.broken.values())})
            table = pd.concat([table.assign(error=""), broken], ignore_index=True)
        self._write(table, self.options.out or self.run.path / "image_predictions.csv", len(mean.table))
        self._write_maps(mean.maps, mean.embeddings.ids, mean.cli, "files")

    def _predictor(self, fold: int, *, arrays: bool = False) -> PredictCLI:
        maps = self.options.maps is not None
        return PredictCLI(self.run, fold, self.overrides, arrays=arrays, maps=maps, trusted=self.options.trust)

    def _mean_of_folds(self, source: Source, files: Sequence[Path] = ()) -> _Mean:
        """Mean predictions of unlabelled items.

        Each fold has a network of its own: the mean of their arrays is only about where each would put an item.
        """
        parts, broken = [], {}
        for fold in self.folds:
            cli = self._predictor(fold, arrays=True)
            data = cli.datamodule
            data.select(source, files=files, views=data.views if self.options.tta else ("plain",))
            if fold == self.folds[0]:
                broken = data.broken_items()
                self._tell_of(broken, len(files))
            data.leave_out(broken)
            parts.append(cli.predict())
        id_column = data.id_columns[0]
        mean = mean_rows(pd.concat([part.table for part in parts]), id_column)
        table = cli.model.report.finished(self._stepped(mean))
        of_folds = [Embeddings(ids=part.table[id_column], arrays=part.arrays) for part in parts]
        embeddings, maps = _without_maps(Embeddings.mean(of_folds))
        return _Mean(table=table, embeddings=embeddings, maps=maps, broken=broken, cli=cli)

    def _tell_of(self, broken: dict[str, str], count: int) -> None:
        """Refuses items that cannot be read, or warns of those that are left out."""
        if not broken:
            return
        problems = [reason if name in reason else f"{name}: {reason}" for name, reason in broken.items()]
        if not self.options.skip_broken:
            remedy = "replace them, or leave them out with --skip_broken" if self.options.images else "replace them"
            raise DataError(f"{len(broken)} photo(s) cannot be used; {remedy}:\n{listed(problems, 50)}")
        if len(broken) == count:
            raise DataError(f"None of the {count} photo(s) can be used:\n{listed(problems)}")
        logger.warning("%d of %d photo(s) cannot be used and are left out:\n%s", len(broken), count, listed(problems))

    def _stepped(self, table: pd.DataFrame) -> pd.DataFrame:
        """Applies what is done to predictions after the network."""
        for step in self.options.steps:
            table = resolved(step.apply)(table)
        return table

    def _differences(self, cli: PredictCLI) -> list[str]:
        """What tells these predictions from the run's own, which others rely on; empty for those."""
        found = ["tta"] * self.options.tta + [step.name for step in self.options.steps]
        if self.folds != self.run.asked_folds() and (self.options.folds or self.options.split == "test"):
            found += ["folds", *map(str, self.folds)]
        settings = [argument for argument in self.overrides if argument.startswith("-")]
        changes = [setting for setting in settings if not setting.startswith(_SAME_PREDICTIONS)]
        moved = self.options.split == "oof" and all(change.startswith("--data.root") for change in changes)
        if changes and not (moved and self._has_the_data_of_the_run(cli)):
            found.append("changed")
        return found

    def _has_the_data_of_the_run(self, cli: PredictCLI) -> bool:
        """Whether another data folder holds what the run was trained on, to the last byte."""
        data = cli.datamodule
        return bool(fingerprint(data, read_folds(self.run.folds_csv, data.names())) == self.run.record()["data"])

    def _own_name(self, path: Path, differences: Sequence[str]) -> Path:
        return path.with_stem("_".join([path.stem, *differences]))

    def _write_maps(self, maps: np.ndarray | None, names: pd.Series, cli: PredictCLI, source: Source) -> None:
        if maps is not None and self.options.maps is not None:
            write_maps(maps, names.tolist(), cli.datamodule, source, cli.model, self.options.maps)

    def _write(self, table: pd.DataFrame, path: Path, photos: int) -> None:
        write_table(table, path)
        say(f"{photos} photo(s), mean of {len(self.folds)} fold(s): {path}")


def _without_maps(arrays: Embeddings) -> tuple[Embeddings, np.ndarray | None]:
    """The arrays that are embeddings, and the maps where there are some."""
    others = {name: array for name, array in arrays.arrays.items() if name != MAP}
    return Embeddings(ids=arrays.ids, arrays=others), arrays.arrays.get(MAP)


def _write_embeddings(embeddings: Embeddings, predictions: Path) -> None:
    path = companion(predictions, "embeddings", ".npz")
    embeddings.write(path)
    say(str(path))
