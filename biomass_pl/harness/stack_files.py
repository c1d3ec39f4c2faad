"""`biomass stack --config RECIPE --embeddings FILE ...`: learners on files of features, in a run of their own."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import yaml

from biomass_pl.data.base import FoldDataModule
from biomass_pl.data.feature_files import read_features
from biomass_pl.data.splits import NEVER_HELD_OUT, fold_numbers
from biomass_pl.errors import ConfigError
from biomass_pl.evaluation.stacking import StackConfig
from biomass_pl.harness.parser import RunCLI
from biomass_pl.harness.predictor import ALONE, fingerprint
from biomass_pl.harness.processes import on_its_own
from biomass_pl.harness.recipes import logs_folder, recipe_name
from biomass_pl.harness.stack_fit import Source, StackInputs, StackOptions, fit_stack, stack_columns, write_stack
from biomass_pl.new_runs import RunStart, check_run_name, create_run, join_run, settings_digest
from biomass_pl.runs import FOLDS_CSV, Run
from biomass_pl.terminal import logging_to

logger = logging.getLogger(__name__)

_PLAIN = ("--trainer.logger=false", "--trainer.accelerator=cpu", "--trainer.precision=32-true")
"""Nothing here needs the device that a network would be trained on."""


def stack_files(options: StackOptions, arguments: Sequence[str]) -> None:
    """Fits a learner on files of features over the folds of a recipe; no photo is opened.

    Args:
        options: What to learn from, what is fitted, and where the results go.
        arguments: The recipe and settings of Lightning's form.

    Raises:
        BiomassError: Something the user can mend; nothing was written.
    """
    sources = _sources(options)
    name = options.name or f"{recipe_name(arguments)}_{options.learner}"
    check_run_name(name)
    with on_its_own():
        cli = RunCLI([*arguments, *_PLAIN, *ALONE], command="stack")
    report, data = cli.model.report, cli.datamodule
    columns = stack_columns(report, type(cli.model).__name__)
    data.prepare()
    folds = data.make_folds()
    table = _table(data, folds)
    labelled = _inputs(data.names(), sources, options, data)
    logger.info("Learning %s from %s", options.learner, " and ".join(map(str, options.embeddings or sources)))
    result = fit_stack(labelled, None, table, columns, options, data)
    run = _run(name, options, cli, folds, logs_folder(arguments))
    with logging_to(run.log):
        logger.info("Run folder: %s", run.path)
        held_out = (table["fold"] != NEVER_HELD_OUT).to_numpy()
        write_stack(run.path, table[held_out], result.of_rows(held_out), report, columns, data, None)
    for fold in run.asked_folds():
        run.finish_fold(fold, {"learner": options.learner})
    run.update_record(status="complete")


def _sources(options: StackOptions) -> Sequence[Source]:
    """What is learned from, without a run."""
    if options.run is not None:
        raise ConfigError("--run and --config both say which folds are learned over. Give one of them.")
    sources: list[Source] = options.features or (["embeddings"] if options.embeddings else [])
    if "predictions" in sources:
        raise ConfigError("--features predictions are those of a run. Leave --config out, and name the run with --run.")
    if not sources or ("embeddings" in sources) != bool(options.embeddings):
        raise ConfigError(
            "With --config there is no run to learn from: give --embeddings FILE, --features tabular, or both with "
            "--features tabular embeddings. Leave --config out to learn from a run."
        )
    return sources


def _table(data: FoldDataModule, folds: pd.Series) -> pd.DataFrame:
    """The labelled items with the fold of each."""
    table = data.items().reset_index(drop=True)
    table.insert(len(data.id_columns), "fold", folds.loc[table[data.id_columns[0]]].to_numpy())
    return table


def _inputs(names: pd.Series, sources: Sequence[Source], options: StackOptions, data: FoldDataModule) -> StackInputs:
    features = pd.DataFrame(index=range(len(names)))
    if options.columns is not None and "tabular" not in sources:
        raise ConfigError("--columns chooses columns of tables. Add tabular to --features, or leave it out.")
    if "tabular" in sources:
        tables = data.table_features(options.columns)
        if tables is None:
            raise ConfigError("These data have no tables to learn from. Leave 'tabular' out of --features.")
        features = tables.labelled.loc[names].reset_index(drop=True)
    files = options.embeddings or []
    embeddings = [read_features(path).in_order(names.tolist()).pooled() for path in files]
    return StackInputs(names=names, features=features, embeddings=embeddings)


def _run(name: str, options: StackOptions, cli: RunCLI, folds: pd.Series, logs: Path) -> Run:
    """The run folder: a new one, or the given one where it holds nothing or the same."""
    text = cli.config_text()
    learned = {key: value for key, value in asdict(options).items() if key in StackConfig.__dataclass_fields__}
    learned |= {"embeddings": [str(path) for path in options.embeddings or []], "sums": options.sums}
    start = RunStart(
        name=name,
        folds=fold_numbers(folds),
        command=sys.argv,
        fingerprint=fingerprint(cli.datamodule, folds, opens_items=False),
        settings=settings_digest(yaml.safe_load(text) | {"stack": learned}),
        oof=True,
        files={FOLDS_CSV: folds.reset_index().to_csv(index=False)},
        configurations=dict.fromkeys(fold_numbers(folds), text),
        learner=options.learner,
    )
    return create_run(logs, start) if options.out is None else join_run(options.out, start)
