"""Single lesions from decoded photo to the picture that the backbone takes."""

import math
import os
from typing import Literal

import cv2
import numpy as np

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version at import
import albumentations as A  # noqa: N812

from biomass_pl.data.augmentation import seed_changes

Changes = A.Compose
"""What is done to a decoded photo, in order."""

Augmentation = Literal["light", "medium", "heavy"]

_SMALLEST_CROP = {"light": 1.0, "medium": 0.8, "heavy": 0.7}
"""Smallest share of a photo's area that a random crop keeps."""


_INTERPOLATION = cv2.INTER_LINEAR
"""Most photos are enlarged; larger JPEGs are decoded at less than twice the size, where this loses nothing."""


def decode_size(image_size: int, augmentation: Augmentation) -> tuple[int, int]:
    """Height and width of a decoded photo that suffice for the smallest crop."""
    side = math.ceil(image_size / math.sqrt(_SMALLEST_CROP[augmentation]))
    return side, side


def plain_changes(image_size: int) -> A.Compose:
    """Validation and prediction: resize, nothing random."""
    return A.Compose([_resize(image_size)])


def training_changes(image_size: int, augmentation: Augmentation) -> A.Compose:
    """Random changes of training photos, on uint8 pixels before normalisation.

    The levels are those of the published scripts, in the argument names of albumentations 2: noise is given as the
    square root of their variance over 255, and shift, scale and turn are one affine change.

    Args:
        image_size: Side of the picture in pixels.
        augmentation: How much is changed.
    """
    turns = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5), A.RandomRotate90(p=0.5)]
    if augmentation == "light":
        return A.Compose([_resize(image_size), *turns])
    if augmentation == "medium":
        return A.Compose(
            [
                _crop(image_size, augmentation, ratio=(0.9, 1.1)),
                *turns,
                A.OneOf([_jitter(0.2, 0.1), _colour_shift(10, 20, 20)], p=0.5),
                _noise(50, p=0.3),
                A.GaussianBlur(blur_limit=(3, 5), p=0.2),
            ]
        )
    return A.Compose(
        [
            _crop(image_size, augmentation, ratio=(0.8, 1.2)),
            *turns,
            A.Rotate(limit=45, border_mode=cv2.BORDER_REFLECT_101, p=0.5),
            A.OneOf([_jitter(0.3, 0.15), _colour_shift(15, 30, 30)], p=0.7),
            A.OneOf([_noise(70, p=0.5), A.GaussianBlur(blur_limit=(3, 7)), A.MotionBlur(blur_limit=(3, 5))], p=0.5),
            A.Affine(
                translate_percent=(-0.1, 0.1),
                scale=(0.8, 1.2),
                rotate=(-30, 30),
                border_mode=cv2.BORDER_REFLECT_101,
                p=0.5,
            ),
            A.GridDistortion(border_mode=cv2.BORDER_REFLECT_101, p=0.2),
        ]
    )


def change(changes: A.Compose, photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Applies changes as `rng` draws them, uint8 (S, S, 3)."""
    seed_changes(changes, int(rng.integers(2**31)))
    return np.asarray(changes(image=photo)["image"])


def _resize(image_size: int) -> A.Resize:
    return A.Resize(image_size, image_size, interpolation=_INTERPOLATION)


def _crop(image_size: int, augmentation: Augmentation, *, ratio: tuple[float, float]) -> A.RandomResizedCrop:
    return A.RandomResizedCrop(
        size=(image_size, image_size),
        scale=(_SMALLEST_CROP[augmentation], 1.0),
        ratio=ratio,
        interpolation=_INTERPOLATION,
    )


def _jitter(strength: float, hue: float) -> A.ColorJitter:
    around_one = (1 - strength, 1 + strength)
    return A.ColorJitter(brightness=around_one, contrast=around_one, saturation=around_one, hue=(-hue, hue))


def _colour_shift(hue: int, saturation: int, value: int) -> A.HueSaturationValue:
    return A.HueSaturationValue(hue_shift_limit=hue, sat_shift_limit=saturation, val_shift_limit=value)


def _noise(variance: float, *, p: float) -> A.GaussNoise:
    """Gaussian noise of a variance of 10 up to this, in grey levels."""
    return A.GaussNoise(std_range=(math.sqrt(10) / 255, math.sqrt(variance) / 255), p=p)
