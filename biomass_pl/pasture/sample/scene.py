"""Draws one photo of a pasture seen straight down: soil, straw, grass and clover, then light and camera."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from biomass_pl.data.rendering import Floats, Image, Key, stream
from biomass_pl.pasture.quadrat import QUADRAT_MM

# Hue in degrees, saturation and value that a photo's materials have at least and at most. The ranges overlap, and the
# camera tints them: an absolute colour does not tell the materials apart, their contrast and shapes do.
SOIL_COLOURS = ((0, 0.05, 0.22), (60, 0.55, 0.34))
GRASS_COLOURS = ((60, 0.30, 0.58), (125, 0.75, 0.70))
STRAW_COLOURS = ((29, 0.18, 0.74), (53, 0.50, 0.88))
CLOVER_COLOURS = ((66, 0.30, 0.58), (130, 0.75, 0.72))

# Narrower photos are drawn this wide or more and shrunk: anti-aliasing fattens leaves of about a pixel.
DRAWING_WIDTH = 640

# Leaves are as large as the sward is high, with this spread (log) between photos and within one.
SIZE_SPREAD_PHOTO = 0.03
SIZE_SPREAD_LEAF = 0.30

# Area that a gram of clover shows in the quadrat when the sward is REFERENCE_HEIGHT_CM high. Taller plants carry more
# of their mass in stems and under other leaves, so that cover alone, and with it mean colour, does not give grams away.
CLOVER_MM2_PER_G = 13_000.0
REFERENCE_HEIGHT_CM = 5.0
HIDING_POWER = 0.9

LAYERS = 4
# How far a layer's shadow falls beside it.
SHADOW_MM = 2.5
SUBPIXEL_BITS = 4
BLADE_POINTS = 6
# Share of length x width that a tapered blade covers, and a leaflet of its square.
BLADE_FILL = 0.62
LEAFLET_FILL = 0.62


@dataclass(frozen=True)
class Pasture:
    """What grows on one quadrat: dry grams, and the mean height of the sward in cm."""

    green_g: float
    dead_g: float
    clover_g: float
    height_cm: float


@dataclass(frozen=True)
class BladeHabit:
    """How blades of one material look.

    Attributes:
        mm2_per_g: Area that a gram shows in the quadrat at REFERENCE_HEIGHT_CM.
        length_mm: Length in the lowest sward, and what every cm of height adds.
        width_mm: Width of a blade 75 mm long, and the narrowest.
        slenderness: Power of the length that the width follows.
        bend: Spread of the curvature, as the share of the length by which the tip leaves the straight line.
        depth: The two shape parameters of the beta distribution of depths.
        hue_spread: Spread of the hue between blades in degrees.
    """

    mm2_per_g: float
    length_mm: tuple[float, float]
    width_mm: tuple[float, float]
    slenderness: float
    bend: float
    depth: tuple[float, float]
    hue_spread: float


GRASS = BladeHabit(9_000.0, (4.0, 15.0), (5.2, 1.2), 0.9, bend=0.25, depth=(2.2, 1.6), hue_spread=8.0)
# Dead leaves and stems are thinner and straighter, and lie lower.
STRAW = BladeHabit(6_500.0, (6.0, 15.0), (3.8, 1.1), 0.8, bend=0.08, depth=(1.5, 2.2), hue_spread=7.0)
# Length of the blades of GRASS and STRAW that have the width given there, and the longest.
USUAL_BLADE_MM, LONGEST_BLADE_MM = 75.0, 330.0


@dataclass(frozen=True)
class Shapes:
    """Polygons in mm with their colours (B, G, R in 0..1) and depths (0 on the ground, 1 on top)."""

    polygons: list[Floats]
    colours: Floats
    depths: Floats


def draw_photo(*, pasture: Pasture, stamp: str, key: Key, width: int) -> npt.NDArray[np.uint8]:
    """Draws a photo; the same key gives the same scene, light and camera at every width.

    Args:
        pasture: What the photo shows.
        stamp: Text that the camera may print into the corner.
        key: Numbers that fix every random choice.
        width: Width in pixels; the height is half of it.

    Returns:
        The photo, (width / 2, width, 3), B, G, R.
    """
    scene = draw_ground(pasture=pasture, key=key, width=width)
    scene = _lit(scene, stream(key, "light"))
    return _photographed(scene, stamp, stream(key, "camera"))


def draw_ground(*, pasture: Pasture, key: Key, width: int) -> Image:
    """Draws soil and plants in even light, without any effect of the camera.

    Args:
        pasture: What grows there.
        key: Numbers that fix every random choice.
        width: Width in pixels; the height is half of it.

    Returns:
        The scene, (width / 2, width, 3), B, G, R in 0..1.
    """
    drawing_width = _drawing_width(width)
    soil, *plants = _soil_and_plants(pasture, key)
    scene = _soil(soil, stream(key, "soil"), drawing_width)
    scene = _with_plants(scene, _joined(plants), stream(key, "sun"))
    return _shrunk(scene, width)


def draw_clover_cover(*, pasture: Pasture, key: Key, width: int) -> Image:
    """Draws where a photo shows clover that nothing covers.

    Args:
        pasture: What grows there.
        key: Numbers that fix every random choice.
        width: Width in pixels; the height is half of it.

    Returns:
        Share of every pixel that shows clover, (width / 2, width), 0..1.
    """
    drawing_width = _drawing_width(width)
    _, straw, grass, clover = _soil_and_plants(pasture, key)
    marked = [
        replace(shapes, colours=np.full_like(shapes.colours, shapes is clover)) for shapes in (straw, grass, clover)
    ]
    shapes, size = _joined(marked), (drawing_width // 2, drawing_width)
    cover = np.zeros(size, np.float32)
    for layer in _layers(shapes, size):
        cover = cover * (1 - layer[:, :, 3]) + layer[:, :, 0]
    return _shrunk(cover, width)


def _drawing_width(width: int) -> int:
    return width * -(-DRAWING_WIDTH // width)


def _shrunk(scene: Image, width: int) -> Image:
    if scene.shape[1] == width:
        return scene
    return cv2.resize(scene, (width, width // 2), interpolation=cv2.INTER_AREA).astype(np.float32)


def _soil_and_plants(pasture: Pasture, key: Key) -> tuple[Floats, Shapes, Shapes, Shapes]:
    """Colour of the soil; shapes of straw, grass and clover."""
    palette = stream(key, "palette")
    soil, grass, straw, clover = (
        palette.uniform(*colours) for colours in (SOIL_COLOURS, GRASS_COLOURS, STRAW_COLOURS, CLOVER_COLOURS)
    )
    return (
        soil,
        _blades(pasture.dead_g, pasture.height_cm, STRAW, straw, stream(key, "straw")),
        _blades(pasture.green_g, pasture.height_cm, GRASS, grass, stream(key, "grass")),
        _clover(pasture, clover, stream(key, "clover")),
    )


def _bgr(hsv: Floats) -> Floats:
    """Colours (N, 3) of degrees, saturation and value as B, G, R in 0..1."""
    hue, saturation, value = hsv[:, :1] % 360, np.clip(hsv[:, 1:2], 0, 1), np.clip(hsv[:, 2:], 0, 1)
    # B, G and R lie at 240, 120 and 0 degrees of the colour circle.
    distance = np.abs((hue - np.array([240.0, 120.0, 0.0]) + 180) % 360 - 180)
    bgr: Floats = value * (1 - saturation * np.clip(distance / 60 - 1, 0, 1))
    return bgr


def _varied(colour: Floats, depths: Floats, hue_spread: float, rng: np.random.Generator) -> Floats:
    """A colour per leaf (B, G, R): lower leaves stand in the shade of the upper ones."""
    spread = rng.normal(0, (hue_spread, 0.07, 0.0), (len(depths), 3))
    hsv = colour + spread
    hsv[:, 2] *= (0.55 + 0.45 * depths) * np.exp(rng.normal(0, 0.14, len(depths)))
    return _bgr(hsv)


def _noise(rng: np.random.Generator, cells: int, width: int) -> Image:
    """Smooth noise of about unit size, `cells` grains across the photo."""
    grid = rng.normal(0, 1, (cells // 2, cells)).astype(np.float32)
    return cv2.resize(grid, (width, width // 2), interpolation=cv2.INTER_CUBIC).astype(np.float32)


def _soil(colour: Floats, rng: np.random.Generator, width: int) -> Image:
    """Bare soil: patches, clods and grains, and a few stones."""
    relief = 0.10 * _noise(rng, 8, width) + 0.10 * _noise(rng, 60, width) + 0.13 * _noise(rng, 320, width)
    base = _bgr(colour[None])[0].astype(np.float32)
    soil = base * np.exp(relief)[:, :, None]
    count = int(rng.integers(5, 60))
    centres, sizes = rng.uniform(0, QUADRAT_MM, (count, 2)), np.exp(rng.normal(1.2, 0.5, count))
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    outline = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    stones = centres[:, None] + sizes[:, None, None] * outline * rng.uniform(0.7, 1.1, (count, 8, 1))
    stone_colours = _varied(colour * (1, 0.6, 1.3), np.ones(count), 6, rng)
    return _with_plants(soil, Shapes(list(stones), stone_colours, np.full(count, 0.01)), rng)


def _shown_mm2(grams: float, mm2_per_g: float, height_cm: float) -> float:
    """Leaf area in the quadrat, overlaps counted twice."""
    return float(grams * mm2_per_g * (REFERENCE_HEIGHT_CM / height_cm) ** HIDING_POWER)


def _tufted(count: int, margin_mm: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Where leaves stand (mm) and which way they point (radians): outwards from tufts, tight or loose."""
    tufts = rng.uniform(-margin_mm, np.array(QUADRAT_MM) + margin_mm, (int(rng.integers(150, 220)), 2))
    spread_mm = rng.uniform(30, 45)
    wind, order = rng.uniform(-np.pi, np.pi), rng.uniform(0, 0.6)
    offsets = rng.normal(0, spread_mm, (count, 2))
    outwards = np.arctan2(offsets[:, 1], offsets[:, 0]) + rng.normal(0, 0.7, count)
    angles = np.where(rng.random(count) < order, wind + rng.normal(0, 0.5, count), outwards)
    return tufts[rng.integers(0, len(tufts), count)] + offsets, angles


