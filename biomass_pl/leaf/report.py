"""The report on leaf disease: scores of classes, how far their probabilities can be believed, pictures. No torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from biomass_pl.errors import DataError, listed
from biomass_pl.evaluation.calibration import (
    calibrated_by_fold,
    cross_fitted_temperatures,
    expected_calibration_error,
    log_probabilities,
    reliability_bins,
)
from biomass_pl.evaluation.class_pictures import (
    Mistake,
    draw_confusion,
    draw_reliability,
    matrix_size,
    mistakes_sheet,
    shortened,
    worst_mistakes,
)
from biomass_pl.evaluation.class_scores import (
    bootstrap_class_scores,
    class_scores,
    confusion,
    log_loss,
    per_class_scores,
)
from biomass_pl.evaluation.pictures import save_figure
from biomass_pl.evaluation.report import (
    BOOTSTRAP_DRAWS,
    CONSTANT_ROW,
    Report,
    defined,
    formatted,
    pooled_caption,
    score_grid,
)

PROBABILITY_PREFIX = "prob_"
"""Of the columns with the probabilities of a class, before its name."""

_WITH_CONSTANT = ("accuracy", "f1_macro")
_LONGEST_NAME = 30
_NAME_COLUMNS = 33  # of a terminal of 80, beside six columns of numbers

_RELIABILITY_SIDE = 5.0  # inches


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What a table says, as arrays of its rows.

    Args:
        classes: Names of the classes, in the order of the probability columns.
        truth: Class numbers (photos,).
        probabilities: Of each class (photos, K).
        calibrated: The same, scaled by the temperature of the fold; NaN in a fold without (photos, K).
        folds: The fold that held each photo out (photos,).
    """

    classes: tuple[str, ...]
    truth: np.ndarray
    probabilities: np.ndarray
    calibrated: np.ndarray
    folds: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """Numbers of the most probable classes, of equals the first (photos,)."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def finite(self) -> np.ndarray:
        """Whether the network predicted anything of a photo (photos,)."""
        return np.asarray(np.isfinite(self.probabilities).all(axis=1))

    def of(self, rows: np.ndarray) -> "_Rows":
        """Some of the rows."""
        parts = (self.truth, self.probabilities, self.calibrated, self.folds)
        names = ("truth", "probabilities", "calibrated", "folds")
        return _Rows(classes=self.classes, **{name: part[rows] for name, part in zip(names, parts, strict=True)})


class LeafReport(Report):
    """Tables with `image_id`, `label`, `fold`, `label_pred`, `prob_<class>` per class and, where known, `source`."""

    text_columns = ("label", "label_pred", "source")

    def score(self, table: pd.DataFrame, arrays: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """Scores a table of predictions; the classes are those of its probability columns.

        Returns:
            `pooled` and `folds` (by number as text): `photos`, what `class_scores` returns, `ece` (expected
            calibration error), `ece_scaled` and `log_loss_scaled` (by the temperature that fits the other folds),
            and `per_class` with `precision`, `recall`, `f1` and `photos`; None where a prediction is not finite, or
            no other fold gives a temperature. `folds` also have their `temperature`; `pooled` has `accuracy_interval`
            and `f1_macro_interval` (95 %) by a bootstrap over source photos, None with a single one. `constant`:
            `accuracy` and `f1_macro` where every photo is predicted as the table's most frequent class.

        Raises:
            DataError: All photos are of one class, or a class has no probability column.
        """
        rows, temperatures = _read(table)
        numbers, photos = np.unique(rows.truth, return_counts=True)
        if len(numbers) < 2:
            found = f"all {len(table)} photo(s) are '{rows.classes[numbers[0]]}'" if len(table) else "there is no photo"
            raise DataError(f"The predictions cannot be scored: {found}, and scores need two classes. Add other folds.")
        folds = {fold: rows.of(rows.folds == fold) for fold in temperatures}
        majority = int(numbers[photos.argmax()])
        return {
            "pooled": {**_scores(rows), **_intervals(rows, _sources(table)), "interval_over": "source photos"},
            "folds": {str(fold): {**_scores(own), "temperature": temperatures[fold]} for fold, own in folds.items()},
            "constant": {
                "pooled": _constant_scores(rows, majority),
                "folds": {str(fold): _constant_scores(own, majority) for fold, own in folds.items()},
            },
        }

    def render(self, scores: dict[str, Any], *, title: str) -> Table:
        """A column for all folds pooled and one per fold; below, the F1 of each class."""
        pooled, folds, constant = scores["pooled"], scores["folds"], scores["constant"]
        grid = score_grid(
            title=title,
            caption=f"{pooled_caption(scores, 'f1_macro')}\n{pooled_caption(scores, 'accuracy')}\n"
            "constant: every photo the most frequent class\n"
            "ece: calibration error; scaled by the other folds' temperature",
            headings=["pooled", *(f"fold {fold}" for fold in folds)],
        )
        columns = [pooled, *folds.values()]
        for name in _WITH_CONSTANT:
            constants = [constant["pooled"], *constant["folds"].values()]
            grid.add_row(name, *(formatted(column[name]) for column in columns))
            grid.add_row(CONSTANT_ROW, *(formatted(column[name]) for column in constants))
        for name in ("log_loss", "ece", "ece_scaled"):
            grid.add_row(name.replace("_scaled", " scaled"), *(formatted(column[name]) for column in columns))
        grid.add_row("photos", *(str(column["photos"]) for column in columns))
        grid.add_section()
        for name, values in pooled["per_class"].items():
            # Not a string: a name may hold square brackets, which are markup there.
            label = Text(f"f1 {shortened(name, _LONGEST_NAME)}")
            label.truncate(_NAME_COLUMNS, overflow="ellipsis")  # some scripts have wide letters
            grid.add_row(label, formatted(values["f1"]))
        return grid

    def draw(self, table: pd.DataFrame, path: Path) -> None:
        """Draws the confusion matrix beside the reliability of the probabilities, before and after scaling."""
        rows, _ = _read(table)
        side = matrix_size(len(rows.classes))
        figure = Figure(
            figsize=(side + _RELIABILITY_SIDE + 3, max(side, _RELIABILITY_SIDE) + 2.5), layout="constrained"
        )
        matrix, reliability = figure.subplots(1, 2, width_ratios=[side, _RELIABILITY_SIDE])
        known = rows.of(rows.finite)
        draw_confusion(matrix, confusion(known.truth, known.predicted, len(rows.classes)), rows.classes)
        kinds = {"as predicted": rows.probabilities, "scaled by the other folds": rows.calibrated}
        finite = {name: np.isfinite(values).all(axis=1) for name, values in kinds.items()}
        curves = {
            name: reliability_bins(rows.truth[finite[name]], values[finite[name]])
            for name, values in kinds.items()
            if finite[name].any()
        }
        draw_reliability(reliability, curves)
        save_figure(figure, path)

    def draw_photos(self, table: pd.DataFrame, photo: Callable[[str], np.ndarray], path: Path) -> None:
        """Draws the worst mistakes.

        Args:
            table: What `score` takes.
            photo: Reads a photo by its `image_id`: RGB bytes (height, width, 3).
            path: The PNG file.
        """
        rows, _ = _read(table)
        known, names = rows.of(rows.finite), table["image_id"].to_numpy()[rows.finite]
        mistakes = [
            Mistake(
                name=str(names[row]),
                truth=rows.classes[known.truth[row]],
                predicted=rows.classes[known.predicted[row]],
                probability=float(known.probabilities[row].max()),
            )
            for row in worst_mistakes(known.truth, known.probabilities)
        ]
        mistakes_sheet(mistakes, photo, path, photos=len(names))

    def finished(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with `label_pred`, the most probable class, of equals the first; empty where that is unknown.

        Raises:
            DataError: The table has no probabilities.
        """
        columns = _probability_columns(table)
        probabilities = table[list(columns)].to_numpy(dtype=np.float64)
        names = np.array(list(columns.values()), dtype=object)[probabilities.argmax(axis=1)]
        names[~np.isfinite(probabilities).all(axis=1)] = ""
        finished = table.drop(columns="label_pred", errors="ignore")
        finished.insert(list(finished).index(next(iter(columns))), "label_pred", names)
        return finished


