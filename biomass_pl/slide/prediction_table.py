"""Columns of a table of predicted specimens, what they are called, and what is read from them. No torch."""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

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


def class_predictions(table: pd.DataFrame, name: str) -> ClassPredictions:
    """What the specimens of a known class were taken for.

    Args:
        table: Predictions.
        name: One of `question_names`.
    """
    start = f"{name}{_PROBABILITY}"
    columns = [str(column) for column in table if str(column).startswith(start)]
    classes = tuple(column.removeprefix(start) for column in columns)
    rows = table[table[class_column(name)] != ""]
    return ClassPredictions(
        ids=tuple(rows[SPECIMEN]),
        classes=classes,
        truth=pd.Index(classes).get_indexer(pd.Index(rows[class_column(name)])),
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
    ranked = table.assign(**{IMAGE_TO_TEXT: np.nan, TEXT_TO_IMAGE: np.nan})
    for rows in table.groupby("fold").indices.values():
        ranks = retrieval_ranks(arrays[IMAGE_ARRAY][rows], arrays[TEXT_ARRAY][rows])
        ranked.iloc[rows, ranked.columns.get_loc(IMAGE_TO_TEXT)] = ranks.image_to_text
        ranked.iloc[rows, ranked.columns.get_loc(TEXT_TO_IMAGE)] = ranks.text_to_image
    return ranked


def ranks_of(table: pd.DataFrame) -> RetrievalRanks | None:
    """The ranks in a table; None where it has none."""
    if IMAGE_TO_TEXT not in table:
        return None
    columns = (table[name].to_numpy(dtype=np.float64) for name in (IMAGE_TO_TEXT, TEXT_TO_IMAGE))
    return RetrievalRanks(**dict(zip(("image_to_text", "text_to_image"), columns, strict=True)))
