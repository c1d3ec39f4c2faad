"""Scores of predicted specimens: found by what belongs to them, taken for classes, described in words. No torch."""

import numpy as np
import pandas as pd

from biomass_pl.evaluation.bootstrap import Bootstrap
from biomass_pl.evaluation.prompt_classes import ClassPredictions, classification_scores
from biomass_pl.evaluation.retrieval import RECALL_AT, retrieval_scores
from biomass_pl.evaluation.text_scores import TextScores, text_scores
from biomass_pl.evaluation.text_tokens import tokens
from biomass_pl.slide.prediction_table import (
    CAPTION,
    PATIENT,
    REPORT,
    SPECIMEN,
    class_predictions,
    probability_columns,
    question_names,
    ranks_of,
)

_DIRECTIONS = ("image_to_text", "text_to_image")


def specimen_scores(table: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, float]:
    """Scores by their published names, of what the table has.

    Args:
        table: Predictions: ranks, probabilities and true classes, captions, or some of these.
        bootstrap: How intervals over patients are found.

    Returns:
        Those of `retrieval_scores`, of `classification_scores` for each question (`task_0_auc_roc`, ...) and of
        `text_scores` (`bleu4`, ...), with intervals as `scores_with_intervals` names them; NaN where not defined.
    """
    patients = table[PATIENT].astype(str)
    groups, by_name = patients.to_numpy(), dict(zip(table[SPECIMEN], patients, strict=True))
    found: dict[str, float] = {}
    ranks = ranks_of(table)
    if ranks is not None:
        found |= retrieval_scores(ranks, groups, bootstrap)
    for name in question_names(table):
        found |= classification_scores(class_predictions(table, name), by_name, bootstrap, prefix=f"{name}_")
    if CAPTION in table:
        found |= caption_scores(table, bootstrap).corpus
    return found


def caption_scores(table: pd.DataFrame, bootstrap: Bootstrap) -> TextScores:
    """Scores of the generated texts beside the true ones.

    Args:
        table: Predictions, with captions.
        bootstrap: How intervals over patients are found.
    """
    candidates = [tokens(text) for text in table[CAPTION]]
    references = [[tokens(text)] for text in table[REPORT]]
    return text_scores(candidates, references, table[PATIENT].astype(str).to_numpy(), bootstrap)


def chance_scores(table: pd.DataFrame) -> dict[str, float]:
    """Scores of the same kinds without looking at any specimen.

    Retrieval in random order; for each question, every specimen taken for the classes by their shares; and for a
    caption the report of another specimen, half the fold's table away.

    Args:
        table: Predictions.
    """
    blind = table.copy()
    for name in question_names(table):
        blind[probability_columns(table, name)] = _shares(class_predictions(table, name))
    if CAPTION in table:
        others = table[REPORT].to_numpy(dtype=object).copy()
        for rows in table.groupby("fold").indices.values():
            others[rows] = np.roll(others[rows], len(rows) // 2)
        blind[CAPTION] = others
    scores = specimen_scores(blind, Bootstrap())
    return scores | (_random_ranks(table) if ranks_of(table) is not None else {})


def _shares(found: ClassPredictions) -> np.ndarray:
    """Share of each class in the truth (K,)."""
    counts = np.bincount(found.truth, minlength=len(found.classes))
    return np.asarray(counts / max(1, counts.sum()))


def _random_ranks(table: pd.DataFrame) -> dict[str, float]:
    """Expected scores of retrieval where any order is as likely as any other."""
    galleries = table.groupby("fold")[SPECIMEN].transform("size").to_numpy()
    middle = (galleries + 1) / 2
    scores = {"mean_rank": float(middle.mean()), "median_rank": float(np.floor(np.median(middle)))}
    scores |= {f"R@{most}": float(np.minimum(1, most / galleries).mean()) for most in RECALL_AT}
    return {f"{direction}_{name}": value for direction in _DIRECTIONS for name, value in scores.items()}
