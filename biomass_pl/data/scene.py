"""Draws one photo of a pasture seen straight down: soil, straw, grass and clover, then light and camera."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
Key = tuple[int, ...]

# The competition's quadrat in mm. A photo shows it 2:1, so pixels are not square on the ground.
QUADRAT_MM = (700.0, 300.0)
# Narrower photos are drawn this wide or more and shrunk: anti-aliasing fattens leaves of about a pixel.
DRAWING_WIDTH = 640

# Leaf area in the quadrat that a gram shows at REFERENCE_HEIGHT_CM. Taller plants carry more of it in stems
# and under other leaves, so that cover alone does not give the grams away.
GRASS_MM2_PER_G = 9_000.0
STRAW_MM2_PER_G = 6_500.0
CLOVER_MM2_PER_G = 13_000.0
REFERENCE_HEIGHT_CM = 5.0
# Real blades that fill the same ground differ in size between paddocks: spread (log) between photos, within one.
SIZE_SPREAD_PHOTO = 0.05
SIZE_SPREAD_LEAF = 0.30

SUBPIXEL_BITS = 4
BLADE_POINTS = 6
LAYERS = 4
# How far a layer's shadow falls beside it.
SHADOW_MM = 2.5


@dataclass(frozen=True)
class Pasture:
    """What grows on one quadrat: dry grams, and the mean height of the sward in cm."""

    green_g: float
    dead_g: float
    clover_g: float
    height_cm: float


@dataclass(frozen=True)
class PhotoJob:
    """One photo to be rendered.

    Attributes:
        path: The JPEG to write.
        pasture: What the photo shows.
        stamp: Text that the camera may print into the corner.
        key: Numbers that fix every random choice in the photo.
        width: Width in pixels; the height is half of it.
    """

    path: Path
    pasture: Pasture
    stamp: str
    key: Key
    width: int


@dataclass(frozen=True)
class Palette:
    """Colours of one photo's materials as (hue in degrees, saturation, value)."""

    soil: Floats
    grass: Floats
    straw: Floats
    clover: Floats


@dataclass(frozen=True)
class Shapes:
    """Polygons in mm with their colours (B, G, R in 0..1) and depths (0 on the ground, 1 on top)."""

    polygons: list[Floats]
    colours: Floats
    depths: Floats


def write_photo(job: PhotoJob) -> None:
    """Renders a photo and writes it as JPEG."""
    # The pool already uses every core; threads inside OpenCV would only get in each other's way.
    cv2.setNumThreads(1)
    photo = draw_photo(pasture=job.pasture, stamp=job.stamp, key=job.key, width=job.width)
    quality = int(_stream(job.key, "jpeg").integers(70, 96))
    _, encoded = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])
    job.path.write_bytes(encoded.tobytes())


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
    scene = _lit(scene, _stream(key, "light"))
    return _photographed(scene, stamp, _stream(key, "camera"))


