"""Grams that follow from others, worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomass_pl.pasture.sums import with_sums

NO = np.nan


@pytest.mark.parametrize(
    ("grams", "filled"),
    [  # Green, Dead, Clover, GDM, Total
        ((10, 4, 2, NO, NO), (10, 4, 2, 12, 16)),
        ((NO, NO, NO, NO, 16), (NO, NO, NO, NO, 16)),
        ((NO, 4, NO, NO, 16), (NO, 4, NO, 12, 16)),
        ((NO, NO, NO, 12, 16), (NO, 4, NO, 12, 16)),
        ((10, 4, NO, NO, 16), (10, 4, 2, 12, 16)),
        ((NO, 4, 2, NO, 16), (10, 4, 2, 12, 16)),
        ((10, NO, 2, NO, 16), (10, 4, 2, 12, 16)),
        ((10, NO, 2, NO, NO), (10, NO, 2, 12, NO)),
        ((NO, NO, NO, NO, 0), (NO, NO, NO, NO, 0)),
        ((10, 4, 2, 13, 99), (10, 4, 2, 13, 99)),  # what is known stays, even where it does not add up
        ((NO, NO, 2, 1.995, NO), (0, NO, 2, 1.995, NO)),  # rounding alone
        ((NO, NO, 2, 1, NO), (-1, NO, 2, 1, NO)),  # refused by who reads the table
    ],
)
def test_the_sums_fill_in_what_they_tell_and_nothing_else(grams, filled):
    np.testing.assert_array_equal(with_sums(np.array([grams], dtype=float)), [filled])


GRAMS = st.integers(0, 10**8).map(lambda micrograms: micrograms / 1e6)


@given(
    parts=st.tuples(GRAMS, GRAMS, GRAMS), known=st.sampled_from([(0, 1, 2), (0, 1, 4), (0, 3, 4), (1, 2, 3), (0, 2, 1)])
)
def test_three_targets_that_tell_the_others_tell_all(parts, known):
    green, dead, clover = parts
    whole = np.array([[green, dead, clover, green + clover, green + dead + clover]])
    given_grams = np.full_like(whole, NO)
    given_grams[:, known] = whole[:, known]
    np.testing.assert_allclose(with_sums(given_grams), whole, atol=2e-6)