def _blades(grams: float, height_cm: float, habit: BladeHabit, colour: Floats, rng: np.random.Generator) -> Shapes:
    """Grass or straw: the taller the sward the larger the blades, the more grams the more of them."""
    shortest, growth = habit.length_mm
    length = min(shortest + growth * height_cm, LONGEST_BLADE_MM) * np.exp(rng.normal(0, SIZE_SPREAD_PHOTO))
    usual_width, narrowest = habit.width_mm
    width = max(usual_width * (length / USUAL_BLADE_MM) ** habit.slenderness, narrowest)
    # Blades reach in from outside: a margin around the quadrat is planted alike.
    margin = length / 2
    planted = np.prod(np.array(QUADRAT_MM) + 2 * margin) / np.prod(QUADRAT_MM)
    area = _shown_mm2(grams, habit.mm2_per_g, height_cm) * planted
    count = round(area / (length * width * BLADE_FILL))
    bases, angles = _tufted(count, margin, rng)
    sizes, depths = np.exp(rng.normal(0, SIZE_SPREAD_LEAF, count)), rng.beta(*habit.depth, count)
    bends = rng.normal(0, habit.bend, count)
    left, midrib, right = _blade_edges(bases, angles, length * sizes, width * sizes**0.6, bends)
    whole = np.concatenate([left, right[:, ::-1]], axis=1)
    lit_half = np.concatenate([left, midrib[:, ::-1]], axis=1)
    colours = _varied(colour, depths, habit.hue_spread, rng)
    tones = np.stack([colours * 0.88, np.minimum(colours * 1.12, 1)], axis=1).reshape(-1, 3)
    polygons = [part for pair in zip(whole, lit_half, strict=True) for part in pair]
    return Shapes(polygons, tones, np.repeat(depths, 2))