def draw_ground(*, pasture: Pasture, key: Key, width: int) -> Image:
    """Draws soil and plants in even light, without any effect of the camera.

    Args:
        pasture: What grows there.
        key: Numbers that fix every random choice.
        width: Width in pixels; the height is half of it.

    Returns:
        The scene, (width / 2, width, 3), B, G, R in 0..1.
    """
    drawing_width = width * -(-DRAWING_WIDTH // width)
    palette = _palette(_stream(key, "palette"))
    scene = _soil(palette.soil, _stream(key, "soil"), drawing_width)
    shapes = _joined(
        [
            _straw(pasture, palette.straw, _stream(key, "straw")),
            _grass(pasture, palette.grass, _stream(key, "grass")),
            _clover(pasture, palette.clover, _stream(key, "clover")),
        ]
    )
    scene = _with_plants(scene, shapes, _stream(key, "sun"))
    if drawing_width != width:
        scene = cv2.resize(scene, (width, width // 2), interpolation=cv2.INTER_AREA).astype(np.float32)
    return scene


def _stream(key: Key, purpose: str) -> np.random.Generator:
    """A generator per purpose: more grass must not move the straw."""
    return np.random.default_rng([*key, *purpose.encode()])


def _palette(rng: np.random.Generator) -> Palette:
    """Colours whose ranges overlap between materials, so that no absolute colour names one of them."""
    return Palette(
        soil=rng.uniform((16, 0.08, 0.18), (40, 0.48, 0.60)),
        grass=rng.uniform((72, 0.40, 0.50), (108, 0.70, 0.80)),
        straw=rng.uniform((30, 0.18, 0.60), (52, 0.48, 0.92)),
        clover=rng.uniform((80, 0.40, 0.50), (118, 0.70, 0.82)),
    )


def _bgr(hsv: Floats) -> Floats:
    """Colours (N, 3) of degrees, saturation and value as B, G, R in 0..1."""
    hue, saturation, value = hsv[:, :1] % 360, np.clip(hsv[:, 1:2], 0, 1), np.clip(hsv[:, 2:], 0, 1)
    # B, G and R lie at 240, 120 and 0 degrees of the colour circle.
    distance = np.abs((hue - np.array([240.0, 120.0, 0.0]) + 180) % 360 - 180)
    return value * (1 - saturation * np.clip(distance / 60 - 1, 0, 1))


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


def _count(area_mm2: float, leaf_mm2: float, margin_mm: float) -> int:
    """Leaves that show `area_mm2` in the quadrat when a margin around it is planted alike."""
    across, down = QUADRAT_MM
    planted = (across + 2 * margin_mm) * (down + 2 * margin_mm)
    return round(area_mm2 / leaf_mm2 * planted / (across * down))


def _thinned(pasture: Pasture) -> float:
    """Share of the reference leaf area that plants of this height show to the camera."""
    return float((REFERENCE_HEIGHT_CM / pasture.height_cm) ** 0.35)


def _tufted(count: int, margin_mm: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Where leaves stand (mm) and which way they point (radians): outwards from tufts, tight or loose."""
    tufts = rng.uniform(-margin_mm, np.array(QUADRAT_MM) + margin_mm, (int(rng.integers(60, 200)), 2))
    spread_mm = rng.uniform(15, 45)
    wind, order = rng.uniform(-np.pi, np.pi), rng.uniform(0, 0.6)
    offsets = rng.normal(0, spread_mm, (count, 2))
    outwards = np.arctan2(offsets[:, 1], offsets[:, 0]) + rng.normal(0, 0.7, count)
    angles = np.where(rng.random(count) < order, wind + rng.normal(0, 0.5, count), outwards)
    return tufts[rng.integers(0, len(tufts), count)] + offsets, angles


def _blades(
    bases: Floats, angles: Floats, lengths: Floats, widths: Floats, bends: Floats
) -> tuple[Floats, Floats, Floats]:
    """Left edge, midrib and right edge (each N, BLADE_POINTS, 2) of curved blades that taper to the tip."""
    along = np.linspace(0, 1, BLADE_POINTS)
    ahead = np.stack([np.cos(angles), np.sin(angles)], axis=1)[:, None]
    aside = np.stack([-np.sin(angles), np.cos(angles)], axis=1)[:, None]
    bend = bends[:, None, None] * along[:, None]
    midrib = bases[:, None] + lengths[:, None, None] * (ahead * along[:, None] + aside * bend * along[:, None])
    normal = aside - 2 * bend * ahead
    normal = normal / np.linalg.norm(normal, axis=2, keepdims=True)
    taper = (0.6 + 0.4 * np.minimum(along / 0.3, 1)) * (1 - along**2.2)
    half = normal * (widths[:, None] / 2 * taper)[:, :, None]
    return midrib + half, midrib, midrib - half


# Share of length x width that a blade of the taper above covers.
BLADE_FILL = 0.62


def _blade_shapes(edges: tuple[Floats, Floats, Floats], colours: Floats, depths: Floats) -> Shapes:
    """Each blade in two tones, folded along its midrib."""
    left, midrib, right = edges
    whole = np.concatenate([left, right[:, ::-1]], axis=1)
    lit_half = np.concatenate([left, midrib[:, ::-1]], axis=1)
    polygons = [part for pair in zip(whole, lit_half, strict=True) for part in pair]
    tones = np.stack([colours * 0.88, np.minimum(colours * 1.12, 1)], axis=1).reshape(-1, 3)
    return Shapes(polygons, tones, np.repeat(depths, 2))


def _grass(pasture: Pasture, colour: Floats, rng: np.random.Generator) -> Shapes:
    """Green blades: longer and broader the taller the sward, more of them the more grams."""
    habit = np.exp(rng.normal(0, SIZE_SPREAD_PHOTO))
    length = min(10 + 11 * pasture.height_cm, 330) * habit
    width = max(3.6 * (length / 65) ** 0.85, 1.8)
    count = _count(pasture.green_g * GRASS_MM2_PER_G * _thinned(pasture), length * width * BLADE_FILL, length / 2)
    bases, angles = _tufted(count, length / 2, rng)
    sizes = np.exp(rng.normal(0, SIZE_SPREAD_LEAF, count))
    depths = rng.beta(2.2, 1.6, count)
    edges = _blades(bases, angles, length * sizes, width * sizes**0.6, rng.normal(0, 0.25, count))
    return _blade_shapes(edges, _varied(colour, depths, 8, rng), depths)


def _straw(pasture: Pasture, colour: Floats, rng: np.random.Generator) -> Shapes:
    """Dead leaves and stems: paler, thinner and straighter than blades, mostly below them."""
    habit = np.exp(rng.normal(0, SIZE_SPREAD_PHOTO))
    length = min(15 + 10 * pasture.height_cm, 300) * habit
    width = max(2.6 * (length / 65) ** 0.7, 1.5)
    count = _count(pasture.dead_g * STRAW_MM2_PER_G * _thinned(pasture), length * width * BLADE_FILL, length / 2)
    area = np.array(QUADRAT_MM)
    bases = rng.uniform(-length / 2, area + length / 2, (count, 2))
    sizes = np.exp(rng.normal(0, SIZE_SPREAD_LEAF, count))
    depths = rng.beta(1.5, 2.2, count)
    angles, bends = rng.uniform(-np.pi, np.pi, count), rng.normal(0, 0.08, count)
    edges = _blades(bases, angles, length * sizes, width * sizes**0.6, bends)
    return _blade_shapes(edges, _varied(colour, depths, 7, rng), depths)


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
    size = min(6.5 + 1.1 * pasture.height_cm, 24) * np.exp(rng.normal(0, SIZE_SPREAD_PHOTO))
    # Three leaflets of 0.62 of their square each.
    leaf_mm2 = 3 * 0.62 * size**2
    count = _count(pasture.clover_g * CLOVER_MM2_PER_G * _thinned(pasture), leaf_mm2, size)
    patches = rng.uniform(0, QUADRAT_MM, (int(rng.integers(6, 40)), 2))
    centres = patches[rng.integers(0, len(patches), count)] + rng.normal(0, rng.uniform(30, 90), (count, 2))
    # What falls outside comes back on the other side: the grams stay in the quadrat.
    centres = centres % np.array(QUADRAT_MM)
    depths = rng.beta(2.5, 1.4, count)
    sizes = size * np.exp(rng.normal(0, SIZE_SPREAD_LEAF * 0.7, count))
    outlines = [_turned(part, centres, sizes, rng_angles) for part, rng_angles in _leaf_parts(count, rng)]
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
    direction, darkness = rng.uniform(-np.pi, np.pi), rng.uniform(0.4, 0.65)
    shift = SHADOW_MM * np.array([np.cos(direction), np.sin(direction)]) * to_pixels
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    bounds = np.searchsorted(shapes.depths, np.linspace(0, 1, LAYERS + 1)[1:-1])
    for lower, upper in zip([0, *bounds], [*bounds, len(shapes.depths)], strict=True):
        if lower == upper:
            continue
        drawn = _layer(shapes.polygons[lower:upper], shapes.colours[lower:upper], (height, width), to_pixels)
        alpha = np.ascontiguousarray(drawn[:, :, 3])
        shadow = cv2.GaussianBlur(cv2.warpAffine(alpha, move, (width, height)), (0, 0), width / 700)
        scene = scene * ((1 - darkness * shadow) * (1 - alpha))[:, :, None]
        scene += drawn[:, :, :3]
    return scene


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
    direction, slope = rng.uniform(-np.pi, np.pi), rng.uniform(0, 0.45)
    across, down = np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height)[:, None]
    light = np.exp(slope * np.cos(direction) * across) * np.exp(slope * np.sin(direction) * down)
    light = light.astype(np.float32)
    light *= np.exp(0.08 * _noise(rng, 6, width))
    shaded, centre, radius = rng.random() < 0.3, rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.25)
    if shaded:
        shadow = np.zeros((height, width), np.float32)
        cv2.ellipse(shadow, (int(centre * width), height), (int(radius * width), int(0.35 * height)), 0, 0, 360, 1, -1)
        light *= 1 - 0.6 * cv2.GaussianBlur(shadow, (0, 0), width / 300)
    return scene * light[:, :, None]


def _photographed(scene: Image, stamp: str, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """White balance, saturation, exposure, contrast, blur and noise, then the stamp in the corner."""
    width = scene.shape[1]
    gains = np.exp(rng.normal(0, (0.07, 0.03, 0.07)) + rng.uniform(0.05, 0.35)).astype(np.float32)
    saturation, gamma, blur = rng.uniform(0.8, 1.2), rng.uniform(0.85, 1.15), rng.uniform(0.05, 0.6)
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
