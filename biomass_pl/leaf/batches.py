"""Which photos a training epoch sees, where classes are of different sizes."""

import numpy as np

from biomass_pl.data.sampling import EpochOrder


def equally_often(targets: np.ndarray) -> EpochOrder:
    """As many draws as there are photos, with replacement, of which every class gets the same share on average.

    Args:
        targets: Class number of each training photo.
    """
    chances = 1 / np.bincount(targets)[targets]
    chances /= chances.sum()
    return EpochOrder(indices=lambda rng: rng.choice(len(targets), len(targets), p=chances))
