"""How a photo becomes tiles: its two views, their size, and the cut."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from biomass_pl.data.base import require_at_least
from biomass_pl.data.photos import split_views
from biomass_pl.errors import ConfigError

SMALLEST_CROP = 0.8
"""Smallest share of a view's area that a random crop keeps; what is measured on the rest stays in the label."""


@dataclass(frozen=True, kw_only=True)
class TileGeometry:
    """How one view is cut into tiles.

    Args:
        grid: Rows and columns of tiles per view.
        tile_size: Side of a tile in pixels.
        view_size: Side to which each view is resized before the cut, so that its tiles are resized once more;
            none keeps the pixels that the tiles need.

    Raises:
        ConfigError: A number is too small, or a view of `view_size` cannot be cut into equal tiles.
    """

    grid: tuple[int, int]
    tile_size: int
    view_size: int | None = None

    def __post_init__(self) -> None:
        view_size = 1 if self.view_size is None else self.view_size
        require_at_least(1, grid=min(self.grid), tile_size=self.tile_size, view_size=view_size)
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


def _resize(view: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    height, width = shape
    return np.asarray(cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA))


def _resize_tile(tile: np.ndarray, size: int) -> np.ndarray:
    # By area where pixels are lost; enlarging by area would repeat pixels in blocks.
    interpolation = cv2.INTER_AREA if min(tile.shape[:2]) > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(tile, (size, size), interpolation=interpolation))
