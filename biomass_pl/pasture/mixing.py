"""MixUp and CutMix between photos of one kind of pasture: same species group, month and state."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from biomass_pl.pasture.classes import UNKNOWN

_LEVELS = 255


@dataclass(frozen=True, kw_only=True)
class MixingConfig:
    """How often and how strongly training photos are mixed.

    Args:
        mixup_prob: Probability of MixUp, 0 to 1; it is tried first.
        mixup_alpha: Both parameters of the Beta distribution of MixUp's share.
        cutmix_prob: Probability of CutMix where MixUp was not drawn, 0 to 1.
        cutmix_alpha: Both parameters of the Beta distribution of CutMix's share.
    """

    mixup_prob: float
    mixup_alpha: float
    cutmix_prob: float
    cutmix_alpha: float

    @property
    def is_on(self) -> bool:
        """Whether photos are ever mixed."""
        return max(self.mixup_prob, self.cutmix_prob) > 0


class Mix(Protocol):
    """One way of mixing a photo with a partner, drawn once for both views and the target."""

    @property
    def own_share(self) -> float:
        """Share of the photo itself, called lambda in the literature; its partner has the rest."""

    def views(self, own: np.ndarray, partner: np.ndarray) -> np.ndarray:
        """Mixes uint8 views (2, height, width, 3)."""


@dataclass(frozen=True)
class MixUp:
    """Every pixel is the weighted mean of both photos.

    Args:
        level: Weight of the photo itself in 255ths. Pixels are bytes: a finer weight would be rounded away in them
            but not in the target, and the two would disagree.
    """

    level: int

    @property
    def own_share(self) -> float:
        """Share of the photo itself."""
        return self.level / _LEVELS

    def views(self, own: np.ndarray, partner: np.ndarray) -> np.ndarray:
        """Mixes uint8 views of one shape."""
        # Sixteen bits hold 255 x 255; half of the divisor added rounds to the nearest.
        weighted = self.level * own.astype(np.uint16) + (_LEVELS - self.level) * partner.astype(np.uint16)
        return ((weighted + _LEVELS // 2) // _LEVELS).astype(np.uint8)


@dataclass(frozen=True)
class CutMix:
    """A box of the partner takes the place of the same box in both views.

    Args:
        rows: First row of the box, and the one after its last.
        columns: First column of the box, and the one after its last.
        view_shape: Height and width of a view in pixels.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    view_shape: tuple[int, int]

    @property
    def own_share(self) -> float:
        """Share of the photo itself: exactly the area outside of the box."""
        box_area = (self.rows[1] - self.rows[0]) * (self.columns[1] - self.columns[0])
        return 1 - box_area / math.prod(self.view_shape)

    def views(self, own: np.ndarray, partner: np.ndarray) -> np.ndarray:
        """Mixes uint8 views of `view_shape`."""
        mixed = own.copy()
        box = (slice(None), slice(*self.rows), slice(*self.columns))
        mixed[box] = partner[box]
        return mixed


def draw_mix(config: MixingConfig, view_shape: tuple[int, int], rng: np.random.Generator) -> Mix | None:
    """Draws whether and how a photo is mixed.

    Args:
        config: How often and how strongly.
        view_shape: Height and width of a view in pixels.
        rng: Where the draws come from.

    Returns:
        The mix; none where neither way was drawn.
    """
    if rng.random() < config.mixup_prob:
        return MixUp(round(_LEVELS * rng.beta(config.mixup_alpha, config.mixup_alpha)))
    if rng.random() < config.cutmix_prob:
        side = math.sqrt(1 - rng.beta(config.cutmix_alpha, config.cutmix_alpha))
        rows, columns = (_draw_extent(length, side, rng) for length in view_shape)
        return CutMix(rows, columns, view_shape)
    return None


def _draw_extent(length: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    """Start and end of a stretch around a random centre, cut off at the borders."""
    half = length * share / 2
    centre = rng.uniform(0, length)
    return max(0, round(centre - half)), min(length, round(centre + half))


class Partners:
    """Which photos may be mixed with which: those that agree in all classes and lack none.

    Args:
        classes: Class numbers (photos, kinds of class); -1 is unknown and agrees with nothing.
    """

    def __init__(self, classes: np.ndarray) -> None:
        alike: dict[tuple[int, ...], list[int]] = {}
        for position, key in enumerate(map(tuple, classes.tolist())):
            if UNKNOWN not in key:
                alike.setdefault(key, []).append(position)
        self._others = {
            position: [other for other in positions if other != position]
            for positions in alike.values()
            for position in positions
        }

    def draw(self, position: int, rng: np.random.Generator) -> int | None:
        """A photo to mix that one with, never itself; none where there is no other of its kind."""
        others = self._others.get(position)
        return others[rng.integers(len(others))] if others else None