def _probability_columns(table: pd.DataFrame) -> dict[str, str]:
    """Columns of probabilities, and the class of each.

    Raises:
        DataError: There is none.
    """
    names = [str(name) for name in table]
    columns = {name: name.removeprefix(PROBABILITY_PREFIX) for name in names if name.startswith(PROBABILITY_PREFIX)}
    if not columns:
        raise DataError(
            f"The predictions have no column '{PROBABILITY_PREFIX}<class>' but {', '.join(names)}. Predict again."
        )
    return columns


def _read(table: pd.DataFrame) -> tuple[_Rows, dict[int, float | None]]:
    """The rows of a table as arrays, and the temperature of each of its folds.

    Raises:
        DataError: A label has no column of probabilities.
    """
    columns = _probability_columns(table)
    classes = tuple(columns.values())
    truth = pd.Index(classes).get_indexer(pd.Index(table["label"]))
    unknown = table["label"][truth < 0].value_counts()
    if len(unknown):
        found = [
            f"'{name}': {count} photo(s), no column '{PROBABILITY_PREFIX}{name}'" for name, count in unknown.items()
        ]
        raise DataError(
            "Some labels have no column of probabilities. Take the labels that the run was trained with:\n"
            + listed(found)
        )
    probabilities = table[list(columns)].to_numpy(dtype=np.float64)
    folds = table["fold"].to_numpy()
    temperatures = cross_fitted_temperatures(log_probabilities(probabilities), truth, folds)
    calibrated = calibrated_by_fold(probabilities, folds, temperatures)
    rows = _Rows(classes=classes, truth=truth, probabilities=probabilities, calibrated=calibrated, folds=folds)
    return rows, temperatures


