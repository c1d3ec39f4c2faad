"""The two sums of the targets: grams that follow from others. No torch."""

import numpy as np

from biomass_pl.pasture import targets

GRAM_DECIMALS = 6
"""Grams that are worked out are told to the microgram."""

SUMS = tuple(tuple(map(targets.TARGETS.index, (whole, *parts))) for whole, parts in targets.SUMS.items())
"""GDM = Green + Clover, Total = GDM + Dead: the places of whole and parts among the targets."""

ROUNDING_GRAMS = 0.01
"""The published grams have four decimals; a larger gap in a sum is not rounding."""


def with_sums(grams: np.ndarray) -> np.ndarray:
    """Grams (photos, 5) of which those that are NaN are filled in where a sum tells them.

    What rounding alone would make less than nothing is 0; a part that is more than its whole leaves a rest below 0.
    """
    filled = grams.astype(np.float64)
    for _ in range(2):  # the first sum may need what the second tells
        for whole, *parts in SUMS:
            _fill(filled, whole, filled[:, parts[0]] + filled[:, parts[1]])
            for part, other in (parts, reversed(parts)):
                _fill(filled, part, filled[:, whole] - filled[:, other])
    return filled


def _fill(grams: np.ndarray, target: int, values: np.ndarray) -> None:
    rounded = np.round(values, GRAM_DECIMALS)
    usable = np.where((rounded < 0) & (rounded > -ROUNDING_GRAMS), 0.0, rounded)
    grams[:, target] = np.where(np.isnan(grams[:, target]), usable, grams[:, target])
