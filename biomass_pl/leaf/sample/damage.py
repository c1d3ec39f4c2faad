"""What each class does to a leaf: how it grows, where its colour changes and how its margin curls."""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from biomass_pl.data.rendering import Floats, Image
from biomass_pl.leaf.sample.blade import Blade, Growth
from biomass_pl.leaf.sample.paint import SUBPIXEL_BITS, blurred, colour_of, noise, opacity_of, ramp, subpixels, within

# Hue in degrees, saturation and value, least and most. What tells the classes apart is where a colour lies, as their
# ranges overlap.
YELLOW = ((38, 0.42, 0.68), (60, 0.78, 0.92))
BRONZE = ((14, 0.45, 0.38), (38, 0.75, 0.70))
RED = ((-25, 0.48, 0.35), (24, 0.78, 0.72))
BROWN = ((8, 0.25, 0.10), (36, 0.60, 0.34))
DARK_GREEN = ((80, 0.50, 0.15), (130, 0.70, 0.35))
UNDERSIDE = ((66, 0.15, 0.45), (115, 0.40, 0.72))
PALE = ((40, 0.10, 0.75), (78, 0.55, 0.95))


@dataclass(frozen=True)
class Layer:
    """A colour (B, G, R in 0..1) and how much of it covers each pixel, 0..1."""

    colour: Image
    opacity: Image


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What is to be seen on a leaf.

    Attributes:
        layers: Colours from the lowest to the topmost.
        relief: Height of the surface in leaf lengths, besides that of a healthy leaf; none where it is as flat.
    """

    layers: list[Layer] = field(default_factory=list)
    relief: Image | None = None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A class.

    Attributes:
        growth: How its leaves grow.
        damage: What is to be seen on them.
        share: Photos of the class in the published data.
    """

    growth: Growth
    damage: Callable[[Blade, np.random.Generator], Damage]
    share: int


def _no_damage(blade: Blade, rng: np.random.Generator) -> Damage:
    return Damage()


def _blight(blade: Blade, rng: np.random.Generator) -> Damage:
    """Many small spots with corners, crowded along veins, each in a paler halo."""
    spots = np.zeros(blade.cover.shape, np.uint8)
    weights = blade.cover * (1.15 - blade.between) * (blade.depth > 0.01)
    places = rng.choice(weights.size, int(rng.integers(25, 80)), p=_probabilities(weights))
    for place in places.tolist():
        down, across = divmod(place, blade.cover.shape[1])
        corners = int(rng.integers(4, 7))
        angles = (rng.uniform(0, 0.8, corners) + np.arange(corners)) * 2 * np.pi / corners
        radii = blade.length * rng.uniform(0.014, 0.045) * rng.uniform(0.7, 1.2, corners)
        outline = np.stack([across + radii * np.cos(angles), down + radii * np.sin(angles)], axis=1)
        cv2.fillPoly(spots, [subpixels(outline)], int(rng.integers(150, 256)), cv2.LINE_AA, SUBPIXEL_BITS)
    opacity = opacity_of(spots)
    halo = within(np.float32(2.2) * blurred(opacity, 0.018 * blade.length), 0, 1)
    return Damage(
        layers=[
            Layer(colour_of(YELLOW, rng), halo * np.float32(rng.uniform(0.4, 0.85))),
            Layer(colour_of(BROWN, rng), opacity * np.float32(rng.uniform(0.75, 1))),
        ]
    )


def _probabilities(weights: Image) -> Floats:
    flat = weights.ravel().astype(np.float64)
    return np.asarray(flat / flat.sum())


def _curl(blade: Blade, rng: np.random.Generator) -> Damage:
    """The margin rolls up and shows the pale underside, the veins swell, and the blade between them buckles."""
    shape = blade.cover.shape
    uneven = within(1 + np.float32(0.5) * noise(shape, 0.4 * blade.length, rng), 0.3, 2)
    rolled = ramp(blade.depth - np.float32(rng.uniform(0.05, 0.10)) * uneven, 0.006, -0.006) * blade.cover
    shade = blurred(rolled, 0.03 * blade.length) * (1 - rolled)
    buckles = noise(shape, 0.11 * blade.length, rng)
    relief = 0.03 * np.exp(-blade.depth / 0.06) + 0.008 * buckles + 0.012 * blade.between
    swollen = within(blurred(blade.veins, 0.008 * blade.length), 0, 0.8)
    return Damage(
        layers=[
            Layer(colour_of(DARK_GREEN, rng), swollen),
            Layer(np.zeros(3, np.float32), shade * np.float32(0.75)),
            Layer(colour_of(UNDERSIDE, rng), rolled * np.float32(rng.uniform(0.6, 0.9))),
        ],
        relief=np.asarray(relief, np.float32),
    )


