"""`biomass stack`: learners on what a run left and on the tables of its data, over the folds of the run."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from biomass_pl.data.base import FoldDataModule, TableFeatures
from biomass_pl.errors import ConfigError, RunError
from biomass_pl.evaluation.embeddings import Embeddings
from biomass_pl.evaluation.image_scores import image_score_features
from biomass_pl.evaluation.report import StackColumns
from biomass_pl.harness.blend import run_blend
from biomass_pl.harness.out_of_fold import companion, read_predictions
from biomass_pl.harness.predict import finished_folds
from biomass_pl.harness.predictor import PredictCLI, require_data
from biomass_pl.harness.recipes import logs_folder, recipe_files
from biomass_pl.harness.stack_files import stack_files
from biomass_pl.harness.stack_fit import Source, StackInputs, StackOptions, fit_stack, stack_columns, write_stack
from biomass_pl.runs import Run, find_run

logger = logging.getLogger(__name__)


def run_stack(options: StackOptions, overrides: Sequence[str] = ()) -> None:
    """Fits a learner on a run or, with a recipe, on files of features, or blends runs; writes and scores predictions.

    Args:
        options: What to learn from, what is fitted, and where the results go.
        overrides: A recipe and settings of Lightning's form; without a recipe, settings that differ from the run's,
            such as where the data lie.

    Raises:
        BiomassError: Something the user can mend; nothing was written.
    """
    if options.blend is not None:
        run_blend(options, overrides)
    elif recipe_files(overrides):
        stack_files(options, overrides)
    else:
        _stack_run(options, overrides)


def _stack_run(options: StackOptions, overrides: Sequence[str]) -> None:
    """Learns over the folds of a run, and predicts the test items where the run did."""
    if options.embeddings is not None or options.name is not None:
        raise ConfigError(
            "--embeddings and --name are for a run of its own, from files of features. Add --config RECIPE, or leave "
            "them out: --features embeddings takes those of the run."
        )
    run = find_run(logs_folder(overrides), options.run, trained=True)
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
    columns = stack_columns(report, type(cli.model).__name__)
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
    result = fit_stack(labelled, test, table, columns, options, data)
    folder = options.out or run.path / f"stack_{'_'.join(features)}"
    write_stack(folder, table, result, report, columns, data, test)


def _inputs(
    predictions: Path,
    table: pd.DataFrame,
    features: Sequence[Source],
    tables: TableFeatures | None,
    columns: StackColumns,
    data: FoldDataModule,
    *,
    test: bool = False,
) -> StackInputs:
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
    embeddings = []
    if "embeddings" in features:
        path = companion(predictions, "embeddings", ".npz")
        if not path.is_file():
            split = " --split test" if test else ""
            raise RunError(f"{path} does not exist. Make it first: biomass predict{split} --run {predictions.parent}")
        embeddings = [Embeddings.read(path).in_order(names).matrix()]
    return StackInputs(names=names, features=pd.concat(parts, axis=1), embeddings=embeddings)


def _test_inputs(
    run: Run,
    features: Sequence[Source],
    tables: TableFeatures | None,
    columns: StackColumns,
    data: FoldDataModule,
) -> StackInputs | None:
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
