"""Random changes of training photos that are cut into tiles: geometry and colour."""

import os
from dataclasses import dataclass

import cv2
import numpy as np

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version at import
import albumentations as A  # noqa: N812

from biomass_pl.data.augmentation import seed_changes
from biomass_pl.data.tiles import SMALLEST_CROP, TileGeometry


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Random changes of training photos.

    Args:
        aug_prob: Base probability of each random change, 0 to 1.
        stereo_correct: Draw colour changes for each view on its own.
        stereo_swap_prob: Probability of swapping the views, 0 to 1.
    """

    aug_prob: float
    stereo_correct: bool = False
    stereo_swap_prob: float = 0.0


class TrainingTransform:
    """Training: geometry alike for all views, colour for each its own where asked for.

    Both parts work on uint8 pixels before normalisation.

    Args:
        geometry: How views become tiles.
        config: The random changes.
    """

    def __init__(self, *, geometry: TileGeometry, config: AugmentationConfig) -> None:
        self.geometry = geometry
        self.config = config
        self._shapes: dict[tuple[int, int], A.Compose] = {}
        self._colour = _photometric(config.aug_prob)

    def __call__(self, photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Gives the views, uint8 (views, height, width, 3), as `rng` draws them."""
        views = self.geometry.split(photo)
        geometry_seed, *colour_seeds = (int(seed) for seed in rng.integers(2**31, size=1 + len(views)))
        if not self.config.stereo_correct:
            colour_seeds = colour_seeds[:1] * len(views)
        shape = self._changes_to(self.geometry.resized_shape(views[0]))
        changed = []
        for view, colour_seed in zip(views, colour_seeds, strict=True):
            seed_changes(shape, geometry_seed)
            seed_changes(self._colour, colour_seed)
            changed.append(self._colour(image=shape(image=np.ascontiguousarray(view))["image"])["image"])
        if rng.random() < self.config.stereo_swap_prob:
            changed.reverse()
        return np.stack(changed)

    def _changes_to(self, shape: tuple[int, int]) -> A.Compose:
        """Changes of geometry that end in a height and width; photos come in a few of them."""
        if shape not in self._shapes:
            aspect = self.geometry.crop_aspect(shape)
            self._shapes[shape] = _geometric(shape, self.config.aug_prob, aspect=aspect)
        return self._shapes[shape]


def _geometric(view_shape: tuple[int, int], aug_prob: float, *, aspect: float = 1.0) -> A.Compose:
    """Crop and resize from native pixels in one step, then flips, quarter turns and a small affine change."""
    square = view_shape[0] == view_shape[1]
    return A.Compose(
        [
            A.RandomResizedCrop(
                size=view_shape,
                scale=(SMALLEST_CROP, 1.0),
                ratio=(0.9 * aspect, 1.1 * aspect),
                interpolation=cv2.INTER_AREA,
                p=aug_prob,
            ),
            A.Resize(*view_shape, interpolation=cv2.INTER_AREA),
            A.HorizontalFlip(p=aug_prob),
            A.VerticalFlip(p=aug_prob),
            # A quarter turn of an oblong view would change its shape.
            A.RandomRotate90(p=aug_prob if square else 0.0),
            A.Affine(
                translate_percent=(-0.05, 0.05),
                scale=(0.95, 1.05),
                rotate=(-10, 10),
                border_mode=cv2.BORDER_REFLECT_101,
                p=aug_prob / 2,
            ),
        ]
    )


def _photometric(aug_prob: float) -> A.Compose:
    return A.Compose(
        [
            A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=aug_prob),
            A.HueSaturationValue(hue_shift_limit=10, sat_shift_limit=20, val_shift_limit=10, p=aug_prob),
            A.OneOf(
                [A.GaussNoise(std_range=(0.01, 0.05)), A.GaussianBlur(blur_limit=(3, 5))],
                p=aug_prob / 2,
            ),
        ]
    )
