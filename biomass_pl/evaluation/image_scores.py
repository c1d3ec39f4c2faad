"""Scores of other models as features of a learner. No torch."""

import numpy as np
import pandas as pd

from biomass_pl.errors import DataError
from biomass_pl.evaluation.learner_settings import Kind


def image_score_features(scores: pd.DataFrame, groups: pd.Series | None, *, kind: Kind) -> pd.DataFrame:
    """Features of the scores of other models: each score, and how it stands out in its group.

    Args:
        scores: A column per score: probabilities in a classification, else numbers.
        groups: Whom or what each row belongs to, by position, or None. A row without a group has no z.
        kind: A classification gives logits, which spread what is crowded at 0 and 1.

    Returns:
        `<score>` (`<score>_logit` in a classification), and with groups also `..._z`: the distance from the mean of
        the group over its sample standard deviation; 0 alone in a group.

    Raises:
        DataError: A probability outside 0 to 1.
    """
    values = scores.astype(np.float64)
    if kind == "classification":
        values = _logits(values)
    if groups is None:
        return values
    grouped = values.groupby(groups.to_numpy())
    # The small number keeps equal scores at 0 instead of blowing up their rounding.
    z = (values - grouped.transform("mean")) / (grouped.transform("std").fillna(0.0) + 1e-5)
    return pd.concat([values, z.add_suffix("_z")], axis=1)


def _logits(probabilities: pd.DataFrame) -> pd.DataFrame:
    values = probabilities.to_numpy()
    wrong = np.argwhere((values < 0) | (values > 1))
    if len(wrong):
        row, column = wrong[0]
        raise DataError(
            f"{probabilities.columns[column]!s} is {values[row, column]} in row {probabilities.index[row]}; "
            "a probability is from 0 to 1. Give probabilities, not logits."
        )
    clipped = values.clip(1e-15, 1 - 1e-15)  # certainty becomes a logit of 35
    columns = [f"{name}_logit" for name in probabilities]
    return pd.DataFrame(np.log(clipped) - np.log1p(-clipped), index=probabilities.index, columns=columns)
