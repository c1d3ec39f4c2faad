"""Targets that are sums of others: predictions among which the sums hold. No torch."""

from collections.abc import Mapping, Sequence

import numpy as np

Sums = Mapping[str, Sequence[str]]
"""Targets that are sums, each with its parts; a part may be a sum named before."""


def parts_of(names: Sequence[str], sums: Sums) -> list[str]:
    """The targets that are no sums, in their order."""
    return [name for name in names if name not in sums]


def sum_matrix(names: Sequence[str], sums: Sums) -> np.ndarray:
    """How often each target holds each part, shape (targets, parts).

    Args:
        names: All targets.
        sums: Those that are sums.
    """
    parts = parts_of(names, sums)
    rows = dict(zip(parts, np.eye(len(parts)), strict=True))
    for name, summands in sums.items():
        rows[name] = np.sum([rows[summand] for summand in summands], axis=0)
    return np.stack([rows[name] for name in names])


def added(parts: np.ndarray, names: Sequence[str], sums: Sums) -> np.ndarray:
    """All targets from their parts.

    Args:
        parts: Predictions of the parts, shape (rows, parts).
        names: All targets.
        sums: Those that are sums.

    Returns:
        Shape (rows, targets).
    """
    return np.asarray(parts @ sum_matrix(names, sums).T)


def nearest_parts(predictions: np.ndarray, names: Sequence[str], sums: Sums) -> np.ndarray:
    """Parts whose sums are nearest to what was predicted of all targets, by the sum of squared differences.

    The best linear reconciliation for errors of equal size that know nothing of each other: Hyndman et al. 2011,
    Optimal combination forecasts for hierarchical time series.

    Args:
        predictions: Of all targets, shape (rows, targets).
        names: All targets.
        sums: Those that are sums.

    Returns:
        Shape (rows, parts).
    """
    return np.asarray(predictions @ np.linalg.pinv(sum_matrix(names, sums)).T)
