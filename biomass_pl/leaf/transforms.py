"""Photos of leaves from decoded photo to the picture that the backbone takes, and bands registered to them."""

import math
import os
from typing import Any, Literal, get_args

import cv2
import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandAugment

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version at import
import albumentations as A  # noqa: N812
from albumentations.core.type_definitions import Targets

from biomass_pl.data.augmentation import seed_changes
from biomass_pl.errors import ConfigError

Changes = A.Compose
"""What is done to a decoded photo, in order."""

Severity = Literal["light", "moderate", "aggressive"]

_SMALLEST_CROP = {"light": 0.8, "moderate": 0.7, "aggressive": 0.6}
"""Smallest share of a photo's area that a random crop keeps. The published ranges begin here, too; they end above 1,
which no crop can reach."""

_LARGEST_TURN = {"moderate": 25, "aggressive": 35}
"""Degrees either way, as published."""

_INTERPOLATION = cv2.INTER_LINEAR
"""Photos are decoded at less than twice the size, where this loses nothing."""

_BORDER = cv2.BORDER_REFLECT_101
"""What comes in from outside of a photo: more of the leaf. Black would look like dead tissue."""

_MEAN_COLOUR = (124, 116, 104)
"""Mean of ImageNet's photos, which is nearly nothing after the normalisation of most backbones."""

_GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
"""Operations of RandAugment that move pixels."""


def decode_size(image_size: int, severity: Severity) -> tuple[int, int]:
    """Height and width of a decoded photo that suffice for the smallest crop."""
    side = math.ceil(image_size / math.sqrt(_SMALLEST_CROP[severity]))
    return side, side


def plain_changes(image_size: int) -> A.Compose:
    """Validation and prediction: resize to the square whatever the shape, nothing random."""
    return _composed([A.Resize(image_size, image_size, interpolation=_INTERPOLATION)])


def training_changes(image_size: int, severity: Severity) -> A.Compose:
    """Random changes of training photos, on uint8 pixels before normalisation.

    The kinds of changes at each severity are the published ones, each severity with those of the one before. Numbers
    were published for other names of the severities; those below follow them but for what is said.

    | change | light | moderate | aggressive | why |
    |---|---|---|---|---|
    | random crop, share of the area | .8 to 1 | .7 to 1 | .6 to 1 | aspect ratio 3/4 to 4/3 |
    | horizontal flip | .5 | .5 | .5 | |
    | rotation, degrees | | 25 | 35 | always; reflected at the borders |
    | brightness, contrast, saturation | | .2 | .2 | in 4 of 5 photos; light differs from day to day |
    | hue | | .02 | .02 | 7 degrees: green is 60 from yellow, and reddening and yellowing tell classes apart |
    | Gaussian blur, sigma in pixels | | .1 to 1.5 | .1 to 1.5 | in 1 of 4 photos |
    | grid distortion | | | .2 of a cell | in 3 of 10 photos; 5 x 5 cells, nothing leaves the picture |
    | RandAugment | | | 2 operations at 9 of 30 | in half of the photos: 3 of its 14 operations spoil hues |
    | cutout, side of the one hole | | | .15 to .35 | in half of the photos; lesions are many, and most stay |

    No disease is simulated: a healthy leaf that was yellowed would still be called healthy.

    Args:
        image_size: Side of the picture in pixels.
        severity: How much is changed.

    Raises:
        ConfigError: There is no such severity.
    """
    if severity not in get_args(Severity):
        raise ConfigError(f"data.severity is '{severity}'; give {', '.join(get_args(Severity))}.")
    crop = A.RandomResizedCrop(
        size=(image_size, image_size),
        scale=(_SMALLEST_CROP[severity], 1.0),
        ratio=(3 / 4, 4 / 3),
        interpolation=_INTERPOLATION,
    )
    light = [crop, A.HorizontalFlip(p=0.5)]
    if severity == "light":
        return _composed(light)
    moved = A.Rotate(limit=_LARGEST_TURN[severity], interpolation=_INTERPOLATION, border_mode=_BORDER, p=1.0)
    around_one = (0.8, 1.2)
    coloured = [
        A.ColorJitter(brightness=around_one, contrast=around_one, saturation=around_one, hue=(-0.02, 0.02), p=0.8),
        A.GaussianBlur(sigma_limit=(0.1, 1.5), p=0.25),
    ]
    if severity == "moderate":
        return _composed([*light, moved, *coloured])
    distorted = A.GridDistortion(num_steps=5, distort_limit=(-0.2, 0.2), border_mode=_BORDER, p=0.3)
    side = (0.15, 0.35)
    cutout = A.CoarseDropout(
        num_holes_range=(1, 1), hole_height_range=side, hole_width_range=side, fill=_MEAN_COLOUR, p=0.5
    )
    return _composed([*light, moved, distorted, *coloured, RandomOperations(p=0.5), cutout])


