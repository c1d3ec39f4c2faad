"""`biomass stack --blend RUN RUN ...`: the out-of-fold predictions of several runs, weighed by the other folds."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biomass_pl.data.base import FoldDataModule
from biomass_pl.errors import ConfigError, RunError
from biomass_pl.evaluation.blending import Blend, best_of, blend, gain_over
from biomass_pl.evaluation.drawn_scores import drawn_mean_r2
from biomass_pl.evaluation.report import BOOTSTRAP_DRAWS, Report, ScoresDraws, StackColumns
from biomass_pl.harness.out_of_fold import read_predictions, report_scores
from biomass_pl.harness.predict import finished_folds
from biomass_pl.harness.predictor import PredictCLI, Predictions, require_data
from biomass_pl.harness.recipes import logs_folder, refuse_recipe
from biomass_pl.harness.stack_fit import StackOptions, stack_columns
from biomass_pl.new_runs import RunStart, check_run_name, create_run, join_run, settings_digest
from biomass_pl.runs import FOLDS_CSV, RECORD, Run, find_run
from biomass_pl.terminal import logging_to, say

logger = logging.getLogger(__name__)

_TAKES = {"blend", "name", "out", "trust"}
"""Options that a blend takes."""


@dataclass(frozen=True, kw_only=True)
class _Gain:
    """How much better a blend scores than the best of what it blends.

    Args:
        score: Name of the score.
        best: The best single run.
        interval: `gain`, and its spread over the draws.
    """

    score: str
    best: Path
    interval: dict[str, float]


def run_blend(options: StackOptions, overrides: Sequence[str]) -> None:
    """Blends the out-of-fold predictions of runs with the same folds, in a run folder of its own.

    Args:
        options: The runs, and where the result goes.
        overrides: Settings of Lightning's form that differ from the first run's, such as where the data lie.

    Raises:
        BiomassError: Something the user can mend; nothing was written.
    """
    paths = _paths(options)
    refuse_recipe(overrides, "stack --blend")
    name = options.name or "blend"
    check_run_name(name)
    logs = logs_folder(overrides)
    first = _origin(paths[0], logs)
    cli = PredictCLI(
        first,
        finished_folds(first)[0],
        ["--trainer.accelerator=cpu", "--trainer.precision=32-true", *overrides],
        trusted=options.trust,
    )
    report, data = cli.model.report, cli.datamodule
    columns = stack_columns(report, type(cli.model).__name__)
    require_data(first, data)
    tables = _same_rows(paths, columns, data, (*data.id_columns, *report.text_columns))
    table = tables[0]
    predictions = np.stack([one[list(columns.predicted)].to_numpy(dtype=np.float64) for one in tables])
    truth = table[list(columns.truth)].to_numpy(dtype=np.float64)
    if table["fold"].nunique() < 2:
        raise RunError(f"{paths[0]} has predictions of one fold; a blend needs two or more.")
    blended = blend(predictions, truth, table["fold"].to_numpy())
    finished = report.finished(table.assign(**dict(zip(columns.predicted, blended.predictions.T, strict=True))))
    gain = _gain(paths, predictions, blended.predictions, table, report, columns, data)
    run = _run(name, options, first, table, logs)
    with logging_to(run.log):
        logger.info("Run folder: %s", run.path)
        more = {"blend": _metrics(paths, blended, gain)}
        report_scores(run.path, report, Predictions(table=finished), run.oof_predictions, data=data, more=more)
        _tell(paths, blended, gain)
    for fold in run.asked_folds():
        run.finish_fold(fold, {"learner": "blend"})
    run.update_record(status="complete")


def _paths(options: StackOptions) -> list[Path]:
    given = [field.name for field in fields(options) if getattr(options, field.name) != field.default]
    others = [f"--{name}" for name in given if name not in _TAKES]
    if others:
        raise ConfigError(f"--blend weighs runs as they are and takes no {', '.join(others)}. Leave that out.")
    paths = options.blend or []
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise ConfigError("--blend needs two or more runs, each once.")
    return paths


def _origin(path: Path, logs: Path) -> Run:
    """The run whose configuration a folder of predictions goes with: its own, or that of the run it lies in."""
    lies_in_a_run = not (path / RECORD).is_file() and (path.parent / RECORD).is_file()
    return find_run(logs, path.parent if lies_in_a_run else path)


def _same_rows(
    paths: Sequence[Path], columns: StackColumns, data: FoldDataModule, text_columns: Sequence[str]
) -> list[pd.DataFrame]:
    """The tables of all runs in the order of the first.

    Raises:
        RunError: A run has other items, folds or truth; names the first that differs.
    """
    key = data.id_columns[0]
    tables = [read_predictions(Run(path).oof_predictions, text_columns) for path in paths]
    first = tables[0]
    for path, table in zip(paths[1:], tables[1:], strict=True):
        lacking = set(columns.predicted) - set(table)
        if lacking:
            raise RunError(f"{path} predicts no {min(lacking)}, which {paths[0]} does. Blend runs of the same targets.")
        one, other = (set(rows[key]) for rows in (first, table))
        if one != other:
            name = min(one ^ other)
            has, lacks = (paths[0], path) if name in one else (path, paths[0])
            raise RunError(
                f"{has} predicts {data.item_noun} {name}, and {lacks} does not. Blend runs of the same folds."
            )
    aligned = [table.set_index(key, drop=False).loc[first[key]].reset_index(drop=True) for table in tables]
    for path, table in zip(paths[1:], aligned[1:], strict=True):
        for column in ("fold", *columns.truth):
            differs = ~np.isclose(first[column], table[column], rtol=0, atol=1e-9, equal_nan=True)
            if differs.any():
                row = int(differs.argmax())
                raise RunError(
                    f"{column} of {data.item_noun} {first[key][row]} is {first[column][row]:g} in {paths[0]} and "
                    f"{table[column][row]:g} in {path}. Blend runs of the same folds and labels."
                )
    return aligned


def _gain(
    paths: Sequence[Path],
    predictions: np.ndarray,
    blended: np.ndarray,
    table: pd.DataFrame,
    report: Report,
    columns: StackColumns,
    data: FoldDataModule,
) -> _Gain:
    def score(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
        if isinstance(report, ScoresDraws):
            return report.drawn_score(table.assign(**dict(zip(columns.predicted, values.T, strict=True))), counts)
        truth = table[list(columns.truth)].to_numpy(dtype=np.float64)
        return drawn_mean_r2(truth, values, np.ones(truth.shape[1]), counts)

    groups = data.groups()
    drawn = np.arange(len(table)) if groups is None else groups.loc[table[data.id_columns[0]]].to_numpy()
    best = best_of(predictions, score)
    interval = gain_over(predictions[best], blended, score, drawn, draws=BOOTSTRAP_DRAWS)
    return _Gain(
        score=report.score_name if isinstance(report, ScoresDraws) else "mean_r2", best=paths[best], interval=interval
    )


def _metrics(paths: Sequence[Path], blended: Blend, gain: _Gain) -> dict[str, Any]:
    def named(weights: np.ndarray) -> dict[str, float]:
        return dict(zip(map(str, paths), weights.tolist(), strict=True))

    return {
        "weights": named(blended.weights),
        "fold_weights": {str(fold): named(weights) for fold, weights in blended.fold_weights.items()},
        "best_run": str(gain.best),
        "score": gain.score,
        **{name: value if np.isfinite(value) else None for name, value in gain.interval.items()},
    }


def _tell(paths: Sequence[Path], blended: Blend, gain: _Gain) -> None:
    weights = np.stack(list(blended.fold_weights.values()))
    for path, low, high, all_rows in zip(paths, weights.min(axis=0), weights.max(axis=0), blended.weights, strict=True):
        say(f"weight {all_rows:.2f} ({low:.2f} to {high:.2f} in the folds): {path}")
    values = gain.interval
    say(
        f"{gain.score}: {values['gain']:+.4f} over the best single run, {gain.best}, "
        f"95 % {values['gain_ci_lower']:+.4f} to {values['gain_ci_upper']:+.4f}"
    )


def _run(name: str, options: StackOptions, first: Run, table: pd.DataFrame, logs: Path) -> Run:
    """The run folder, with the configuration and the folds of the first run."""
    folds = sorted(int(fold) for fold in table["fold"].unique())
    configuration = first.config_of_any_fold().read_text(encoding="utf-8")
    start = RunStart(
        name=name,
        folds=folds,
        command=sys.argv,
        fingerprint=first.record()["data"],
        settings=settings_digest({"blend": [str(path) for path in options.blend or []]}),
        oof=True,
        files={FOLDS_CSV: first.folds_csv.read_text(encoding="utf-8")},
        configurations=dict.fromkeys(folds, configuration),
        learner="blend",
    )
    return create_run(logs, start) if options.out is None else join_run(options.out, start)