def _scores(rows: _Rows) -> dict[str, Any]:
    scores = {
        **class_scores(rows.truth, rows.probabilities),
        "ece": expected_calibration_error(rows.truth, rows.probabilities),
        "ece_scaled": expected_calibration_error(rows.truth, rows.calibrated),
        "log_loss_scaled": log_loss(rows.truth, rows.calibrated),
    }
    return {
        "photos": len(rows.truth),
        **{name: defined(value) for name, value in scores.items()},
        "per_class": _per_class(rows),
    }


def _per_class(rows: _Rows) -> dict[str, dict[str, float | int | None]]:
    found = per_class_scores(rows.truth, rows.predicted, len(rows.classes))
    known = bool(rows.finite.all())
    scores = {"precision": found.precision, "recall": found.recall, "f1": found.f1}
    return {
        name: {
            **{score: float(values[number]) if known else None for score, values in scores.items()},
            "photos": int(found.photos[number]),
        }
        for number, name in enumerate(rows.classes)
    }


def _intervals(rows: _Rows, sources: pd.Series) -> dict[str, list[float] | None]:
    """95 % intervals of the pooled scores; photos made of one source are alike, so sources are drawn."""
    if sources.nunique() < 2 or not rows.finite.all():
        return {f"{name}_interval": None for name in _WITH_CONSTANT}
    draws = bootstrap_class_scores(
        rows.truth, rows.predicted, sources.to_numpy(), classes=len(rows.classes), draws=BOOTSTRAP_DRAWS
    )
    return {f"{name}_interval": np.quantile(draws[name], [0.025, 0.975]).tolist() for name in _WITH_CONSTANT}


def _sources(table: pd.DataFrame) -> pd.Series:
    """The photo that each was made of: itself where no other is named."""
    if "source" not in table:
        return table["image_id"]
    return table["source"].where(table["source"].fillna("") != "", table["image_id"])


def _constant_scores(rows: _Rows, number: int) -> dict[str, float]:
    """`accuracy` and `f1_macro` of one class for every photo."""
    scores = class_scores(rows.truth, np.eye(len(rows.classes))[np.full(len(rows.truth), number)])
    return {name: scores[name] for name in _WITH_CONSTANT}
