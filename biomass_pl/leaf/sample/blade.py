"""Grows the blade of a leaf: where its lobes, its margin and its veins lie in a picture."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from biomass_pl.data.rendering import Floats, Image
from biomass_pl.leaf.sample.paint import SUBPIXEL_BITS, Drawing, blurred, opacity_of, ramp, subpixels, within

# Angle in degrees from the tip and length of the lobes on one side, beside the middle lobe of length 1.
LOBES = (((50, 0.86), (112, 0.56)), ((62, 0.72), (128, 0.52)), ((38, 0.80), (80, 0.70), (128, 0.45)))
AXIS_POINTS = 14
SIDE_VEINS = 5
# Points along a side vein, and how far it leans towards the tip of the lobe at its end, both as shares of its length.
VEIN_STEPS = np.linspace(0, 1, 5)
VEIN_CURVE = 0.25
# Distance from the next vein, in leaf lengths, from which on a place lies in between.
BETWEEN_VEINS = 0.05

# From lengths of the middle lobe to pixels.
Placement = Callable[[Floats], Floats]


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How leaves of one kind grow; each pair is the least and the most.

    Attributes:
        half_width: Half the width of a lobe as a share of its length.
        uneven: Spread (log) of the lobes' lengths.
        bend: Spread of how far a lobe's axis turns up to its tip, in radians.
        waves: Height of the waves of the margin as a share of the half width.
        centre: Radius of the undivided middle of the leaf, in lengths of the middle lobe.
        vein_angle: Angle between a side vein and the lobe's axis in degrees.
    """

    half_width: tuple[float, float] = (0.30, 0.42)
    uneven: float = 0.07
    bend: float = 0.15
    waves: tuple[float, float] = (0.0, 0.06)
    centre: tuple[float, float] = (0.22, 0.34)
    vein_angle: float = 45.0


@dataclass(frozen=True, kw_only=True)
class Blade:
    """Where a leaf lies in a picture; the maps have its height and width.

    Attributes:
        cover: Share of a pixel that the leaf covers.
        stalk: Share of a pixel that the stalk covers.
        depth: Distance from the margin in leaf lengths, zero outside.
        veins: How strongly a pixel shows a vein, 0..1.
        between: 0 on a vein, 1 in the middle between two.
        length: Length of the middle lobe in pixels.
    """

    cover: Image
    stalk: Image
    depth: Image
    veins: Image
    between: Image
    length: float


@dataclass(frozen=True)
class Lobe:
    """One lobe in lengths of the middle one, from its base to its tip.

    Attributes:
        axis: Points of its axis, (AXIS_POINTS, 2).
        directions: Unit vectors along the axis at these points.
        half_width: Distance of the margin from these points.
    """

    axis: Floats
    directions: Floats
    half_width: Floats

    def normals(self) -> Floats:
        """Unit vectors to the right of the axis."""
        return self.directions[:, ::-1] * (1, -1)

    def outline(self) -> Floats:
        """Polygon of the lobe."""
        aside = self.normals() * self.half_width[:, None]
        return np.concatenate([self.axis + aside, (self.axis - aside)[::-1]])

    def side_veins(self, angle: float) -> list[Floats]:
        """Lines from the axis towards the margin, at an angle in radians from the axis."""
        normals = self.normals()
        lines = []
        for point in np.linspace(1, AXIS_POINTS - 3, SIDE_VEINS).round().astype(int):
            along = self.directions[point]
            reach = min(1.05 * self.half_width[point] / np.sin(angle), 0.4)
            for side in (-1, 1):
                way = reach * VEIN_STEPS[:, None]
                lines.append(
                    self.axis[point]
                    + way * (along * np.cos(angle) + side * normals[point] * np.sin(angle))
                    + way * VEIN_STEPS[:, None] * along * VEIN_CURVE
                )
        return lines


