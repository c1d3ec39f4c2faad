"""From a photo to the tiles of its two views: geometry, colour, and the cut."""

import math
import os
from dataclasses import dataclass

import cv2
import numpy as np
import torch

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version at import
import albumentations as A  # noqa: N812

from biomass_pl.data.augmentation import seed_changes
from biomass_pl.data.photos import split_views
from biomass_pl.errors import ConfigError

SMALLEST_CROP = 0.8
"""Smallest share of a view's area that a random crop keeps; the grams of what is cut off stay in the label."""


@dataclass(frozen=True, kw_only=True)
class TileGeometry:
    """How one view is cut into tiles.

    Args:
        grid: Rows and columns of tiles per view.
        tile_size: Side of a tile in pixels.
        view_size: Side to which each view is resized before the cut, so that its tiles are resized once more;
            none keeps the pixels that the tiles need.

    Raises:
        ConfigError: A view of `view_size` cannot be cut into equal tiles.
    """

    grid: tuple[int, int]
    tile_size: int
    view_size: int | None = None

    def __post_init__(self) -> None:
        step = math.lcm(*self.grid)
        if self.view_size is not None and self.view_size % step:
            below = self.view_size // step * step
            sizes = " or ".join(str(size) for size in (below, below + step) if size)
            raise ConfigError(
                f"data.view_size is {self.view_size}, which a grid of {self.grid[0]} x {self.grid[1]} tiles does not "
                f"divide. Give {sizes}, or null to cut tiles of {self.tile_size} pixels from the view as it is."
            )

    @property
    def view_shape(self) -> tuple[int, int]:
        """Height and width in pixels of a view before it is cut."""
        if self.view_size is not None:
            return self.view_size, self.view_size
        return self.grid[0] * self.tile_size, self.grid[1] * self.tile_size

    @property
    def decode_size(self) -> tuple[int, int]:
        """Height and width in pixels of a photo whose smallest random crops need hardly be enlarged.

        Training and validation share it, and with it the decoded photos.
        """
        height, width = self.view_shape
        # A hundredth more than none lets 2000 x 1000 pixels be decoded at half scale for tiles of 224.
        side = SMALLEST_CROP**0.5 * 1.01
        return round(height / side), round(2 * width / side)

    def cut(self, views: np.ndarray) -> torch.Tensor:
        """Cuts views into tiles.

        Args:
            views: uint8 array (views, height, width, 3) of `view_shape`.

        Returns:
            uint8 tensor (views, tiles, 3, tile_size, tile_size), tiles in reading order.
        """
        rows, columns = self.grid
        height, width = self.view_shape[0] // rows, self.view_shape[1] // columns
        size = self.tile_size
        tiles = views.reshape(len(views), rows, height, columns, width, 3).swapaxes(2, 3)
        if (height, width) != (size, size):
            resized = [_resize_tile(tile, size) for tile in tiles.reshape(-1, height, width, 3)]
            tiles = np.stack(resized).reshape(len(views), rows, columns, size, size, 3)
        channels_first = np.ascontiguousarray(np.moveaxis(tiles, -1, 3))
        return torch.from_numpy(channels_first.reshape(len(views), rows * columns, 3, size, size))


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Random changes of training photos.

    Args:
        aug_prob: Base probability of each random change, 0 to 1.
        stereo_correct: Draw colour changes for each view on its own.
        stereo_swap_prob: Probability of swapping the two views, 0 to 1.
    """

    aug_prob: float
    stereo_correct: bool
    stereo_swap_prob: float


class PlainTransform:
    """Validation and prediction: resize by area, nothing random.

    Args:
        geometry: The grid of tiles.
    """

    def __init__(self, *, geometry: TileGeometry) -> None:
        self.geometry = geometry

    def __call__(self, photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Gives the two views, uint8 (2, height, width, 3); `rng` is not drawn from."""
        return np.stack([_resize(view, self.geometry.view_shape) for view in split_views(photo)])


class TrainingTransform:
    """Training: geometry alike for both views, colour for each its own where asked for.

    Both parts work on uint8 pixels before normalisation.

    Args:
        geometry: The grid of tiles.
        config: The random changes.
    """

    def __init__(self, *, geometry: TileGeometry, config: AugmentationConfig) -> None:
        self.geometry = geometry
        self.config = config
        self._shape = _geometric(geometry.view_shape, config.aug_prob)
        self._colour = _photometric(config.aug_prob)

    def __call__(self, photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Gives the two views, uint8 (2, height, width, 3), as `rng` draws them."""
        left, right = split_views(photo)
        geometry_seed, *colour_seeds = (int(seed) for seed in rng.integers(2**31, size=3))
        if not self.config.stereo_correct:
            colour_seeds[1] = colour_seeds[0]
        views = []
        for view, colour_seed in zip((left, right), colour_seeds, strict=True):
            seed_changes(self._shape, geometry_seed)
            seed_changes(self._colour, colour_seed)
            views.append(self._colour(image=self._shape(image=np.ascontiguousarray(view))["image"])["image"])
        if rng.random() < self.config.stereo_swap_prob:
            views.reverse()
        return np.stack(views)


def _geometric(view_shape: tuple[int, int], aug_prob: float) -> A.Compose:
    """Crop and resize from native pixels in one step, then flips, quarter turns and a small affine change."""
    square = view_shape[0] == view_shape[1]
    return A.Compose(
        [
            A.RandomResizedCrop(
                size=view_shape,
                scale=(SMALLEST_CROP, 1.0),
                ratio=(0.9, 1.1),
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


def _resize(view: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    height, width = shape
    return np.asarray(cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA))


def _resize_tile(tile: np.ndarray, size: int) -> np.ndarray:
    # By area where pixels are lost; enlarging by area would repeat pixels in blocks.
    interpolation = cv2.INTER_AREA if min(tile.shape[:2]) > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(tile, (size, size), interpolation=interpolation))
