"""The area above 80 % true positive rate: worked examples, an exact integral, and the bootstrap the plain way."""

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from biomass_pl.lesion.partial_auc import (
    area_under_roc,
    bootstrap_partial_auc,
    lesion_scores,
    partial_auc,
    partial_auc_of_draws,
)

A = (
    [1] * 5 + [0] * 10,
    [0.95, 0.80, 0.60, 0.40, 0.15, 0.90, 0.70, 0.50, 0.35, 0.30, 0.25, 0.20, 0.10, 0.05, 0.02],
)
# The area worked out in fractions, for instance A: the last positive comes after 7 of 10 negatives, 3/10 * 1/5.
EXAMPLES = {
    "A": (*A, 0.06, 0.74),
    "B, ties": ([1] * 4 + [0] * 6, [0.9, 0.7, 0.5, 0.3, 0.8, 0.5, 0.3, 0.3, 0.1, 0.05], 7 / 75, 37 / 48),
    "C, ties": ([1] * 3 + [0] * 4, [0.9, 0.6, 0.3, 0.8, 0.5, 0.3, 0.1], 0.065, 17 / 24),
    "D": (
        [1] * 7 + [0] * 5,
        [0.9, 0.85, 0.8, 0.7, 0.6, 0.4, 0.2, 0.75, 0.4, 0.3, 0.2, 0.1],
        0.0794285714285714,
        0.8,
    ),
    "one positive": ([0, 0, 0, 0, 1], [0.1, 0.2, 0.6, 0.7, 0.5], 0.1, 0.5),
    "perfect": ([0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.8, 0.9], 0.2, 1.0),
    "constant": ([0, 0, 0, 1, 1], [0.5] * 5, 0.02, 0.5),
    "inverted": ([0, 0, 0, 1, 1], [0.9, 0.8, 0.7, 0.2, 0.1], 0.0, 0.0),
}


