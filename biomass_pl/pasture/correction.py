"""Mends the sums of predictions that were made independently."""

import torch
from torch import Tensor

from biomass_pl.pasture.targets import CLOVER, DEAD, GDM, GREEN, TOTAL


def derive_dead(grams: Tensor) -> Tensor:
    """Grams (B, 5) with Dead = max(0, Total - GDM)."""
    derived = grams.clone()
    derived[:, DEAD] = (grams[:, TOTAL] - grams[:, GDM]).clamp(min=0)
    return derived


def correct_dead(grams: Tensor, *, threshold: float) -> Tensor:
    """Grams (B, 5) with Dead = max(0, Total - GDM) where the parts are too far from the total.

    Args:
        grams: Predictions (B, 5).
        threshold: Largest |Total - (Green + Dead + Clover)| that stays as it is, as a share of Total.
    """
    gap = (grams[:, TOTAL] - grams[:, [GREEN, DEAD, CLOVER]].sum(dim=1)).abs()
    # As a product: a share of a total of 0 does not exist.
    broken = gap > threshold * grams[:, TOTAL]
    return torch.where(broken[:, None], derive_dead(grams), grams)