def _blade_edges(
    bases: Floats, angles: Floats, lengths: Floats, widths: Floats, bends: Floats
) -> tuple[Floats, Floats, Floats]:
    """Left edge, midrib and right edge (each N, BLADE_POINTS, 2) of curved blades that taper to the tip."""
    along = np.linspace(0, 1, BLADE_POINTS)
    ahead = np.stack([np.cos(angles), np.sin(angles)], axis=1)[:, None]
    aside = np.stack([-np.sin(angles), np.cos(angles)], axis=1)[:, None]
    bend = bends[:, None, None] * along[:, None]
    midrib = bases[:, None] + lengths[:, None, None] * along[:, None] * (ahead + aside * bend)
    normal = aside - 2 * bend * ahead
    normal = normal / np.linalg.norm(normal, axis=2, keepdims=True)
    taper = (0.6 + 0.4 * np.minimum(along / 0.3, 1)) * (1 - along**2.2)
    half = normal * (widths[:, None] / 2 * taper)[:, :, None]
    return midrib + half, midrib, midrib - half


def _leaflet() -> tuple[Floats, Floats]:
    """Outline of a clover leaflet of length 1 that points right, and its pale mark."""
    angles = np.linspace(-np.pi, np.pi, 13)[:-1]
    radius = 0.5 * (1 - 0.13 * np.exp(-((angles / 0.35) ** 2)))
    outline = np.stack([0.52 + radius * np.cos(angles), 0.86 * radius * np.sin(angles)], axis=1)
    outline[:, 1] *= 0.55 + 0.5 * outline[:, 0]
    mark = np.array([[0.42, -0.30], [0.66, 0.0], [0.42, 0.30], [0.42, 0.19], [0.56, 0.0], [0.42, -0.19]])
    return outline, mark


