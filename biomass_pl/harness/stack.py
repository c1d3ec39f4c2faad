"""`biomass stack`: gradient boosting on what a run left and on the tables, over the folds of the run."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from biomass_pl.data.base import FoldDataModule, TableFeatures
from biomass_pl.errors import ConfigError, RunError
from biomass_pl.evaluation.embeddings import Embeddings
from biomass_pl.evaluation.pictures import draw_importance
from biomass_pl.evaluation.stacking import StackConfig, StackResult, image_score_features, stack
from biomass_pl.files import write_table
from biomass_pl.harness.predict import PredictCLI, beside, finished_folds, read_predictions, report_out_of_fold
from biomass_pl.runs import LOGS, Run, find_run
from biomass_pl.training.task import BaseTask

logger = logging.getLogger(__name__)

Source = Literal["tabular", "predictions", "embeddings"]


@dataclass(frozen=True, kw_only=True)
class StackOptions(StackConfig):
    """What `biomass stack` takes.

    Args:
        run: Run folder; none takes the newest.
        features: What is learned from; none takes the tables, where they tell something, and the predictions.
        columns: Columns of the tables; none takes all that are in both.
        out: Folder for the results; none takes `stack_<features>` in the run folder.
    """

    run: Path | None = None
    features: list[Source] | None = None
    columns: list[str] | None = None
    out: Path | None = None


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """Rows that belong together by position.

    Args:
        names: Names of the photos.
        features: Their columns.
        embeddings: Their embeddings, where these are learned from.
    """

    names: pd.Series
    features: pd.DataFrame
    embeddings: np.ndarray | None


def run_stack(options: StackOptions, overrides: Sequence[str] = ()) -> None:
    """Fits boosters over the folds of a run, writes and scores their out-of-fold table, predicts the test photos.

    Args:
        options: What to learn from, what is fitted, and where the results go.
        overrides: Settings of Lightning's form that differ from the run's, such as where the data lie.

    Raises:
        BiomassError: Something the user can mend; nothing was written.
    """
    run = find_run(Path(LOGS), options.run)
    if {"--config", "-c"} & set(overrides):
        raise ConfigError("biomass stack uses the run's own configuration. Leave --config out, or give --run.")
    if options.out is not None and options.out.resolve() == run.path.resolve():
        raise ConfigError(f"--out {options.out} holds the run's own predictions. Name another folder.")
    # Nothing here needs the device that the run was trained on.
    cli = PredictCLI(
        run, finished_folds(run)[0], ["--trainer.accelerator=cpu", "--trainer.precision=32-true", *overrides]
    )
    task, data = type(cli.model), cli.datamodule
    table = read_predictions(run.oof_predictions, data.id_columns)
    if options.columns is not None and options.features is not None and "tabular" not in options.features:
        raise ConfigError("--columns chooses columns of tables. Add tabular to --features, or leave it out.")
    tables = data.table_features(options.columns)
    if tables is None and options.columns is not None:
        raise ConfigError("--columns chooses columns of tables, which these data do not have. Leave it out.")
    features = options.features or (["predictions"] if tables is None else ["tabular", "predictions"])
    labelled = _inputs(run.oof_predictions, table, features, tables, task, data)
    test = None
    if tables is None or tables.test is not None:
        test = _test_inputs(run, features, tables, task, data)
    logger.info("Learning from %s: %s", run.path, " and ".join(features))
    result = stack(
        features=labelled.features,
        embeddings=labelled.embeddings,
        targets=table[list(task.targets)],
        folds=table["fold"].to_numpy(),
        kind=task.kind,
        config=options,
        test_features=test.features if test else None,
        test_embeddings=test.embeddings if test else None,
    )
    folder = options.out or run.path / f"stack_{'_'.join(features)}"
    _write(folder, run, table, result, task, data, test)


def _inputs(
    predictions: Path,
    table: pd.DataFrame,
    features: Sequence[Source],
    tables: TableFeatures | None,
    task: type[BaseTask],
    data: FoldDataModule,
    *,
    test: bool = False,
) -> _Inputs:
    """What is learned from, in the order of a table of predictions."""
    names = table[data.id_columns[0]]
    groups = None
    columns = [pd.DataFrame(index=range(len(table)))]
    if tables is not None:
        members = tables.groups[test]
        unknown = names if members is None else names[~names.isin(members.index)]
        if members is None or len(unknown):
            raise RunError(
                f"{predictions} has {len(unknown)} photo(s) that the data no longer name, such as {unknown.iloc[0]}. "
                f"Predict again: biomass predict{' --split test' if test else ''} --run {predictions.parent}"
            )
        groups = members.loc[names].reset_index(drop=True)
    if "tabular" in features:
        if tables is None:
            raise ConfigError("These data have no tables to learn from. Leave 'tabular' out of --features.")
        found = tables.test if test and tables.test is not None else tables.labelled
        columns.append(found.loc[names].reset_index(drop=True))
    if "predictions" in features:
        scores = table[[f"{target}_pred" for target in task.targets]].reset_index(drop=True)
        columns.append(image_score_features(scores, groups, kind=task.kind))
    embeddings = None
    if "embeddings" in features:
        path = beside(predictions, "embeddings", ".npz")
        if not path.is_file():
            split = " --split test" if test else ""
            raise RunError(f"{path} does not exist. Make it first: biomass predict{split} --run {predictions.parent}")
        embeddings = Embeddings.read(path).in_order(names).values
    return _Inputs(names=names, features=pd.concat(columns, axis=1), embeddings=embeddings)


def _test_inputs(
    run: Run,
    features: Sequence[Source],
    tables: TableFeatures | None,
    task: type[BaseTask],
    data: FoldDataModule,
) -> _Inputs | None:
    """The same for the test photos; none where they were not predicted, although that is learned from."""
    if run.test_predictions.is_file():
        table = read_predictions(run.test_predictions, data.id_columns)
    elif set(features) == {"tabular"} and tables is not None and tables.test is not None:
        table = pd.DataFrame({data.id_columns[0]: tables.test.index})
    else:
        logger.warning(
            "The test photos are left out: %s does not exist. Make it first: biomass predict --split test --run %s",
            run.test_predictions,
            run.path,
        )
        return None
    return _inputs(run.test_predictions, table, features, tables, task, data, test=True)


def _write(
    folder: Path,
    run: Run,
    table: pd.DataFrame,
    result: StackResult,
    task: type[BaseTask],
    data: FoldDataModule,
    test: _Inputs | None,
) -> None:
    columns = [f"{target}_pred" for target in task.targets]
    predicted = table.assign(**dict(zip(columns, result.predictions.T, strict=True)))
    tested = None
    if test is not None and result.test_predictions is not None:
        rows = pd.DataFrame(result.test_predictions, columns=columns)
        rows.insert(0, data.id_columns[0], test.names.to_numpy())
        predictions = task.report.rounded(rows)
        # Checked against the competition's sample before anything is written.
        tested = predictions, task.report.submission(predictions, data.root / "sample_submission.csv")
    write_table(result.importance, folder / "importance.csv")
    draw_importance(result.importance, folder / "importance.png")
    report_out_of_fold(folder, task.report, task.report.rounded(predicted), folder / run.oof_predictions.name)
    if tested is not None:
        predictions, submission = tested
        write_table(predictions, folder / run.test_predictions.name)
        write_table(submission, folder / "submission.csv")
        logger.info("Test photos: %s", folder / "submission.csv")
