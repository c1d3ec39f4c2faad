"""Colours, smooth noise and how one colour covers another. Pictures are B, G, R, about 0..1."""

import cv2
import numpy as np

from biomass_pl.data.rendering import Image

ColourRange = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Hue in degrees (0 is red, 120 green), saturation and value: the least, and the most."""


def colour_of(colours: ColourRange, rng: np.random.Generator) -> Image:
    """Draws a colour of a range as B, G, R."""
    hue, saturation, value = rng.uniform(*colours)
    pixel = np.array([[[hue % 360, saturation, value]]], np.float32)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].astype(np.float32, copy=False)


def noise(shape: tuple[int, ...], grain: float, rng: np.random.Generator) -> Image:
    """Smooth noise of about unit size.

    Args:
        shape: Height and width in pixels.
        grain: Size of its grains in pixels.
        rng: Fixes it.
    """
    height, width = shape
    cells = max(round(height / grain), 2), max(round(width / grain), 2)
    grid = rng.standard_normal(cells, np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)


def ramp(values: Image, low: float, high: float) -> Image:
    """0 at `low`, 1 at `high`, straight in between and level beyond; `low` may be the larger one."""
    scale = 1 / (high - low)
    return np.clip(values * np.float32(scale) - np.float32(low * scale), 0, 1).astype(np.float32, copy=False)


def coloured(amount: Image, colour: Image) -> Image:
    """A colour in the given amount per pixel, (height, width, 3)."""
    return cv2.merge([amount * part for part in colour]).astype(np.float32, copy=False)


def scaled(picture: Image, factor: Image) -> Image:
    """A picture with all three channels multiplied by a factor per pixel."""
    return (picture * cv2.merge([factor, factor, factor])).astype(np.float32, copy=False)


def painted(picture: Image, colour: Image, opacity: Image) -> Image:
    """A picture under paint of one colour; `opacity` is 0..1 per pixel."""
    flat = (*colour.tolist(), 0.0)
    return cv2.add(scaled(cv2.subtract(picture, flat), 1 - opacity), flat).astype(np.float32, copy=False)
