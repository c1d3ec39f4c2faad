"""Batches of bags of similar sizes, so that little of a batch is padding."""

import numpy as np

from biomass_pl.data.sampling import EpochOrder

_MOST_SORTED_TOGETHER = 50


def length_grouped(lengths: np.ndarray, batch_size: int) -> EpochOrder:
    """Whole batches of bags of similar sizes, drawn anew every epoch.

    The epoch's random order is cut into parts of several batches, a quarter of all at most, which are sorted; so a
    bag meets others of its size, and other ones in every epoch. Batches come in random order. What is left over
    where the bags do not fill the last batch is left out, and is another in every epoch.

    Args:
        lengths: Vectors in each bag.
        batch_size: Bags in a batch.
    """
    batches = len(lengths) // batch_size
    part = batch_size * min(_MOST_SORTED_TOGETHER, max(1, batches // 4))

    def draw(rng: np.random.Generator) -> np.ndarray:
        drawn = rng.permutation(len(lengths))[: batches * batch_size]
        parts = [drawn[start : start + part] for start in range(0, len(drawn), part)]
        grouped = [indices[np.argsort(lengths[indices], kind="stable")] for indices in parts]
        in_batches = np.concatenate([*grouped, drawn[:0]]).reshape(batches, batch_size)
        return np.asarray(rng.permutation(in_batches).ravel())

    return EpochOrder(indices=draw, block_size=batch_size)


def longest_first(lengths: np.ndarray) -> np.ndarray:
    """Order in which bags are evaluated: by size, so that neighbours fit each other and the memory fails at once.

    Args:
        lengths: Vectors in each bag.

    Returns:
        Indices of the bags, the largest first.
    """
    return np.argsort(-lengths, kind="stable")