def grow(growth: Growth, *, height: int, width: int, rng: np.random.Generator) -> Blade:
    """Grows a leaf and lays it into a picture.

    Args:
        growth: How leaves of its kind grow.
        height: Of the picture in pixels.
        width: Of the picture in pixels.
        rng: Fixes shape, place and direction.
    """
    lobes = _lobes(growth, rng)
    outlines = [lobe.outline() for lobe in lobes]
    to_pixels, length = _placement(np.concatenate(outlines), height, width, rng)
    cover = _cover([to_pixels(outline) for outline in outlines], rng.uniform(*growth.centre) * length, height, width)
    axes = [to_pixels(lobe.axis) for lobe in lobes]
    angle = np.deg2rad(growth.vein_angle + rng.normal(0, 4))
    fine = [to_pixels(line) for lobe in lobes for line in lobe.side_veins(angle)]
    lines = np.zeros((height, width), np.uint8)
    _draw(lines, fine, 150, 1)
    for axis in axes:
        _draw(lines, [axis], 220, max(round(0.012 * length), 1))
        _draw(lines, [axis[: AXIS_POINTS // 2]], 255, max(round(0.02 * length), 1))
    return Blade(
        cover=cover,
        stalk=_stalk(to_pixels, length, height, width, rng),
        depth=_distance(cover > 0.5, length),
        veins=blurred(opacity_of(lines), 0.6) * cover,
        between=within(_distance(lines == 0, length) / np.float32(BETWEEN_VEINS), 0, 1),
        length=length,
    )


def _lobes(growth: Growth, rng: np.random.Generator) -> list[Lobe]:
    """The middle lobe, and its neighbours on both sides."""
    pairs = LOBES[int(rng.integers(len(LOBES)))]
    angles = np.deg2rad([0, *(side * angle for angle, _ in pairs for side in (-1, 1))])
    lengths = np.array([1, *(length for _, length in pairs for _ in (-1, 1))])
    lengths *= np.exp(rng.normal(0, growth.uneven, len(lengths)))
    half_width, waves = rng.uniform(*growth.half_width), rng.uniform(*growth.waves)
    return [
        _lobe(angle + rng.normal(0, 0.08), length, half_width, growth.bend, waves, rng)
        for angle, length in zip(angles, lengths, strict=True)
    ]


def _lobe(angle: float, length: float, half_width: float, bend: float, waves: float, rng: np.random.Generator) -> Lobe:
    """A lobe that points to `angle` (radians from the tip of the leaf, its base at the origin)."""
    along = np.linspace(0, 1, AXIS_POINTS)
    turn, sway = rng.normal(0, bend, 2)
    angles = angle + turn * along + sway * np.sin(2 * np.pi * along)
    directions = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    axis = (np.cumsum(directions, axis=0) - directions[0]) * length / (AXIS_POINTS - 1)
    blunt = rng.uniform(0.85, 1.1)
    profile = along**0.55 * (1 - along) ** blunt
    wavy = 1 + waves * np.sin(2 * np.pi * (rng.uniform(3, 5) * along + rng.uniform()))
    return Lobe(axis, directions, half_width * length * wavy * profile / profile.max())


def _placement(points: Floats, height: int, width: int, rng: np.random.Generator) -> tuple[Placement, float]:
    """From leaf lengths to pixels (tip mostly downwards, seen at a slant), and the length of the leaf in pixels."""
    turn = np.pi + rng.normal(0, 0.6)
    slant, squeeze = rng.uniform(0, np.pi), rng.uniform(0.75, 1)
    rotation, slanted = _rotation(turn), _rotation(slant)
    matrix = slanted.T @ np.diag([1, squeeze]) @ slanted @ rotation
    turned = points @ matrix.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    length = float(rng.uniform(0.88, 1.12) * np.min(np.array([width, height]) / (high - low)))
    shift = np.array([width, height]) / 2 * (1 + rng.normal(0, 0.05, 2)) - length * (low + high) / 2
    return lambda place: place @ matrix.T * length + shift, length


def _rotation(angle: float) -> Floats:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _cover(outlines: list[Floats], radius: float, height: int, width: int) -> Image:
    """All lobes and the middle of the leaf, with soft notches between the lobes."""
    shape = np.zeros((height, width), np.uint8)
    for outline in outlines:
        cv2.fillPoly(shape, [subpixels(outline)], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    base = np.mean([outline[0] for outline in outlines], axis=0)
    cv2.circle(shape, subpixels(base).tolist(), round(radius * 2**SUBPIXEL_BITS), 255, -1, cv2.LINE_AA, SUBPIXEL_BITS)
    return ramp(blurred(opacity_of(shape), max(0.05 * radius, 1)), 0.25, 0.75)


def _stalk(to_pixels: Placement, length: float, height: int, width: int, rng: np.random.Generator) -> Image:
    """The stalk leaves the base away from the tip."""
    stalk = np.zeros((height, width), np.uint8)
    down = np.linspace(0, 1.2, 8)
    line = np.stack([rng.normal(0, 0.25) * down + rng.normal(0, 0.2) * down**2, -down], axis=1)
    _draw(stalk, [to_pixels(line)], 255, max(round(0.03 * length), 2))
    return opacity_of(stalk)


def _distance(inside: npt.NDArray[np.bool_], length: float) -> Image:
    """Distance of the pixels inside from the nearest one outside, in leaf lengths."""
    pixels = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(pixels, np.float32) * np.float32(1 / length)


def _draw(picture: Drawing, lines: list[Floats], value: int, thickness: int) -> None:
    cv2.polylines(picture, [subpixels(line) for line in lines], False, value, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