def _clover(pasture: Pasture, colour: Floats, rng: np.random.Generator) -> Shapes:
    """Trefoils: three leaflets, each with the pale V of clover."""
    size = min(4.0 + 2.0 * pasture.height_cm, 36) * np.exp(rng.normal(0, SIZE_SPREAD_PHOTO))
    area = _shown_mm2(pasture.clover_g, CLOVER_MM2_PER_G, pasture.height_cm)
    count = round(area / (3 * LEAFLET_FILL * size**2))
    patches = rng.uniform(0, QUADRAT_MM, (int(rng.integers(6, 40)), 2))
    centres = patches[rng.integers(0, len(patches), count)] + rng.normal(0, rng.uniform(30, 90), (count, 2))
    # What falls outside comes back on the other side: the grams stay in the quadrat.
    centres = centres % np.array(QUADRAT_MM)
    depths = rng.beta(2.5, 1.4, count)
    sizes = size * np.exp(rng.normal(0, SIZE_SPREAD_LEAF * 0.7, count))
    outlines = [_turned(part, centres, sizes, angles) for part, angles in _leaf_parts(count, rng)]
    polygons = [outline[leaf] for leaf in range(count) for outline in outlines]
    colours = _varied(colour, depths, 5, rng)
    pale = np.minimum(colours * 0.75 + 0.25 * np.array([0.72, 0.9, 0.8]), 1)
    tones = [tone for factor in (0.92, 1.0, 1.1) for tone in (np.minimum(colours * factor, 1), pale)]
    return Shapes(polygons, np.stack(tones, axis=1).reshape(-1, 3), np.repeat(depths, len(outlines)))


def _leaf_parts(count: int, rng: np.random.Generator) -> list[tuple[Floats, Floats]]:
    """Outlines and marks of the three leaflets with the direction of each, for `count` leaves."""
    turn = rng.uniform(-np.pi, np.pi, count)
    return [
        (part, turn + third * 2 * np.pi / 3 + rng.normal(0, 0.1, count)) for third in range(3) for part in _leaflet()
    ]


def _turned(part: Floats, centres: Floats, sizes: Floats, angles: Floats) -> Floats:
    """Copies of an outline (P, 2), turned, scaled and moved: (N, P, 2)."""
    cosine, sine = np.cos(angles), np.sin(angles)
    rotation = np.stack([np.stack([cosine, sine], axis=1), np.stack([-sine, cosine], axis=1)], axis=1)
    turned: Floats = centres[:, None] + sizes[:, None, None] * (part @ rotation)
    return turned


def _joined(shapes: list[Shapes]) -> Shapes:
    """All shapes in one list, the lowest first."""
    depths = np.concatenate([part.depths for part in shapes])
    order = np.argsort(depths, kind="stable")
    polygons = [polygon for part in shapes for polygon in part.polygons]
    colours = np.concatenate([part.colours for part in shapes])
    return Shapes([polygons[position] for position in order], colours[order], depths[order])


def _with_plants(scene: Image, shapes: Shapes, rng: np.random.Generator) -> Image:
    """Draws shapes in layers from the ground up; each layer casts its shadow on those below."""
    height, width = scene.shape[:2]
    to_pixels = np.array([width, height]) / QUADRAT_MM
    direction, darkness = rng.uniform(-np.pi, np.pi), rng.uniform(0.5, 0.55)
    shift = SHADOW_MM * np.array([np.cos(direction), np.sin(direction)]) * to_pixels
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    for drawn in _layers(shapes, (height, width)):
        alpha = np.ascontiguousarray(drawn[:, :, 3])
        shadow = cv2.GaussianBlur(cv2.warpAffine(alpha, move, (width, height)), (0, 0), width / 700)
        scene = scene * ((1 - darkness * shadow) * (1 - alpha))[:, :, None]
        scene += drawn[:, :, :3]
    return scene


