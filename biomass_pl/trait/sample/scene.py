"""Draws a plot of ripening wheat from above: soil, leaves in rows, ears."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from biomass_pl.data.rendering import Floats, Key, stream

Pixels = npt.NDArray[np.uint8]

PLOT_M = 1.0
"""Width of the ground on a photo in metres."""

HEIGHT_SHARE = 0.75
_ROWS = 6
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, kw_only=True)
class Plot:
    """What stands on a photo.

    Args:
        ears: Ears on a square metre.
        ear_g: Grain of an ear in grams, which shows in its length.
        leaves: Leaves on a square metre.
        soil: Colour of the soil, B, G, R from 0 to 255.
    """

    ears: float
    ear_g: float
    leaves: float
    soil: tuple[float, float, float]


def draw_plot(plot: Plot, *, key: Key, width: int) -> Pixels:
    """Renders a photo of three quarters of its width, B, G, R.

    Args:
        plot: What stands there.
        key: Fixes all that is drawn at random.
        width: Width in pixels.
    """
    height = round(width * HEIGHT_SHARE)
    picture = _soil(plot, (height, width), stream(key, "soil"))
    area = PLOT_M**2 * HEIGHT_SHARE
    _strokes(picture, round(plot.leaves * area), 0.16, (70, 150, 90), stream(key, "leaves"), thickness=0.006)
    length = 0.03 + 0.02 * plot.ear_g
    _strokes(picture, round(plot.ears * area), length, (120, 205, 225), stream(key, "ears"), thickness=0.010)
    light = stream(key, "light").uniform(0.85, 1.15)
    return np.asarray(np.clip(picture * light, 0, 255), np.uint8)


def _soil(plot: Plot, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    height, width = shape
    coarse = rng.normal(0, 14, (max(height // 6, 2), max(width // 6, 2))).astype(np.float32)
    clods = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.array(plot.soil) + clods[..., None], np.float64)


def _strokes(
    picture: Floats,
    count: int,
    length: float,
    colour: tuple[int, int, int],
    rng: np.random.Generator,
    *,
    thickness: float,
) -> None:
    """Draws so many strokes around the rows of plants, in metres, each in a shade of its own."""
    height, width = picture.shape[:2]
    pixels = width / PLOT_M
    for _ in range(count):
        row = (int(rng.integers(_ROWS)) + 0.5) / _ROWS + rng.normal(0, 0.03)
        start = np.array([row * width, rng.uniform(0, height)])
        turn = rng.uniform(0, 2 * np.pi)
        reach = length * pixels * rng.uniform(0.8, 1.2)
        end = start + reach * np.array([np.cos(turn), np.sin(turn)])
        shade = np.array(colour) * rng.uniform(0.75, 1.1)
        points = [tuple(int(part) for part in np.rint(point * 2**_SUBPIXEL_BITS)) for point in (start, end)]
        cv2.line(
            picture,
            points[0],
            points[1],
            tuple(float(part) for part in shade),
            max(1, round(thickness * pixels)),
            cv2.LINE_8,
            _SUBPIXEL_BITS,
        )
