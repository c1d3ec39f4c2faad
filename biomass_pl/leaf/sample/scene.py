"""Draws the photo of one cotton leaf: what is behind it, the leaf and its damage, then light and camera."""

import math

import cv2
import numpy as np
import numpy.typing as npt

from biomass_pl.data.rendering import Image, Key, stream
from biomass_pl.leaf.sample.blade import Blade, grow
from biomass_pl.leaf.sample.damage import BRONZE, BROWN, RED, YELLOW, Damage, Kind
from biomass_pl.leaf.sample.paint import (
    SUBPIXEL_BITS,
    ColourRange,
    blurred,
    colour_of,
    coloured,
    noise,
    painted,
    scaled,
    subpixels,
    within,
)

# Hue in degrees, saturation and value, least and most. They are the same for all classes.
GREEN = ((62, 0.32, 0.34), (128, 0.80, 0.82))
SOIL = ((0, 0.05, 0.20), (45, 0.60, 0.70))
SKY = ((170, 0.02, 0.70), (230, 0.35, 0.98))
SKIN = ((8, 0.25, 0.35), (32, 0.55, 0.90))
SIDES = (240, 400)
EXPOSURE = 1.7


def draw_scene(kind: Kind, key: Key) -> Image:
    """Draws a leaf in front of something, in the light of the day.

    Args:
        kind: Class of the leaf.
        key: Numbers that fix every random choice.

    Returns:
        The scene, (height, width, 3), B, G, R, about 0..1.
    """
    height, width = stream(key, "frame").integers(*SIDES, 2).tolist()
    blade = grow(kind.growth, height=height, width=width, rng=stream(key, "blade"))
    damage = kind.damage(blade, stream(key, "damage"))
    # It is out of focus: half the size is enough.
    background = _background((height + 1) // 2, (width + 1) // 2, stream(key, "background"))
    scene = np.asarray(cv2.resize(background, (width, height)), np.float32)
    scene = _with_shadow(scene, blade, stream(key, "shadow"))
    leaf = _surface(blade, damage, stream(key, "surface"))
    stalk = colour_of(GREEN, stream(key, "stalk"))
    scene = painted(scene, stalk, blade.stalk)
    scene = np.asarray(cv2.blendLinear(leaf, scene, blade.cover, 1 - blade.cover), np.float32)
    return _lit(scene, stream(key, "light"))


def photograph(scene: Image, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Takes a photo of a scene: another `rng` gives another photo of the same leaf, hardly different.

    Args:
        scene: As `draw_scene` gives it.
        rng: Fixes aim, exposure, focus and noise.

    Returns:
        The photo, (height, width, 3), B, G, R.
    """
    height, width = scene.shape[:2]
    turned = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, 0.5), rng.uniform(1.0, 1.02))
    shifted = rng.normal(0, 0.005, 2) * (width, height)
    aim = np.asarray(turned, np.float64) + np.pad(shifted[:, None], ((0, 0), (2, 0)))
    aimed = cv2.warpAffine(scene, aim, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    exposed = blurred(np.asarray(aimed, np.float32), rng.uniform(0.3, 1.0)) * (255 * math.exp(rng.normal(0, 0.05)))
    grain = rng.uniform(1, 5) * rng.standard_normal((height, width), np.float32)
    return np.asarray(np.clip(exposed + cv2.merge([grain, grain, grain]), 0, 255), np.uint8)


def _surface(blade: Blade, damage: Damage, rng: np.random.Generator) -> Image:
    """Colours of the leaf with the light on its relief."""
    green = colour_of(GREEN, rng)
    shape = blade.cover.shape
    tone = np.exp(0.12 * noise(shape, 0.5 * blade.length, rng) + 0.05 * noise(shape, 4, rng))
    surface = coloured(tone, green)
    vein = np.clip(green * np.float32(rng.uniform(1.1, 1.5)) + np.float32(rng.uniform(0, 0.15)), 0, 1)
    surface = painted(surface, vein, np.float32(rng.uniform(0.25, 0.7)) * blade.veins)
    for layer in damage.layers:
        surface = painted(surface, layer.colour, layer.opacity)
    surface = _with_specks(surface, blade, rng)
    relief = 0.006 * blade.between + 0.03 * noise(shape, 0.3 * blade.length, rng)
    if damage.relief is not None:
        relief = relief + damage.relief
    return scaled(surface, _shading(relief * np.float32(blade.length), rng))


def _shading(relief: Image, rng: np.random.Generator) -> Image:
    """How bright a surface of this height in pixels is under slanting light."""
    across, down = (cv2.Sobel(relief, cv2.CV_32F, *order, ksize=3, scale=1 / 8) for order in ((1, 0), (0, 1)))
    direction, strength = rng.uniform(-np.pi, np.pi), rng.uniform(0.6, 1.6)
    slope = np.float32(strength * np.cos(direction)) * across + np.float32(strength * np.sin(direction)) * down
    return within(1 + slope, 0.35, 1.7)


def _with_specks(surface: Image, blade: Blade, rng: np.random.Generator) -> Image:
    """Soil, dust and bites of insects, on leaves of every class."""
    height, width = blade.cover.shape
    for _ in range(rng.poisson(6)):
        centre = subpixels(rng.uniform(0, (width, height))).tolist()
        radius = round(blade.length * rng.uniform(0.004, 0.018) * 2**SUBPIXEL_BITS)
        colour = colour_of(SOIL if rng.random() < 0.7 else BROWN, rng).tolist()
        cv2.circle(surface, centre, radius, colour, -1, cv2.LINE_AA, SUBPIXEL_BITS)
    return surface


def _background(height: int, width: int, rng: np.random.Generator) -> Image:
    """Soil, sky, a hand or other leaves, out of focus."""
    plain = (SOIL, SKY, SKIN, GREEN)[int(rng.choice(4, p=(0.35, 0.1, 0.1, 0.45)))]
    colour = colour_of(plain, rng)
    if plain is SOIL:
        rough = 0.15 * noise((height, width), 20, rng) + 0.25 * noise((height, width), 3, rng)
        colour = colour * np.float32(0.8)
    else:
        rough = 0.12 * noise((height, width), 60, rng) + 0.03 * noise((height, width), 5, rng)
    ground = coloured(np.exp(rough), colour)
    if plain is SKIN:
        _draw_fingers(ground, colour, rng)
    else:
        _draw_plants(ground, int(rng.integers(0, 10)), rng)
    return blurred(ground, math.exp(rng.uniform(-0.9, 1.2)))


def _draw_fingers(ground: Image, colour: Image, rng: np.random.Generator) -> None:
    """Draws the fingers that hold the leaf, side by side."""
    height, width = ground.shape[:2]
    slope, thick = rng.normal(0, 0.3), round(rng.uniform(0.15, 0.22) * height)
    for start in np.arange(0, 1.3 * height, thick).tolist():
        tone = colour * np.float32(rng.uniform(0.8, 1.1))
        end = round(rng.uniform(0.7, 1.1) * width), round(start + slope * width)
        cv2.line(ground, (0, round(start)), end, tone.tolist(), round(0.85 * thick), cv2.LINE_AA)


def _draw_plants(ground: Image, count: int, rng: np.random.Generator) -> None:
    """Draws other leaves, some of them yellow, red or dry."""
    height, width = ground.shape[:2]
    angles = np.linspace(0, 2 * np.pi, 25)[:-1]
    for _ in range(count):
        lobes = 1 + rng.uniform(0.1, 0.45) * np.cos(int(rng.integers(2, 6)) * angles)
        radius = rng.uniform(0.08, 0.32) * height * lobes
        centre = rng.uniform(0, (width, height))
        turn, squeeze = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1)
        outline = centre + np.stack([radius * np.cos(angles + turn), squeeze * radius * np.sin(angles + turn)], axis=1)
        ranges: tuple[ColourRange, ...] = (GREEN, YELLOW, RED, BRONZE, BROWN)
        colour = colour_of(ranges[int(rng.choice(5, p=(0.68, 0.1, 0.08, 0.08, 0.06)))], rng)
        shade = (colour * np.float32(rng.uniform(0.3, 0.85))).tolist()
        cv2.fillPoly(ground, [subpixels(outline)], shade, cv2.LINE_AA, SUBPIXEL_BITS)


def _with_shadow(scene: Image, blade: Blade, rng: np.random.Generator) -> Image:
    """The leaf's shadow on what is behind it."""
    offset = rng.normal(0, 0.06 * blade.length, 2)
    moved = cv2.warpAffine(blade.cover, np.array([[1, 0, offset[0]], [0, 1, offset[1]]]), blade.cover.shape[::-1])
    shadow = cv2.GaussianBlur(moved, (0, 0), 0.02 * blade.length) * np.float32(rng.uniform(0.2, 0.7))
    return scaled(scene, 1 - shadow)


def _lit(scene: Image, rng: np.random.Generator) -> Image:
    """Colour and strength of the light, shadows of other plants, and the camera's contrast."""
    shape = scene.shape[:2]
    tint = np.exp(rng.normal(0, (0.14, 0.05, 0.14)))
    strength = np.exp(rng.normal(0.1, 0.25) + 0.1 * noise(shape, 200, rng))
    if rng.random() < 0.3:
        leafy = noise(shape, rng.uniform(60, 160), rng)
        dim = np.float32(rng.uniform(0.35, 0.7))
        strength = strength * (1 - (1 - dim) * np.clip(4 * (leafy - rng.uniform(-0.3, 0.6)), 0, 1))
    saturation = rng.uniform(0.65, 1.2)
    channels = (saturation * np.eye(3) + (1 - saturation) / 3) @ np.diag(tint)
    lit = np.maximum(cv2.transform(scaled(scene, strength), channels), 0)
    return np.asarray(1 - np.exp(lit * -EXPOSURE), np.float32)