def _hopper_burn(blade: Blade, rng: np.random.Generator) -> Damage:
    """A yellow, then bronze band all along the margin, with its rim dried up."""
    wander = noise(blade.cover.shape, 0.22 * blade.length, rng)
    reach = np.float32(rng.uniform(0.09, 0.17)) * within(1 + np.float32(0.45) * wander, 0.3, 2)
    yellow = ramp(blade.depth / reach, 1.15, 0.75) * blade.cover
    bronze = ramp(blade.depth / reach, 0.65, 0.35) * blade.cover
    dry = ramp(blade.depth / reach, 0.25, 0.15) * blade.cover
    return Damage(
        layers=[
            Layer(colour_of(YELLOW, rng), yellow * np.float32(rng.uniform(0.75, 0.95))),
            Layer(colour_of(BRONZE, rng), bronze * np.float32(rng.uniform(0.75, 0.95))),
            Layer(colour_of(BROWN, rng), dry * np.float32(rng.uniform(0.6, 0.95))),
        ]
    )


def _reddening(blade: Blade, rng: np.random.Generator) -> Damage:
    """Red between the veins, which stay green, and the more so towards the margin."""
    spread = rng.uniform(0.12, 0.5)
    blotches = 0.25 * noise(blade.cover.shape, 0.25 * blade.length, rng)
    inwards = np.exp(-blade.depth / np.float32(spread)) + blotches
    mottled = 0.2 * noise(blade.cover.shape, 0.02 * blade.length, rng)
    opacity = ramp(inwards + mottled, 0.1, 0.5) * ramp(blade.between, 0.05, 0.4) * blade.cover
    return Damage(layers=[Layer(colour_of(RED, rng), opacity * np.float32(rng.uniform(0.65, 0.95)))])


def _variegation(blade: Blade, rng: np.random.Generator) -> Damage:
    """Pale patches with hard borders, of all sizes, on a part of the leaf."""
    shape = blade.cover.shape
    coarse, fine = noise(shape, 0.35 * blade.length, rng), noise(shape, 0.09 * blade.length, rng)
    field_of_patches = coarse + 0.6 * fine
    threshold = float(np.quantile(field_of_patches[blade.cover > 0.5], rng.uniform(0.5, 0.75)))
    patches = ramp(field_of_patches, threshold - 0.05, threshold + 0.05) * blade.cover
    half = ramp(field_of_patches, threshold - 0.5, threshold - 0.4) * blade.cover
    pale = colour_of(PALE, rng)
    return Damage(
        layers=[
            Layer(pale, half * np.float32(rng.uniform(0.1, 0.35))),
            Layer(pale, patches * np.float32(rng.uniform(0.75, 0.95))),
        ]
    )


STRAPS = Growth(half_width=(0.08, 0.13), uneven=0.18, bend=0.5, waves=(0.1, 0.3), centre=(0.06, 0.12), vein_angle=18.0)

# Folder names and numbers of original photos as published.
KINDS = {
    "Bacterial Blight": Kind(growth=Growth(), damage=_blight, share=250),
    "Curl Virus": Kind(growth=Growth(), damage=_curl, share=431),
    "Healthy Leaf": Kind(growth=Growth(), damage=_no_damage, share=257),
    "Herbicide Growth Damage": Kind(growth=STRAPS, damage=_no_damage, share=280),
    "Leaf Hopper Jassids": Kind(growth=Growth(), damage=_hopper_burn, share=225),
    "Leaf Redding": Kind(growth=Growth(), damage=_reddening, share=578),
    "Leaf Variegation": Kind(growth=Growth(), damage=_variegation, share=116),
}
