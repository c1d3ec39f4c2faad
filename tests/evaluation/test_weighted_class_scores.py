"""Scores of weighted items: against scikit-learn, and against rows that are repeated."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from biomass_pl.evaluation.weighted_class_scores import (
    MULTI_CLASS_SCORES,
    TWO_CLASS_SCORES,
    multi_class_scores,
    two_class_scores,
    weighted_auc,
)


def drawn(items: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, probabilities with ties, and weights of three draws."""
    generator = np.random.default_rng(seed)
    logits = generator.integers(0, 4, size=(items, classes)).astype(float)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return generator.integers(classes, size=items), probabilities, generator.integers(0, 4, size=(3, items))


@given(st.integers(1, 40), st.integers(0, 10_000), st.integers(0, 1))
@settings(max_examples=60, deadline=None)
def test_two_classes_are_scored_as_scikit_learn_does_with_repeated_rows(items, seed, positive):
    truth, probabilities, weights = drawn(items, 2, seed)
    weights = np.maximum(weights, weights.sum(axis=1, keepdims=True) == 0)
    found = two_class_scores(truth, probabilities, weights, positive=positive)
    for draw, times in enumerate(weights):
        rows = np.repeat(np.arange(items), times)
        true, predicted = truth[rows] == positive, probabilities[rows].argmax(axis=1) == positive
        precision, recall, f1, _ = metrics.precision_recall_fscore_support(
            true, predicted, labels=[True], zero_division=0
        )
        area = metrics.roc_auc_score(true, probabilities[rows, positive]) if len(set(true)) == 2 else math.nan
        expected = [precision[0], recall[0], f1[0], area]
        assert [found[name][draw] for name in TWO_CLASS_SCORES] == pytest.approx(expected, nan_ok=True)


@given(st.integers(1, 40), st.integers(3, 5), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_more_classes_are_scored_as_scikit_learn_does_with_repeated_rows(items, classes, seed):
    truth, probabilities, weights = drawn(items, classes, seed)
    weights = np.maximum(weights, weights.sum(axis=1, keepdims=True) == 0)
    found = multi_class_scores(truth, probabilities, weights)
    for draw, times in enumerate(weights):
        rows = np.repeat(np.arange(items), times)
        true, predicted = truth[rows], probabilities[rows].argmax(axis=1)
        present = np.unique(true)
        areas = [
            metrics.roc_auc_score(true == number, probabilities[rows, number]) for number in present if len(present) > 1
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a class that is predicted only
            balanced = metrics.balanced_accuracy_score(true, predicted)
        expected = [
            metrics.accuracy_score(true, predicted),
            balanced,
            metrics.f1_score(true, predicted, labels=present, average="macro", zero_division=0),
            np.mean(areas) if areas else math.nan,
        ]
        assert [found[name][draw] for name in MULTI_CLASS_SCORES] == pytest.approx(expected, nan_ok=True)


def test_all_classes_present_are_scored_as_scikit_learn_does_on_its_own():
    truth, probabilities, _ = drawn(60, 4, 1)
    found = multi_class_scores(truth, probabilities, np.ones((1, 60), dtype=int))
    predicted = probabilities.argmax(axis=1)
    assert found["macro_f1"][0] == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    assert found["macro_auc_roc"][0] == pytest.approx(metrics.roc_auc_score(truth, probabilities, multi_class="ovr"))


def test_the_area_of_ties_worked_by_hand():
    # Of four pairs, .9 against .1 and .5 and .5 against .1 are right; .5 against .5 is half right.
    positive, score = np.array([True, True, False, False]), np.array([0.9, 0.5, 0.5, 0.1])
    assert weighted_auc(positive, score, np.ones((1, 4), dtype=int)) == pytest.approx([3.5 / 4])
    assert weighted_auc(positive, np.zeros(4), np.ones((1, 4), dtype=int)) == pytest.approx([0.5])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_has_no_score(value):
    truth, weights = np.array([0, 1]), np.ones((2, 2), dtype=int)
    found = [
        two_class_scores(truth, np.array([[value, 1], [0, 1]]), weights, positive=1),
        multi_class_scores(truth, np.array([[value, 1, 0], [0, 1, 0]]), weights),
    ]
    for scores in found:
        assert all(np.isnan(values).tolist() == [True, True] for values in scores.values()) and len(scores) == 4


def test_nothing_to_score_has_no_score():
    weights = np.ones((1, 0), dtype=int)
    empty = np.array([], dtype=int)
    for scores in (
        two_class_scores(empty, np.empty((0, 2)), weights, positive=1),
        multi_class_scores(empty, np.empty((0, 3)), weights),
    ):
        assert all(np.isnan(values).all() and values.shape == (1,) for values in scores.values())
