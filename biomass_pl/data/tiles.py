"""How a photo becomes tiles: its views, their size, and the cut."""

import abc
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np
import torch

from biomass_pl.data.base import require_at_least
from biomass_pl.data.photos import split_views
from biomass_pl.errors import ConfigError

PhotoViews = Literal["halves", "whole"]
"""What of a photo is looked at on its own: its left and its right half, or all of it."""

SMALLEST_CROP = 0.8
"""Smallest share of a view's area that a random crop keeps; what is measured on the rest stays in the label."""


@dataclass(frozen=True, kw_only=True)
class TileGeometry(abc.ABC):
    """How each view of a photo is cut into tiles.

    Args:
        grid: Rows and columns of tiles per view.
        tile_size: Side of a tile in pixels.

    Raises:
        ConfigError: A number is too small.
    """

    view_count: ClassVar[int]
    """Views of a photo, beside each other."""

    grid: tuple[int, int]
    tile_size: int

    def __post_init__(self) -> None:
        require_at_least(1, grid=min(self.grid), tile_size=self.tile_size)

    @property
    @abc.abstractmethod
    def decode_size(self) -> tuple[int, int]:
        """Height and width in pixels of a photo whose smallest random crops need hardly be enlarged.

        Training and validation share it, and with it the decoded photos.
        """

    @abc.abstractmethod
    def split(self, photo: np.ndarray) -> tuple[np.ndarray, ...]:
        """The views of a photo (height, width, 3), all of one shape."""

    @abc.abstractmethod
    def resized_shape(self, view: np.ndarray) -> tuple[int, int]:
        """Height and width in pixels to which a view (height, width, 3) is resized before it is cut."""

    @abc.abstractmethod
    def crop_aspect(self, shape: tuple[int, int]) -> float:
        """Width over height of what a random crop shows, but for a tenth.

        Args:
            shape: Height and width of the resized view.
        """

    @abc.abstractmethod
    def cut(self, views: np.ndarray) -> torch.Tensor:
        """Cuts resized views into tiles.

        Args:
            views: uint8 array (views, height, width, 3).

        Returns:
            uint8 tensor (views, tiles, 3, tile_size, tile_size), tiles in reading order.
        """


@dataclass(frozen=True, kw_only=True)
class HalvesGeometry(TileGeometry):
    """Two views, the halves of a photo, each brought to the shape of the grid, as published.

    Halves of another shape than the grid's are distorted.

    Args:
        view_size: Side to which each view is resized before the cut, so that its tiles are resized once more;
            none keeps the pixels that the tiles need.

    Raises:
        ConfigError: A number is too small, or a view of `view_size` cannot be cut into equal tiles.
    """

    view_count: ClassVar[int] = 2

    view_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, view_size=1 if self.view_size is None else self.view_size)
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
        """Of both halves together."""
        height, width = self.view_shape
        return _with_room_for_crops(height, 2 * width)

    def split(self, photo: np.ndarray) -> tuple[np.ndarray, ...]:
        """The left and the right half."""
        return split_views(photo)

    def resized_shape(self, view: np.ndarray) -> tuple[int, int]:
        """The same for all."""
        return self.view_shape

    def crop_aspect(self, shape: tuple[int, int]) -> float:
        """Square, whatever the grid, as published."""
        return 1.0

    def cut(self, views: np.ndarray) -> torch.Tensor:
        """Cuts views of `view_shape` into equal parts."""
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
class WholeGeometry(TileGeometry):
    """One view, the whole photo, of any shape and never distorted.

    The photo is resized until it just fits into the grid; where it is narrower than the grid, neighbouring tiles
    overlap. Only a photo so long that it would then be narrower than a single tile is made larger than the grid:
    what lies between and around its tiles is not seen. So a grid of 1 x 1 sees the middle square of a photo, and one of
    2 x 2 sees all of any photo up to twice as long as wide.

    Args:
        native_tiles: Do not resize: tiles of the photo's own pixels, spread evenly over it. Only photos that are
            smaller than a tile are enlarged.
    """

    view_count: ClassVar[int] = 1

    native_tiles: bool = False

    @property
    def decode_size(self) -> tuple[int, int]:
        """Of the whole grid; all pixels where tiles are to have the photo's own."""
        if self.native_tiles:
            return 0, 0
        rows, columns = self.grid
        return _with_room_for_crops(rows * self.tile_size, columns * self.tile_size)

    def split(self, photo: np.ndarray) -> tuple[np.ndarray, ...]:
        """The photo."""
        return (photo,)

    def resized_shape(self, view: np.ndarray) -> tuple[int, int]:
        """As the shape of the photo has it."""
        (rows, columns), size = self.grid, self.tile_size
        height, width = view.shape[:2]
        fitting = 1.0 if self.native_tiles else min(rows * size / height, columns * size / width)
        scale = max(fitting, size / height, size / width)
        return max(size, round(scale * height)), max(size, round(scale * width))

    def crop_aspect(self, shape: tuple[int, int]) -> float:
        """That of the photo."""
        return shape[1] / shape[0]

    def cut(self, views: np.ndarray) -> torch.Tensor:
        """Cuts tiles at even distances, the first and the last of them at the borders."""
        size = self.tile_size
        tops, lefts = (_starts(length, size, count) for length, count in zip(views.shape[1:3], self.grid, strict=True))
        tiles = np.stack([views[:, top : top + size, left : left + size] for top in tops for left in lefts], axis=1)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(tiles, -1, 2)))


def make_geometry(
    *, views: PhotoViews, grid: tuple[int, int], tile_size: int, view_size: int | None = None, native_tiles: bool
) -> TileGeometry:
    """The geometry of a data module's settings.

    Raises:
        ConfigError: A number is too small, or two settings do not go together.
    """
    if views == "whole":
        if view_size is not None:
            raise ConfigError("data.view_size shrinks the halves of a photo. Set it to null, or data.views to halves.")
        return WholeGeometry(grid=grid, tile_size=tile_size, native_tiles=native_tiles)
    if native_tiles:
        raise ConfigError("data.native_tiles takes tiles from the whole photo. Set data.views to whole.")
    return HalvesGeometry(grid=grid, tile_size=tile_size, view_size=view_size)


class PlainTransform:
    """Validation and prediction: resize by area, nothing random.

    Args:
        geometry: How views become tiles.
    """

    def __init__(self, *, geometry: TileGeometry) -> None:
        self.geometry = geometry

    def __call__(self, photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Gives the views, uint8 (views, height, width, 3); `rng` is not drawn from."""
        views = self.geometry.split(photo)
        return np.stack([_resize(view, self.geometry.resized_shape(view)) for view in views])


def _with_room_for_crops(height: int, width: int) -> tuple[int, int]:
    # A hundredth more than none lets 2000 x 1000 pixels be decoded at half scale for tiles of 224.
    side = SMALLEST_CROP**0.5 * 1.01
    return round(height / side), round(width / side)


def _starts(length: int, size: int, count: int) -> list[int]:
    """Where tiles of a side begin along a length: evenly spread; a single one in the middle."""
    last = length - size
    starts = np.linspace(0, last, count) if count > 1 else np.array([last / 2])
    return [int(start) for start in np.rint(starts)]


def _resize(view: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    height, width = shape
    return np.asarray(cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA))


def _resize_tile(tile: np.ndarray, size: int) -> np.ndarray:
    # By area where pixels are lost; enlarging by area would repeat pixels in blocks.
    interpolation = cv2.INTER_AREA if min(tile.shape[:2]) > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(tile, (size, size), interpolation=interpolation))
