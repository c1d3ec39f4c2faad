"""What `biomass stack` fits, on a run or on files of features alike, and what it writes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from biomass_pl.data.base import FoldDataModule
from biomass_pl.errors import ConfigError
from biomass_pl.evaluation.learner_settings import SumRule
from biomass_pl.evaluation.pictures import draw_importance
from biomass_pl.evaluation.report import MakesSubmission, Report, StackColumns
from biomass_pl.evaluation.stacking import StackConfig, StackResult, stack
from biomass_pl.evaluation.sums import added, nearest_parts, parts_of
from biomass_pl.files import write_table
from biomass_pl.harness.out_of_fold import report_scores
from biomass_pl.harness.predictor import Predictions
from biomass_pl.runs import Run

Source = Literal["tabular", "predictions", "embeddings"]
"""What can be learned from."""


@dataclass(frozen=True, kw_only=True)
class StackOptions(StackConfig):
    """What `biomass stack` takes.

    Args:
        run: Run folder; none takes the newest with trained networks.
        features: What is learned from; none takes what there is: files of features, or, of a run, the tables, where
            they tell something, and the predictions.
        columns: Columns of the tables; none takes all that are in both.
        embeddings: Files of features, in place of a run.
        sums: How targets that are sums of others are predicted.
        blend: Runs to blend, in place of all that.
        name: Name of a new run; none makes one.
        out: Folder for the results; none takes `stack_<features>` in the run folder, or the next version of the name.
        trust: Classes of one's own that a run's configuration may name.
    """

    run: Path | None = None
    features: list[Source] | None = None
    columns: list[str] | None = None
    embeddings: list[Path] | None = None
    sums: SumRule | None = None
    blend: list[Path] | None = None
    name: str | None = None
    out: Path | None = None
    trust: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class StackInputs:
    """Rows that belong together by position.

    Args:
        names: Names of the items.
        features: Their columns.
        embeddings: Arrays of their embeddings, where these are learned from.
    """

    names: pd.Series
    features: pd.DataFrame
    embeddings: Sequence[np.ndarray] = ()


def stack_columns(report: Report, of: str) -> StackColumns:
    """What is learned to be predicted.

    Args:
        report: The report of a task.
        of: What it is of, for the message.

    Raises:
        ConfigError: Nothing is.
    """
    if report.stacking is None:
        raise ConfigError(f"Runs of {of} cannot be stacked: they predict no numbers to learn.")
    return report.stacking


def fit_stack(
    labelled: StackInputs,
    test: StackInputs | None,
    table: pd.DataFrame,
    columns: StackColumns,
    options: StackOptions,
    data: FoldDataModule,
) -> StackResult:
    """Fits over the folds of a table; predictions are of all targets, and keep their sums and least values.

    Args:
        labelled: What is learned from.
        test: The same of test items; none where there are none.
        table: The rows of `labelled` with `fold` and the truth.
        columns: What is learned to be predicted.
        options: How.
        data: The data module, which knows what its folds keep together.

    Raises:
        BiomassError: Something does not fit.
    """
    if options.sums is not None and not columns.sums:
        raise ConfigError("--sums is for targets that are sums of others, which there are none of here. Leave it out.")
    adds = options.sums == "add"
    groups = data.groups()
    result = stack(
        features=labelled.features,
        embeddings=labelled.embeddings,
        targets=table[parts_of(columns.truth, columns.sums) if adds else list(columns.truth)],
        folds=table["fold"].to_numpy(),
        kind=columns.kind,
        config=options,
        groups=None if groups is None else groups.loc[labelled.names].to_numpy(),
        test_features=test.features if test else None,
        test_embeddings=test.embeddings if test else (),
    )
    tested = result.test_predictions
    return replace(
        result,
        predictions=_completed(result.predictions, columns, adds=adds),
        test_predictions=None if tested is None else _completed(tested, columns, adds=adds),
    )


def _completed(predictions: np.ndarray, columns: StackColumns, *, adds: bool) -> np.ndarray:
    """Predictions of all targets, none too small, their sums kept."""
    if columns.at_least is not None:
        predictions = predictions.clip(min=columns.at_least)
    if not columns.sums:
        return predictions
    parts = predictions if adds else nearest_parts(predictions, columns.truth, columns.sums)
    if columns.at_least is not None:
        parts = parts.clip(min=columns.at_least)
    return added(parts, columns.truth, columns.sums)


def write_stack(
    folder: Path,
    table: pd.DataFrame,
    result: StackResult,
    report: Report,
    columns: StackColumns,
    data: FoldDataModule,
    test: StackInputs | None,
) -> None:
    """Writes what was predicted, in the form of a run's own predictions, and prints the scores.

    Args:
        folder: Where.
        table: Items with `fold` and the truth, in the rows of the result.
        result: What was fitted.
        report: How it is scored.
        columns: What was predicted.
        data: The data module.
        test: The test items that were predicted; none where there are none.

    Raises:
        DataError: The test items are not those of the competition's sample; nothing was written.
    """
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
    if result.importance is not None:
        write_table(result.importance, folder / "importance.csv")
        draw_importance(result.importance, folder / "importance.png")
    stacked = Predictions(table=report.finished(predicted))
    report_scores(folder, report, stacked, Run(folder).oof_predictions, data=data)
    if tested is not None:
        predictions, submission = tested
        write_table(predictions, Run(folder).test_predictions)
        if submission is not None:
            write_table(submission, folder / "submission.csv")
