"""The most memory that a part of a process took."""

import numpy as np

from biomass_pl.harness.memory import peak_memory, reset_peak_memory

HUNDRED_MEGABYTES = 100_000_000


def test_the_peak_is_that_since_the_reset():
    reset_peak_memory()
    before = peak_memory()
    large = np.ones(4 * HUNDRED_MEGABYTES, dtype=np.uint8)
    assert peak_memory() - before > 3 * HUNDRED_MEGABYTES
    del large
    reset_peak_memory()
    small = np.ones(HUNDRED_MEGABYTES, dtype=np.uint8)
    assert HUNDRED_MEGABYTES / 2 < peak_memory() - before < 2 * HUNDRED_MEGABYTES
    assert small.all()