def change(changes: A.Compose, photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Applies changes as `rng` draws them, uint8 (S, S, 3)."""
    seed_changes(changes, int(rng.integers(2**31)))
    return np.asarray(changes(image=photo)["image"])


def change_with_bands(
    changes: A.Compose, photo: np.ndarray, bands: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Applies changes as `change` does, and to the bands what moves pixels: they stay registered.

    Colours, blur and cutout are the photo's alone.

    Args:
        changes: What is done.
        photo: uint8 (H, W, 3).
        bands: Float32 (H, W, C).
        rng: Draws the changes.

    Returns:
        The photo (S, S, 3) and its bands (S, S, C).
    """
    seed_changes(changes, int(rng.integers(2**31)))
    changed = changes(image=photo, mask=bands)
    return np.asarray(changed["image"]), np.asarray(changed["mask"]).reshape(*changed["image"].shape[:2], -1)


class RandomOperations(A.DualTransform):  # type: ignore[misc]
    """torchvision's RandAugment (Cubuk et al. 2020), with the draws of the composition's generator."""

    _targets = (Targets.IMAGE, Targets.MASK)

    def get_params(self) -> dict[str, Any]:
        """A seed for the operations of one photo, and of its bands."""
        return {"seed": self.py_random.getrandbits(32)}

    def apply(self, img: np.ndarray, seed: int, **params: Any) -> np.ndarray:
        """Changes a photo, uint8 (H, W, 3)."""
        return _augmented(RandAugment, img, seed)

    def apply_to_mask(self, mask: np.ndarray, seed: int, **params: Any) -> np.ndarray:
        """Moves bands (H, W, C) as the photo was moved."""
        return _augmented(_Moves, mask, seed)


class _Moves(RandAugment):  # type: ignore[misc]
    """RandAugment that draws as ever but does only what moves pixels."""

    def _apply_image_or_video_transform(self, image: Any, transform_id: str, *args: Any, **kwargs: Any) -> Any:
        if transform_id not in _GEOMETRIC:
            return image
        return super()._apply_image_or_video_transform(image, transform_id, *args, **kwargs)


def _augmented(kind: type[RandAugment], pixels: np.ndarray, seed: int) -> np.ndarray:
    """Pixels (H, W, channels) after two operations; what comes in at the borders has their mean."""
    mean = pixels.mean(axis=(0, 1)).tolist()
    augment = kind(num_ops=2, magnitude=9, interpolation=InterpolationMode.BILINEAR, fill=mean)
    channels_first = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    # The library draws from PyTorch's generator, which belongs to others. `torch.manual_seed` would seed a GPU's, too.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        changed = augment(channels_first)
    return np.ascontiguousarray(changed.numpy().transpose(1, 2, 0))


def _composed(changes: list[A.BasicTransform]) -> A.Compose:
    # Bands are measured values, not the numbers of classes for which masks are taken.
    return A.Compose(changes, mask_interpolation=_INTERPOLATION)
