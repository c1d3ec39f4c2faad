"""Sums hold among predictions: parts are added, or the nearest predictions that add up are found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from biomass_pl.evaluation.sums import added, nearest_parts, parts_of, sum_matrix

NAMES = ("green", "dead", "clover", "alive", "total")
SUMS = {"alive": ("green", "clover"), "total": ("alive", "dead")}


def test_parts_are_the_targets_that_are_no_sums():
    assert parts_of(NAMES, SUMS) == ["green", "dead", "clover"]


def test_a_sum_of_sums_holds_all_their_parts():
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1]]
    assert sum_matrix(NAMES, SUMS).tolist() == expected


def test_parts_are_added():
    assert added(np.array([[3.0, 1.0, 2.0]]), NAMES, SUMS).tolist() == [[3, 1, 2, 5, 6]]


def test_the_nearest_sum_shares_the_difference():
    """a + b should be c: a third of the gap of 3 goes to each."""
    parts = nearest_parts(np.array([[1.0, 2.0, 6.0]]), ("a", "b", "c"), {"c": ("a", "b")})
    assert parts == pytest.approx(np.array([[2.0, 3.0]]))


@given(
    values=arrays(float, (4, 5), elements=st.floats(-100, 100)), step=arrays(float, (4, 3), elements=st.floats(-1, 1))
)
def test_no_other_predictions_that_add_up_are_nearer(values, step):
    parts = nearest_parts(values, NAMES, SUMS)
    distance = np.square(added(parts, NAMES, SUMS) - values).sum(axis=1)
    other = np.square(added(parts + step, NAMES, SUMS) - values).sum(axis=1)
    assert (distance <= other + 1e-6).all()


@given(parts=arrays(float, (3, 3), elements=st.floats(0, 100)))
def test_what_adds_up_stays_as_it_is(parts):
    assert nearest_parts(added(parts, NAMES, SUMS), NAMES, SUMS) == pytest.approx(parts, abs=1e-9)


def test_an_unknown_row_leaves_the_others_alone():
    values = added(np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0]]), NAMES, SUMS)
    values[0] = np.nan
    parts = nearest_parts(values, NAMES, SUMS)
    assert np.isnan(parts[0]).all() and parts[1] == pytest.approx([1, 1, 1])
