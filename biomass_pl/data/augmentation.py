"""What random changes and flips of photos share: whose draws they are, and along which axis."""

import random
import zlib
from typing import Any, Literal

import numpy as np

View = Literal["plain", "left-right", "top-bottom"]
"""How a photo is shown to the network in prediction."""

FLIPS: tuple[View, ...] = ("plain", "left-right", "top-bottom")
"""The views that are averaged in prediction with flips."""

_AXES = {"left-right": -2, "top-bottom": -3}


def item_generator(seed: int, epoch: int, name: str) -> np.random.Generator:
    """Draws the changes of one item: they depend on these three alone, never on workers or order.

    Args:
        seed: Seed of the run.
        epoch: Epoch, from 0.
        name: Name of the item in tables.
    """
    return np.random.default_rng([seed, epoch, zlib.crc32(name.encode())])


def seed_changes(changes: Any, seed: int) -> None:
    """Gives all changes of a composition of albumentations one generator to draw from in turn.

    `set_random_seed` would give each its own with the same seed: all would draw the same numbers, so that a view
    would be flipped both ways, turned and cropped, or none of it.
    """
    changes.set_random_state(np.random.default_rng(seed), random.Random(seed))


def as_view(pixels: np.ndarray, view: View) -> np.ndarray:
    """Pixels (..., height, width, channels) in one of the views."""
    return pixels if view == "plain" else np.flip(pixels, _AXES[view])