def arrays(truth: list[int], score: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(truth), np.array(score)


def exact_area(truth: list[int], score: list[float], level: Fraction) -> Fraction:
    """Integral of max(TPR - level, 0) over the polyline of the ROC, each segment in fractions."""
    positives = sum(truth)
    points = [(Fraction(0), Fraction(0))]
    for threshold in sorted(set(score), reverse=True):
        taken = [label for label, value in zip(truth, score, strict=True) if value >= threshold]
        points.append((Fraction(taken.count(0), len(truth) - positives), Fraction(taken.count(1), positives)))
    area = Fraction(0)
    for (left, low), (right, high) in itertools.pairwise(points):
        if high <= level:
            continue
        if low < level:
            left, low = left + (right - left) * (level - low) / (high - low), level
        area += (right - left) * ((low + high) / 2 - level)
    return area


@pytest.mark.parametrize("name", EXAMPLES)
def test_worked_examples(name):
    truth, score, area, auc = EXAMPLES[name]
    assert partial_auc(*arrays(truth, score)) == pytest.approx(area, abs=1e-9)
    assert area_under_roc(*arrays(truth, score)) == pytest.approx(auc, abs=1e-9)
    assert lesion_scores(*arrays(truth, score)) == pytest.approx({"pauc": area, "auc": auc}, abs=1e-9)


@pytest.mark.parametrize(("min_tpr", "area"), [(0.0, 0.74), (0.5, 0.28), (0.88, 0.036), (0.9, 0.03)])
def test_other_true_positive_rates(min_tpr, area):
    assert partial_auc(*arrays(*A), min_tpr=min_tpr) == pytest.approx(area, abs=1e-9)


def test_a_thousand_random_tables_with_ties_equal_the_exact_integral():
    generator = np.random.default_rng(3)
    for case in range(1000):
        rows = int(generator.integers(2, 40))
        truth = (generator.random(rows) < generator.uniform(0.1, 0.9)).astype(int)
        truth[:2] = 0, 1
        score = generator.integers(0, generator.integers(1, 30), rows) / 8
        for level in (Fraction(4, 5), Fraction(1, 2)):  # the curve often has corners at exactly one half
            expected = float(exact_area(truth.tolist(), score.tolist(), level))
            assert partial_auc(truth, score, min_tpr=float(level)) == pytest.approx(expected, abs=1e-9), case


@given(rows=st.lists(st.tuples(st.integers(0, 1), st.integers(-20, 20)), min_size=2))
def test_only_the_order_of_the_scores_matters(rows):
    truth, score = arrays(*zip(*rows, strict=True))
    assume(0 < truth.sum() < len(truth))
    expected = partial_auc(truth, score)
    assert 0 <= expected <= 0.2 + 1e-15
    for changed in (score**3, 1 / (1 + np.exp(-score / 4)), np.exp(score - 60.0), score.astype(np.float16)):
        assert partial_auc(truth, changed) == expected  # 1 - exp(score - 60) would be 1 for every row
    assert partial_auc(truth[::-1], score[::-1]) == expected


def test_unsigned_and_boolean_arrays_do_as_well():
    truth, score = arrays(A[0], [100 * value for value in A[1]])
    assert partial_auc(truth.astype(bool), score.round().astype(np.uint8)) == pytest.approx(0.06, abs=1e-9)
    assert area_under_roc(truth.astype(np.float32), score) == pytest.approx(0.74, abs=1e-9)


@pytest.mark.parametrize("truth", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_has_no_score(truth):
    table = arrays(truth, [0.1, 0.2, 0.3][: len(truth)])
    assert math.isnan(partial_auc(*table)) and math.isnan(area_under_roc(*table))
    assert len(bootstrap_partial_auc(*table, np.arange(len(truth)), draws=5)) == 0


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_diverged_prediction_has_no_score_and_is_no_error(wrong):
    table = arrays([0, 1, 0, 1], [0.1, 0.2, wrong, 0.3])
    assert all(math.isnan(value) for value in lesion_scores(*table).values())
    assert len(bootstrap_partial_auc(*table, np.arange(4), draws=5)) == 0


def repeated(truth, score, groups, *, draws, seed):
    """The bootstrap the plain way: rows of the drawn groups written out, as often as they were drawn."""
    names = list(dict.fromkeys(groups.tolist()))
    generator = np.random.default_rng(seed)
    values = []
    for times in generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws):
        rows = np.repeat(np.arange(len(truth)), times[[names.index(group) for group in groups]])
        values.append(partial_auc(truth[rows], score[rows]))
    return [value for value in values if not math.isnan(value)]


@pytest.mark.parametrize("seed", range(20))
def test_the_bootstrap_equals_repeated_rows(seed):
    generator = np.random.default_rng(seed)
    rows = int(generator.integers(4, 60))
    truth = (generator.random(rows) < generator.uniform(0.05, 0.8)).astype(int)
    truth[:2] = 0, 1
    score = generator.integers(0, 12, rows) / 4 if seed % 2 else generator.normal(size=rows) + truth
    groups = np.array([f"IP_{number}" for number in generator.integers(0, 9, rows)])
    expected = repeated(truth, score, groups, draws=60, seed=seed)
    drawn = bootstrap_partial_auc(truth, score, groups, draws=60, seed=seed)
    assert drawn.tolist() == pytest.approx(expected, abs=1e-12)


def test_draws_without_a_positive_are_left_out():
    # One of two patients holds the only positive: a quarter of the draws misses it, another quarter takes it twice.
    truth, score = arrays([0, 0, 1, 0], [0.4, 0.1, 0.3, 0.2])
    drawn = bootstrap_partial_auc(truth, score, np.array(["a", "a", "b", "b"]), draws=4000)
    assert len(drawn) == pytest.approx(3000, abs=5 * math.sqrt(4000 * 3 / 16))  # five standard deviations
    # b alone: nothing benign above. a and b: one of three benign lesions above.
    assert sorted(set(drawn.round(12))) == pytest.approx([0.2 * 2 / 3, 0.2])


def test_four_hundred_thousand_lesions_take_milliseconds_per_draw():
    generator = np.random.default_rng(0)
    patients = generator.choice(1042, 400_000, p=generator.dirichlet(np.ones(1042)))
    truth = np.zeros(400_000, dtype=int)
    truth[generator.choice(400_000, 393, replace=False)] = 1
    score = generator.normal(size=400_000) + 2 * truth
    start = time.process_time()
    drawn = bootstrap_partial_auc(truth, score, patients, draws=100)
    assert time.process_time() - start < 2  # 20 ms each
    area = partial_auc(truth, score)
    assert drawn.mean() == pytest.approx(area, abs=3 * drawn.std()) and 0 < drawn.std() < 0.02


def test_the_score_of_draws_counts_lesions_as_often_as_they_were_drawn():
    generator = np.random.default_rng(0)
    truth = (np.arange(30) % 4 == 0).astype(int)
    score = np.round(truth + generator.normal(size=30), 1)
    counts = generator.integers(0, 3, (8, 30))
    expected = [partial_auc(np.repeat(truth, times), np.repeat(score, times)) for times in counts]
    assert partial_auc_of_draws(truth, score, counts) == pytest.approx(expected)


def test_a_draw_of_one_class_and_scores_that_are_no_numbers_have_no_score():
    truth, score = np.array([0, 1, 0]), np.array([0.1, 0.5, 0.3])
    assert np.isnan(partial_auc_of_draws(truth, score, np.array([[1, 0, 1], [1, 1, 0]]))).tolist() == [True, False]
    assert np.isnan(partial_auc_of_draws(truth, score * np.nan, np.ones((2, 3), dtype=int))).all()
