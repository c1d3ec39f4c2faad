"""Draws the crop of one skin lesion: skin with furrows, freckles and hairs, the mole, then light and camera."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from biomass_pl.data.rendering import Floats, Image, Key, stream

# Lightness, red and yellow (CIELAB) that a second pigment adds to a mole: dark brown, blue-grey, pink.
PIGMENTS = ((-18.0, 3.0, -6.0), (-9.0, -9.0, -26.0), (9.0, 10.0, -7.0))
OUTLINE_WAVES = 14
OUTLINE_POINTS = 720
FRECKLE = (-7.0, 3.0, 3.0)
GLARE = (5.0, 0.0, 0.0)
HAIR = (18.0, 3.0, 6.0)
FURROW_MM = 0.55
HAIR_LENGTH_MM = 6.0
SUBPIXEL_BITS = 4


@dataclass(frozen=True, kw_only=True)
class LesionLook:
    """What the crop of a lesion shows.

    Attributes:
        skin: Lightness, red and yellow (CIELAB) of the skin around it.
        contrast: What the mole adds to the skin's colour on average, in the same units.
        diameter_mm: Longest diameter.
        roundness: Shortest diameter as a share of the longest.
        irregularity: How far the outline leaves the ellipse: standard deviation of the radius as a share of it.
        asymmetry: How far the darkest part lies off the centre, as a share of the radius.
        variegation: How much of other pigments shows; 0 is one colour, moles have about 0.3.
        view_mm: Width of the crop on the skin.
        side: Width and height of the crop in pixels.
        hairs: Expected hairs per square centimetre.
        freckles: Expected freckles per square centimetre.
        white_light: Whether the lamp leaves glare; without it the light is polarised.
    """

    skin: tuple[float, float, float]
    contrast: tuple[float, float, float]
    diameter_mm: float
    roundness: float
    irregularity: float
    asymmetry: float
    variegation: float
    view_mm: float
    side: int
    hairs: float
    freckles: float
    white_light: bool


def draw_lesion(*, look: LesionLook, key: Key) -> npt.NDArray[np.uint8]:
    """Draws a crop with the lesion near its centre.

    Args:
        look: What the crop shows.
        key: Numbers that fix every random choice.

    Returns:
        The crop, (side, side, 3), B, G, R.
    """
    lab = np.array(look.skin, np.float32) + _skin(look, stream(key, "skin"))
    lab += _freckles(look, stream(key, "freckles"))
    lab += _mole(look, stream(key, "mole"))
    hair = _hairs(look, stream(key, "hairs"))
    lab += _coloured(hair, (1.0, 1.0, 1.0)) * (np.array(HAIR, np.float32) - lab)
    return _photographed(lab, look, stream(key, "camera"))


def _field(rng: np.random.Generator, grain_mm: float, look: LesionLook) -> Image:
    """Smooth noise of about unit size with grains of a given size, over the crop."""
    cells = max(round(look.view_mm / grain_mm), 2)
    grid = rng.standard_normal((cells, cells), np.float32)
    return cv2.resize(grid, (look.side, look.side), interpolation=cv2.INTER_CUBIC).astype(np.float32)


def _coloured(amount: Image, values: tuple[float, float, float]) -> Image:
    """Three values in the given amount per pixel."""
    return cv2.merge([amount * np.float32(value) for value in values]).astype(np.float32)


def _coordinates(side: int) -> tuple[Image, Image]:
    """Place of the pixels across (1, side) and down (side, 1), from -0.5 to 0.5."""
    line = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    return line[None, :], line[:, None]


def _skin(look: LesionLook, rng: np.random.Generator) -> Image:
    """Differences from the mean colour of the skin: blotches, pores and the net of furrows."""
    blood, shade, grain = (_field(rng, grain_mm, look) for grain_mm in (2.5, 4.0, 0.2))
    furrows = [cv2.exp(-20 * _field(rng, FURROW_MM, look) ** 2) for _ in range(2)]
    lightness = 1.2 * shade + 0.9 * grain - 1.6 * furrows[0] - 1.2 * furrows[1]
    return cv2.merge([lightness, 1.3 * blood, 0.8 * shade - 0.4 * blood]).astype(np.float32)


def _freckles(look: LesionLook, rng: np.random.Generator) -> Image:
    """Small flat brown spots."""
    spots = np.zeros((look.side, look.side), np.float32)
    scale = look.side / look.view_mm
    for _ in range(rng.poisson(look.freckles * look.view_mm**2 / 100)):
        across, down = np.rint(rng.uniform(0, look.side, 2) * 2**SUBPIXEL_BITS).astype(int).tolist()
        radius = round(rng.uniform(0.2, 0.6) * scale * 2**SUBPIXEL_BITS)
        cv2.circle(spots, (across, down), radius, rng.uniform(0.3, 1.0), -1, cv2.LINE_8, SUBPIXEL_BITS)
    soft = cv2.GaussianBlur(spots, (0, 0), max(0.12 * scale, 0.5)).astype(np.float32)
    return _coloured(soft, FRECKLE)


def _mole(look: LesionLook, rng: np.random.Generator) -> Image:
    """What the mole adds to the colour of the skin."""
    across, down = _coordinates(look.side)
    shift = rng.normal(0, 0.025, 2)
    turn = rng.uniform(-np.pi, np.pi)
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    scale = np.float32(2 * look.view_mm / look.diameter_mm)
    x, y = (across - np.float32(shift[0])) * scale, (down - np.float32(shift[1])) * scale
    # In radii: along the longest diameter, and aside in the shortest.
    along, aside = x * cosine + y * sine, (y * cosine - x * sine) / np.float32(look.roundness)
    distance, angles = cv2.cartToPolar(along, aside)
    softness = rng.uniform(0.05, 0.11) * np.clip(1 + 0.5 * _field(rng, look.diameter_mm / 2, look), 0.4, 2)
    edge = _outline(look.irregularity, rng)[np.rint(angles * (OUTLINE_POINTS / (2 * np.pi))).astype(np.intp)]
    mask = 1 / (1 + cv2.exp(np.clip((distance - edge) / softness.astype(np.float32), -20, 20)))
    # The darkest part, off the centre in an asymmetric mole.
    off = rng.uniform(-np.pi, np.pi)
    off_along, off_aside = (np.float32(look.asymmetry * part) for part in (np.cos(off), np.sin(off)))
    core = cv2.exp(-((along - off_along) ** 2) - (aside - off_aside) ** 2)
    network = np.float32(0.12) * _field(rng, 0.3, look) + np.float32(0.10) * _field(rng, 0.8, look)
    mole: Image = _coloured(mask * (0.70 + 0.45 * core + network), look.contrast)
    for pigment in PIGMENTS:
        patches = _field(rng, look.diameter_mm / rng.uniform(2.0, 4.0), look)
        mole += _coloured(look.variegation * mask / (1 + cv2.exp(2.4 - 4 * patches)), pigment)
    return mole


def _outline(irregularity: float, rng: np.random.Generator) -> Image:
    """Distance of the edge from the centre in OUTLINE_POINTS + 1 directions, in radii."""
    waves = np.arange(2, OUTLINE_WAVES)
    sizes = rng.uniform(0.4, 1, len(waves)) / waves**0.9
    sizes *= np.sqrt(2) * irregularity / np.linalg.norm(sizes)
    phases = rng.uniform(-np.pi, np.pi, len(waves))
    directions = np.linspace(0, 2 * np.pi, OUTLINE_POINTS + 1)
    curve: Floats = np.clip(1 + np.cos(np.outer(directions, waves) + phases) @ sizes, 0.35, 1.8)
    # The mean square, and with it the area, stays that of the ellipse.
    curve /= np.sqrt(np.mean(curve**2))
    return curve.astype(np.float32)


def _hairs(look: LesionLook, rng: np.random.Generator) -> Image:
    """Opacity of the hairs: curved lines that lie in about one direction."""
    opacity = np.zeros((look.side, look.side), np.uint8)
    direction = rng.uniform(-np.pi, np.pi)
    along = np.linspace(-0.5, 0.5, 12)
    for _ in range(rng.poisson(look.hairs * look.view_mm**2 / 100)):
        angle, bend = direction + rng.normal(0, 0.35), rng.normal(0, 0.25)
        length = HAIR_LENGTH_MM * rng.uniform(0.5, 1.3) / look.view_mm
        line = np.stack([along, bend * (along**2 - 0.08)], axis=1) * length
        turned = line @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        points = np.rint((turned + rng.uniform(0, 1, 2)) * look.side * 2**SUBPIXEL_BITS).astype(np.int32)
        strength = int(rng.integers(90, 210))
        cv2.polylines(opacity, [points], False, strength, 1, cv2.LINE_AA, SUBPIXEL_BITS)
    return opacity.astype(np.float32) * np.float32(1 / 255)


def _photographed(lab: Image, look: LesionLook, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Uneven light, glare, white balance, blur and noise."""
    side = look.side
    across, down = _coordinates(side)
    slope, direction = rng.uniform(0, 0.12), rng.uniform(-np.pi, np.pi)
    light = np.exp(slope * (np.cos(direction) * across + np.sin(direction) * down) + rng.normal(0, 0.04))
    blue, green, red = np.exp(rng.normal(0, (0.025, 0.012, 0.025)))
    blur, noise = rng.uniform(0.3, 0.8) * side / 110, rng.uniform(1, 3)
    if look.white_light:
        glare = np.clip(_field(rng, FURROW_MM, look) + _field(rng, 3.0, look) - 1.6, 0, 1)
        lab = lab + _coloured(glare, GLARE)
    lit = cv2.cvtColor(lab, cv2.COLOR_Lab2BGR) * _coloured(light.astype(np.float32), (blue, green, red))
    photo = cv2.GaussianBlur(lit, (0, 0), blur) * 255 + np.float32(noise) * rng.standard_normal(lit.shape, np.float32)
    return np.clip(photo, 0, 255).astype(np.uint8)
