"""Scores of predicted classes: worked by hand, against scikit-learn, and their spread over groups."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from biomass_pl.evaluation.class_scores import (
    SCORES,
    bootstrap_class_scores,
    class_scores,
    confusion,
    log_loss,
    per_class_scores,
)

TRUTH = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 1, 0])


def sure(predicted: np.ndarray, classes: int, probability: float = 0.7) -> np.ndarray:
    """Probabilities whose most probable class is the predicted one."""
    rest = (1 - probability) / (classes - 1)
    return np.where(np.eye(classes, dtype=bool)[predicted], probability, rest)


def test_scores_worked_by_hand():
    # Class 0: 2 of 3 found, 2 of 3 answers right. Class 1: both found, 2 of 3 right. Class 2: never answered.
    scores = class_scores(TRUTH, sure(PREDICTED, 3))
    assert scores == pytest.approx(
        {
            "accuracy": 4 / 6,
            "f1_macro": (2 / 3 + 4 / 5 + 0) / 3,
            "balanced_accuracy": (2 / 3 + 1 + 0) / 3,
            "f1_weighted": (3 * 2 / 3 + 2 * 4 / 5 + 0) / 6,
            "precision_macro": (2 / 3 + 2 / 3 + 0) / 3,
            "precision_weighted": (3 * 2 / 3 + 2 * 2 / 3 + 0) / 6,
            "recall_macro": (2 / 3 + 1 + 0) / 3,
            "recall_weighted": (3 * 2 / 3 + 2 * 1 + 0) / 6,
            "log_loss": -(4 * math.log(0.7) + 2 * math.log(0.15)) / 6,
        }
    )
    assert tuple(scores) == SCORES


def test_scores_of_each_class_worked_by_hand():
    scores = per_class_scores(TRUTH, PREDICTED, 4)
    assert scores.precision == pytest.approx([2 / 3, 2 / 3, 0, 0])
    assert scores.recall == pytest.approx([2 / 3, 1, 0, 0])
    assert scores.f1 == pytest.approx([2 / 3, 4 / 5, 0, 0])
    assert scores.photos.tolist() == [3, 2, 1, 0]


def test_a_class_that_nobody_knows_of_counts_as_zero_in_macro_means_only():
    without, more = class_scores(TRUTH, sure(PREDICTED, 3)), class_scores(TRUTH, sure(PREDICTED, 4))
    for name in ("f1_macro", "precision_macro", "recall_macro"):
        assert more[name] == pytest.approx(without[name] * 3 / 4)
    for name in ("accuracy", "balanced_accuracy", "f1_weighted", "precision_weighted", "recall_weighted"):
        assert more[name] == pytest.approx(without[name])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), photos=st.integers(1, 40), classes=st.integers(2, 6))
def test_scores_are_those_of_scikit_learn(seed, photos, classes):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, photos)
    probabilities = generator.dirichlet(np.ones(classes), photos)
    predicted = probabilities.argmax(axis=1)
    expected = {"accuracy": metrics.accuracy_score(truth, predicted)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that were predicted but are not there
        expected["balanced_accuracy"] = metrics.balanced_accuracy_score(truth, predicted)
    for kind in ("macro", "weighted"):
        known = {"labels": range(classes), "average": kind, "zero_division": 0}
        expected[f"f1_{kind}"] = metrics.f1_score(truth, predicted, **known)
        expected[f"precision_{kind}"] = metrics.precision_score(truth, predicted, **known)
        expected[f"recall_{kind}"] = metrics.recall_score(truth, predicted, **known)
    expected["log_loss"] = metrics.log_loss(truth, probabilities, labels=range(classes))
    assert class_scores(truth, probabilities) == pytest.approx(expected)
    matrix = metrics.confusion_matrix(truth, predicted, labels=range(classes))
    assert np.array_equal(confusion(truth, predicted, classes), matrix)


def test_of_equally_probable_classes_the_first_is_predicted():
    assert class_scores(np.array([0, 1]), np.full((2, 3), 1 / 3))["accuracy"] == 0.5


def test_a_true_class_of_probability_zero_costs_much_but_not_everything():
    assert log_loss(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(52 * math.log(2))


@pytest.mark.filterwarnings("error")
def test_probabilities_of_single_precision_are_taken_as_they_are():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(5), 100).astype(np.float32)
    truth = np.arange(100) % 5
    expected = -np.log(probabilities[np.arange(100), truth].astype(np.float64)).mean()
    assert class_scores(truth, probabilities.astype(np.float64))["log_loss"] == pytest.approx(expected)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_has_no_score(value):
    probabilities = sure(PREDICTED, 3)
    probabilities[2, 1] = value
    scores = class_scores(TRUTH, probabilities)
    assert tuple(scores) == SCORES and all(math.isnan(score) for score in scores.values())


def test_the_confusion_matrix_has_true_classes_in_rows():
    assert confusion(TRUTH, PREDICTED, 3).tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert confusion(TRUTH[:0], PREDICTED[:0], 2).tolist() == [[0, 0], [0, 0]]


def test_draws_of_two_groups_are_worked_by_hand():
    # Group a: one photo, right. Group b: three photos, one of them right.
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0])
    draws = bootstrap_class_scores(truth, predicted, np.array(["a", "b", "b", "b"]), classes=2, draws=4000)
    # Twice a: all right, but class 1 is absent. Both: 2 of 4. Twice b: 2 of 6; class 0 is answered six times.
    expected = {1.0: 0.5, 0.5: (2 * 2 / 6) / 2, 1 / 3: (2 * 2 / 8) / 2}
    found = dict(zip(draws["accuracy"], draws["f1_macro"], strict=True))
    assert sorted(found) == pytest.approx(sorted(expected))
    assert [found[key] for key in sorted(found)] == pytest.approx([expected[key] for key in sorted(expected)])
    for accuracy, share in ((1, 0.25), (0.5, 0.5), (1 / 3, 0.25)):
        assert np.isclose(draws["accuracy"], accuracy).mean() == pytest.approx(share, abs=0.03)


def plain_draws(truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray, *, classes: int) -> dict[str, list]:
    """The same with rows: groups drawn one by one, their photos put together and scored."""
    generator = np.random.default_rng(5)
    members = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    found: dict[str, list] = {"accuracy": [], "f1_macro": []}
    for _ in range(600):
        rows = np.concatenate([members[number] for number in generator.integers(0, len(members), len(members))])
        scores = class_scores(truth[rows], np.eye(classes)[predicted[rows]])
        for name, values in found.items():
            values.append(scores[name])
    return found


def test_draws_spread_as_those_of_rows_do():
    generator = np.random.default_rng(1)
    groups = generator.integers(0, 60, 200)
    truth = groups % 3
    wrong = generator.random(60)[groups] < 0.4  # photos of a group are right or wrong together
    predicted = np.where(wrong, (truth + 1) % 3, truth)
    draws = bootstrap_class_scores(truth, predicted, groups, classes=3, draws=4000)
    for name, values in plain_draws(truth, predicted, groups, classes=3).items():
        assert draws[name].mean() == pytest.approx(np.mean(values), abs=0.01)
        assert draws[name].std() == pytest.approx(np.std(values), rel=0.1)


def test_photos_on_their_own_spread_as_a_binomial_does():
    truth = np.zeros(400, dtype=int)
    predicted = (np.arange(400) % 4 == 0).astype(int)
    draws = bootstrap_class_scores(truth, predicted, np.arange(400), classes=2, draws=4000)["accuracy"]
    assert draws.mean() == pytest.approx(0.75, abs=0.002)
    assert draws.std() == pytest.approx(math.sqrt(0.75 * 0.25 / 400), rel=0.05)


def test_copies_within_their_group_change_nothing():
    groups = np.array(["p", "q", "r", "p", "s", "q"])
    once = bootstrap_class_scores(TRUTH, PREDICTED, groups, classes=3, draws=50)
    more = [np.tile(values, 4) for values in (TRUTH, PREDICTED, groups)]
    fourfold = bootstrap_class_scores(*more, classes=3, draws=50)
    for name in ("accuracy", "f1_macro"):
        assert fourfold[name] == pytest.approx(once[name])


def test_a_single_group_has_the_score_itself_in_every_draw():
    draws = bootstrap_class_scores(TRUTH, PREDICTED, np.zeros(6), classes=3, draws=10)
    scores = class_scores(TRUTH, sure(PREDICTED, 3))
    for name, values in draws.items():
        assert values == pytest.approx(np.full(10, scores[name]))


def test_draws_come_from_the_seed():
    first, same, other = (
        bootstrap_class_scores(TRUTH, PREDICTED, np.arange(6), classes=3, draws=20, seed=seed)["f1_macro"].tolist()
        for seed in (1, 1, 2)
    )
    assert first == same != other
