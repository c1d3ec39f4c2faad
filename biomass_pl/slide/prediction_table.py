"""Columns of a table of predicted specimens, what they are called, and what is read from them. No torch."""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from biomass_pl.errors import DataError
from biomass_pl.evaluation.prompt_classes import ClassPredictions
from biomass_pl.evaluation.retrieval import RetrievalRanks, retrieval_ranks

SPECIMEN, PATIENT, REPORT, CAPTION = "specimen_id", "patient_id", "report", "caption"
"""Names of specimen and patient, the true text, and the generated one."""

IMAGE_ARRAY, TEXT_ARRAY = "image_embedding", "text_embedding"
"""Vectors of both towers, beside the table."""

IMAGE_TO_TEXT, TEXT_TO_IMAGE = "image_to_text_rank", "text_to_image_rank"
"""Rank of a specimen's report by its features, and of its features by its report, among those of its fold."""

_CLASS, _PROBABILITY = "_class", "_prob_"


def zero_shot_name(number: int) -> str:
    """What columns and scores of a question begin with, where prompts answer it."""
    return f"task_{number}"


def few_shot_name(number: int) -> str:
    """What they begin with where examples answer it."""
    return f"fewshot_{number}"


def probe_name(number: int) -> str:
    """What they begin with where logistic regression on examples answers it; the classes are those of the examples."""
    return f"fewshot_{number}_probe"


def class_column(name: str) -> str:
    """Column of the true classes, empty where a specimen has none or is an example."""
    return f"{name.removesuffix('_probe')}{_CLASS}"


def probability_column(name: str, label: str) -> str:
    """Column of the probabilities of a class."""
    return f"{name}{_PROBABILITY}{label}"


def text_columns(questions: int) -> tuple[str, ...]:
    """Columns of texts, where so many questions are asked."""
    numbers = range(questions)
    names = [*map(zero_shot_name, numbers), *map(few_shot_name, numbers)]
    return REPORT, CAPTION, *map(class_column, names)


def question_names(table: pd.DataFrame) -> list[str]:
    """What the columns of each answered question begin with, in their order."""
    matches = [re.match(rf"((?:task|fewshot)_\d+(?:_probe)?){_PROBABILITY}", str(column)) for column in table]
    return list(dict.fromkeys(match.group(1) for match in matches if match is not None))


def probability_columns(table: pd.DataFrame, name: str) -> list[str]:
    """Columns of the probabilities of a question, in the order of its classes."""
    return [str(column) for column in table if str(column).startswith(f"{name}{_PROBABILITY}")]


def class_predictions(table: pd.DataFrame, name: str) -> ClassPredictions:
    """What the specimens of a known class were taken for.

    Args:
        table: Predictions.
        name: One of `question_names`.

    Raises:
        DataError: A specimen is of a class without probabilities.
    """
    start, columns = f"{name}{_PROBABILITY}", probability_columns(table, name)
    classes = tuple(column.removeprefix(start) for column in columns)
    rows = table[table[class_column(name)] != ""]
    labels = rows[class_column(name)]
    truth = pd.Index(classes).get_indexer(pd.Index(labels))
    if (truth < 0).any():
        raise DataError(
            f"Column {class_column(name)} has the class '{labels.iloc[int(truth.argmin())]}', which has no column "
            f"{start}<class>. Predict again."
        )
    return ClassPredictions(
        ids=tuple(rows[SPECIMEN]),
        classes=classes,
        truth=truth,
        probabilities=rows[columns].to_numpy(dtype=np.float64),
    )


def with_ranks(table: pd.DataFrame, arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The table with the ranks of each specimen among those of its fold: vectors of other networks do not compare.

    Args:
        table: Predictions, with `fold`.
        arrays: Vectors of both towers; without them, there are no ranks.
    """
    if not {IMAGE_ARRAY, TEXT_ARRAY} <= arrays.keys():
        return table
    found = np.full((2, len(table)), np.nan)
    for rows in table.groupby("fold").indices.values():
        ranks = retrieval_ranks(arrays[IMAGE_ARRAY][rows], arrays[TEXT_ARRAY][rows])
        found[:, rows] = ranks.image_to_text, ranks.text_to_image
    return table.assign(**{IMAGE_TO_TEXT: found[0], TEXT_TO_IMAGE: found[1]})


def ranks_of(table: pd.DataFrame) -> RetrievalRanks | None:
    """The ranks in a table; None where it has none."""
    if IMAGE_TO_TEXT not in table:
        return None
    columns = (table[name].to_numpy(dtype=np.float64) for name in (IMAGE_TO_TEXT, TEXT_TO_IMAGE))
    return RetrievalRanks(**dict(zip(("image_to_text", "text_to_image"), columns, strict=True)))
