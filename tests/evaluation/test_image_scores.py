"""Scores of other models as features: logits, and how each stands out in its group."""

import math

import numpy as np
import pandas as pd
import pytest

from biomass_pl.errors import DataError
from biomass_pl.evaluation.image_scores import image_score_features


def test_a_score_stands_out_by_its_distance_in_standard_deviations_of_its_group():
    scores = pd.DataFrame({"grams": [1.0, 10.0, 2.0, 6.0]}, index=[7, 7, 7, 7])
    groups = pd.Series(["a", "alone", "a", "a"])
    features = image_score_features(scores, groups, kind="regression")
    assert list(features) == ["grams", "grams_z"] and list(features.index) == [7, 7, 7, 7]
    assert features["grams"].tolist() == [1, 10, 2, 6]
    root = math.sqrt(7)  # deviations -2, -1, 3 of three
    assert features["grams_z"].tolist() == pytest.approx([-2 / root, 0, -1 / root, 3 / root], abs=1e-5)


def test_equal_scores_and_missing_ones_do_not_stand_out():
    scores = pd.DataFrame({"grams": [0.1, 0.1, 0.1, 3.0, math.nan, 5.0]})
    groups = pd.Series(["a", "a", "a", "b", "b", None])
    z = image_score_features(scores, groups, kind="regression")["grams_z"]
    assert z[:3].tolist() == pytest.approx([0, 0, 0], abs=1e-9)
    assert z[3] == 0 and z[4:].isna().all()


def test_probabilities_become_finite_logits_in_order():
    scores = pd.DataFrame({"target": np.array([0, 0.25, 0.5, 1], dtype=np.float32)})
    features = image_score_features(scores, None, kind="classification")
    assert list(features) == ["target_logit"]
    limit = math.log(1e15)
    assert features["target_logit"].tolist() == pytest.approx([-limit, -math.log(3), 0, limit], rel=1e-3)
    assert list(image_score_features(scores, pd.Series(["a"] * 4), kind="classification").columns) == [
        "target_logit",
        "target_logit_z",
    ]


@pytest.mark.parametrize("value", [-0.5, 1.5])
def test_a_probability_out_of_range_is_named(value):
    scores = pd.DataFrame({"target": [0.5, value]}, index=["x", "y"])
    with pytest.raises(DataError, match=f"target is {value} in row y"):
        image_score_features(scores, None, kind="classification")
