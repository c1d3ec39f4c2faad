"""Which lesions a training epoch sees, where malignant ones are rare."""

import numpy as np

from biomass_pl.data.sampling import EpochOrder


def malignant_in_batch(batch_size: int, positive_ratio: float) -> int:
    """Malignant lesions in a batch, rounded down; 100 x .29 must not fall below 29 by its last bit."""
    return int(batch_size * positive_ratio + 1e-9)


def balanced_batches(targets: np.ndarray, batch_size: int, positive_ratio: float) -> EpochOrder:
    """Batches with a fixed number of malignant lesions, each of which is seen at most once per epoch.

    The benign ones are drawn anew; they repeat only where there are too few of them.

    Args:
        targets: 0 or 1 of the training lesions.
        batch_size: Lesions in a batch.
        positive_ratio: Share of malignant ones in it, rounded down to a whole number, one or more.
    """
    malignant, benign = np.flatnonzero(targets == 1), np.flatnonzero(targets == 0)
    in_batch = malignant_in_batch(batch_size, positive_ratio)
    batches = len(malignant) // in_batch

    def draw(rng: np.random.Generator) -> np.ndarray:
        positives = rng.permutation(malignant)[: batches * in_batch].reshape(batches, in_batch)
        negatives = np.resize(rng.permutation(benign), (batches, batch_size - in_batch))
        return np.asarray(rng.permuted(np.hstack([positives, negatives]), axis=1).ravel())

    return EpochOrder(indices=draw, block_size=batch_size)


def resampled_negatives(targets: np.ndarray, neg_pos_ratio: float) -> EpochOrder:
    """All malignant lesions, and so many benign ones for each, drawn anew every epoch.

    Args:
        targets: 0 or 1 of the training lesions.
        neg_pos_ratio: Benign lesions per malignant one, as far as there are so many.
    """
    malignant, benign = np.flatnonzero(targets == 1), np.flatnonzero(targets == 0)
    drawn = min(len(benign), max(1, round(neg_pos_ratio * len(malignant))))

    def draw(rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(np.concatenate([malignant, rng.choice(benign, drawn, replace=False)]))

    return EpochOrder(indices=draw)
