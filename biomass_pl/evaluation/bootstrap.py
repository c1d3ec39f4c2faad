"""Intervals of scores by drawing whole groups, such as patients, again and again. No torch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from biomass_pl.errors import ConfigError

_MOST_WEIGHTS = 2**22
"""Draws times items that are scored at once: 32 MB of numbers."""

WeightedScores = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Scores of weighted items: takes weights (draws, items), returns a value per draw for each name."""


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How intervals of scores are found.

    Args:
        draws: How often the groups are drawn with replacement; 1: no intervals.
        confidence: Share of the draws within an interval, between 0 and 1.
        seed: Another seed gives other draws.
    """

    draws: int = 1
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ConfigError(f"{self.draws} bootstrap draws were asked for; give 1 (no intervals) or more.")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"The confidence of an interval is {self.confidence}; give a share between 0 and 1.")


def scores_with_intervals(scores: WeightedScores, groups: np.ndarray, bootstrap: Bootstrap) -> dict[str, float]:
    """Scores of all items, and their spread when whole groups are drawn with replacement.

    Args:
        scores: The scores as a function of how often each item counts.
        groups: What is drawn together, such as the patient of each item (items,). The order of items says nothing.
        bootstrap: How often to draw.

    Returns:
        Each score by its name and, with more than one draw, `<name>_mean`, `<name>_ci_lower` and `<name>_ci_upper`
        (percentiles) over the draws in which it is defined; NaN where it is in none, or there is a single group.
    """
    points = scores(np.ones((1, len(groups)), dtype=np.int64))
    if bootstrap.draws == 1:
        return {name: float(values[0]) for name, values in points.items()}
    parts = [scores(times) for times in _times_drawn(groups, bootstrap)] if len(np.unique(groups)) > 1 else []
    found: dict[str, float] = {}
    for name, values in points.items():
        drawn = np.concatenate([part[name] for part in parts]) if parts else np.empty(0)
        found[name] = float(values[0])
        found |= _spread(name, drawn[np.isfinite(drawn)], bootstrap.confidence)
    return found


def _spread(name: str, drawn: np.ndarray, confidence: float) -> dict[str, float]:
    """Mean and percentiles of the draws of a score."""
    if not len(drawn):
        return dict.fromkeys((f"{name}_mean", f"{name}_ci_lower", f"{name}_ci_upper"), float("nan"))
    lower, upper = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return {f"{name}_mean": float(drawn.mean()), f"{name}_ci_lower": float(lower), f"{name}_ci_upper": float(upper)}


def _times_drawn(groups: np.ndarray, bootstrap: Bootstrap) -> Iterator[np.ndarray]:
    """How often each item is drawn, some draws at a time (draws, items)."""
    names, group = np.unique(groups, return_inverse=True)
    generator = np.random.default_rng(bootstrap.seed)
    shares = np.full(len(names), 1 / len(names))
    at_once = max(1, _MOST_WEIGHTS // len(groups))
    for start in range(0, bootstrap.draws, at_once):
        draws = min(at_once, bootstrap.draws - start)
        yield generator.multinomial(len(names), shares, size=draws)[:, group]


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of values for each draw (draws,); NaN without an item.

    Args:
        values: A value per item (items,).
        weights: How often each item counts (draws, items).
    """
    return ratio(weights @ values.astype(np.float64), weights.sum(axis=1))


def ratio(numerator: np.ndarray, denominator: np.ndarray, *, otherwise: float = np.nan) -> np.ndarray:
    """Quotients, element by element.

    Args:
        numerator: What is divided.
        denominator: By what; at least 0, of the same shape.
        otherwise: The quotient where the denominator is 0.
    """
    quotients = np.full(numerator.shape, float(otherwise))
    return np.asarray(np.divide(numerator, denominator, out=quotients, where=denominator > 0))
