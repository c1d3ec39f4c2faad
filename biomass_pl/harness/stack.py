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
from biomass_pl.evaluation.report import MakesSubmission, Report, StackColumns
from biomass_pl.evaluation.stacking import StackConfig, StackResult, image_score_features, stack
from biomass_pl.files import write_table
from biomass_pl.harness.out_of_fold import companion, read_predictions, report_scores
from biomass_pl.harness.predict import finished_folds
from biomass_pl.harness.predictor import PredictCLI, Predictions, require_data
from biomass_pl.harness.recipes import logs_folder, refuse_recipe
from biomass_pl.runs import Run, find_run

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
        trust: Classes of one's own that the run's configuration may name.
    """

    run: Path | None = None
    features: list[Source] | None = None
    columns: list[str] | None = None
    out: Path | None = None
    trust: Sequence[str] = ()


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
    refuse_recipe(overrides, "stack")
    run = find_run(logs_folder(overrides), options.run)
    if options.out is not None and options.out.resolve() == run.path.resolve():
        raise ConfigError(f"--out {options.out} holds the run's own predictions. Name another folder.")
    # Nothing here needs the device that the run was trained on.
    cli = PredictCLI(
        run,
        finished_folds(run)[0],
        ["--trainer.accelerator=cpu", "--trainer.precision=32-true", *overrides],
        trusted=options.trust,
    )
    report, data = cli.model.report, cli.datamodule
    columns = report.stacking
    if columns is None:
        raise ConfigError(f"Runs of {type(cli.model).__name__} cannot be stacked: they predict no numbers to learn.")
    require_data(run, data)
    table = read_predictions(run.oof_predictions, (*data.id_columns, *report.text_columns))
    if options.columns is not None and options.features is not None and "tabular" not in options.features:
        raise ConfigError("--columns chooses columns of tables. Add tabular to --features, or leave it out.")
    tables = data.table_features(options.columns)
    if tables is None and options.columns is not None:
        raise ConfigError("--columns chooses columns of tables, which these data do not have. Leave it out.")
    features = options.features or (["predictions"] if tables is None else ["tabular", "predictions"])
    labelled = _inputs(run.oof_predictions, table, features, tables, columns, data)
    test = None
    if tables is None or tables.test is not None:
        test = _test_inputs(run, features, tables, columns, data)
    logger.info("Learning from %s: %s", run.path, " and ".join(features))
    result = stack(
        features=labelled.features,
        embeddings=labelled.embeddings,
        targets=table[list(columns.truth)],
        folds=table["fold"].to_numpy(),
        kind=columns.kind,
        config=options,
        test_features=test.features if test else None,
        test_embeddings=test.embeddings if test else None,
    )
    folder = options.out or run.path / f"stack_{'_'.join(features)}"
    _write(folder, run, table, result, report, columns, data, test)


def _inputs(
    predictions: Path,
    table: pd.DataFrame,
    features: Sequence[Source],
    tables: TableFeatures | None,
    columns: StackColumns,
    data: FoldDataModule,
    *,
    test: bool = False,
) -> _Inputs:
    """What is learned from, in the order of a table of predictions."""
    names = table[data.id_columns[0]]
    groups = None
    parts = [pd.DataFrame(index=range(len(table)))]
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
        parts.append(found.loc[names].reset_index(drop=True))
    if "predictions" in features:
        scores = table[list(columns.predicted)].reset_index(drop=True)
        parts.append(image_score_features(scores, groups, kind=columns.kind))
    embeddings = None
    if "embeddings" in features:
        path = companion(predictions, "embeddings", ".npz")
        if not path.is_file():
            split = " --split test" if test else ""
            raise RunError(f"{path} does not exist. Make it first: biomass predict{split} --run {predictions.parent}")
        embeddings = Embeddings.read(path).in_order(names).matrix()
    return _Inputs(names=names, features=pd.concat(parts, axis=1), embeddings=embeddings)


def _test_inputs(
    run: Run,
    features: Sequence[Source],
    tables: TableFeatures | None,
    columns: StackColumns,
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
    return _inputs(run.test_predictions, table, features, tables, columns, data, test=True)


def _write(
    folder: Path,
    run: Run,
    table: pd.DataFrame,
    result: StackResult,
    report: Report,
    columns: StackColumns,
    data: FoldDataModule,
    test: _Inputs | None,
) -> None:
    predicted = table.assign(**dict(zip(columns.predicted, result.predictions.T, strict=True)))
    tested = None
    if test is not None and result.test_predictions is not None:
        rows = pd.DataFrame(result.test_predictions, columns=list(columns.predicted))
        rows.insert(0, data.id_columns[0], test.names.to_numpy())
        predictions = report.finished(rows)
        # Checked against the competition's sample before anything is written.
        sample = data.root / "sample_submission.csv"
        submission = report.submission(predictions, sample) if isinstance(report, MakesSubmission) else None
        tested = predictions, submission
    write_table(result.importance, folder / "importance.csv")
    draw_importance(result.importance, folder / "importance.png")
    stacked = Predictions(table=report.finished(predicted))
    report_scores(folder, report, stacked, folder / run.oof_predictions.name, data=data)
    if tested is not None:
        predictions, submission = tested
        write_table(predictions, folder / run.test_predictions.name)
        if submission is not None:
            write_table(submission, folder / "submission.csv")
        logger.info("Test photos: %s", folder)