def _layers(shapes: Shapes, size: tuple[int, int]) -> Iterator[Image]:
    """The shapes in layers from the ground up, each on a clear ground: colours times opacity, and the opacity."""
    to_pixels = np.array([size[1], size[0]]) / QUADRAT_MM
    bounds = np.searchsorted(shapes.depths, np.linspace(0, 1, LAYERS + 1)[1:-1])
    for lower, upper in zip([0, *bounds], [*bounds, len(shapes.depths)], strict=True):
        if lower < upper:
            yield _layer(shapes.polygons[lower:upper], shapes.colours[lower:upper], size, to_pixels)


def _layer(polygons: list[Floats], colours: Floats, size: tuple[int, int], to_pixels: Floats) -> Image:
    """Polygons on a clear ground: colours times opacity, and the opacity."""
    canvas = np.zeros((*size, 4), np.uint8)
    tones = np.concatenate([colours * 255, np.full((len(colours), 1), 255)], axis=1).tolist()
    points = np.rint(np.concatenate(polygons) * (to_pixels * 2**SUBPIXEL_BITS)).astype(np.int32)
    ends = np.cumsum([len(polygon) for polygon in polygons]).tolist()
    for start, end, tone in zip([0, *ends[:-1]], ends, tones, strict=True):
        cv2.fillPoly(canvas, [points[start:end]], tone, cv2.LINE_AA, SUBPIXEL_BITS)
    return canvas.astype(np.float32) * np.float32(1 / 255)


def _lit(scene: Image, rng: np.random.Generator) -> Image:
    """Uneven light, and sometimes the hard shadow of a person or a frame."""
    height, width = scene.shape[:2]
    direction, slope = rng.uniform(-np.pi, np.pi), rng.uniform(0, 0.15)
    across, down = np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height)[:, None]
    light = np.exp(slope * np.cos(direction) * across) * np.exp(slope * np.sin(direction) * down)
    light = light.astype(np.float32)
    light *= np.exp(0.08 * _noise(rng, 6, width))
    shaded, centre, radius = rng.random() < 0.15, rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.25)
    if shaded:
        shadow = np.zeros((height, width), np.float32)
        axes = int(radius * width), int(0.35 * height)
        cv2.ellipse(shadow, (int(centre * width), height), axes, 0, 0, 360, 1, -1)
        light *= 1 - 0.6 * cv2.GaussianBlur(shadow, (0, 0), width / 300)
    lit: Image = scene * light[:, :, None]
    return lit


def _photographed(scene: Image, stamp: str, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """White balance, saturation, exposure, contrast, blur and noise, then the stamp in the corner."""
    width = scene.shape[1]
    gains = np.exp(rng.normal(0, (0.07, 0.03, 0.07)) + rng.uniform(0.12, 0.28)).astype(np.float32)
    saturation, gamma, blur = rng.uniform(0.8, 1.2), rng.uniform(0.95, 1.05), rng.uniform(0.05, 0.3)
    stamped, noise_level = rng.random() < 0.3, rng.uniform(0.5, 4)
    grey = scene.mean(axis=2, keepdims=True)
    photo = np.clip((grey + saturation * (scene - grey)) * gains, 0, 1)
    photo = cv2.GaussianBlur(cv2.pow(photo, gamma), (0, 0), max(blur * width / 1000, 0.05))
    photo = photo * 255 + noise_level * rng.standard_normal(photo.shape, np.float32)
    image = np.clip(photo, 0, 255).astype(np.uint8)
    return _stamped(image, stamp) if stamped else image


def _stamped(image: npt.NDArray[np.uint8], stamp: str) -> npt.NDArray[np.uint8]:
    """The orange date that compact cameras print into the lower right corner."""
    height, width = image.shape[:2]
    scale, thickness = width / 900, max(1, round(width / 500))
    corner = int(0.69 * width), int(0.91 * height)
    marked = image.copy()
    cv2.putText(marked, stamp, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, (40, 110, 240), thickness, cv2.LINE_AA)
    return marked
