"""Colours, smooth noise and how one colour covers another. Pictures are B, G, R, about 0..1."""

import cv2
import numpy as np
import numpy.typing as npt

from biomass_pl.data.rendering import Floats, Image

ColourRange = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Hue in degrees (0 is red, 120 green), saturation and value: the least, and the most."""

Drawing = npt.NDArray[np.uint8]
"""Shapes that OpenCV draws with soft edges, 0..255."""

SUBPIXEL_BITS = 4


def colour_of(colours: ColourRange, rng: np.random.Generator) -> Image:
    """Draws a colour of a range as B, G, R."""
    hue, saturation, value = rng.uniform(*colours)
    pixel = np.array([[[hue % 360, saturation, value]]], np.float32)
    return np.asarray(cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0], np.float32)


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
    return np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def within(values: Image, low: float, high: float) -> Image:
    """Values that leave a range set to its ends."""
    return np.asarray(np.clip(values, low, high), np.float32)


def blurred(picture: Image, sigma: float) -> Image:
    """A picture blurred by a Gaussian with a standard deviation in pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32)


def ramp(values: Image, low: float, high: float) -> Image:
    """0 at `low`, 1 at `high`, straight in between and level beyond; `low` may be the larger one."""
    scale = 1 / (high - low)
    return within(values * np.float32(scale) - np.float32(low * scale), 0, 1)


def coloured(amount: Image, colour: Image) -> Image:
    """A colour in the given amount per pixel, (height, width, 3)."""
    return np.asarray(cv2.merge([amount * part for part in colour]), np.float32)


def scaled(picture: Image, factor: Image) -> Image:
    """A picture with all three channels multiplied by a factor per pixel."""
    return picture * np.asarray(cv2.merge([factor, factor, factor]), np.float32)


def painted(picture: Image, colour: Image, opacity: Image) -> Image:
    """A picture under paint of one colour; `opacity` is 0..1 per pixel."""
    return scaled(picture, 1 - opacity) + coloured(opacity, colour)


def opacity_of(drawing: Drawing) -> Image:
    """What a drawing covers of each pixel, 0..1."""
    return drawing.astype(np.float32) * np.float32(1 / 255)


def subpixels(points: Floats) -> npt.NDArray[np.int32]:
    """Points in pixels as OpenCV takes them together with SUBPIXEL_BITS."""
    return np.asarray(np.rint(points * 2**SUBPIXEL_BITS), np.int32)
