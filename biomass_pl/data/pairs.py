"""Two random views of the same photo, for learning without labels: the changes of SimCLR, drawn for every view."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version at import
import albumentations as A  # noqa: N812

from biomass_pl.data.augmentation import item_generator, seed_changes
from biomass_pl.data.bank import photo_key
from biomass_pl.data.base import TrainingPhotos
from biomass_pl.data.photos import read_photo
from biomass_pl.errors import ConfigError

_BLURRED_SHARE = 20
"""A blur's kernel reaches so small a part of the side in each direction; about a tenth of it in all."""

_KEY_DIGITS = 32
"""Digits of `photo_key`."""


@dataclass(frozen=True, kw_only=True)
class PairAugmentation:
    """How a view is made of a photo: the random changes of SimCLR (Chen et al. 2020).

    Args:
        crop_scale: Smallest and largest share of the photo's area that a view shows.
        flip_prob: Probability of a flip, left to right.
        jitter_strength: Multiplies the four strengths of the colour changes.
        brightness: Largest change of the brightness, as a share of it.
        contrast: Largest change of the contrast.
        saturation: Largest change of the saturation.
        hue: Largest change of the hue, as a share of its circle.
        jitter_prob: Probability of the four colour changes, which come together in random order.
        greyscale_prob: Probability of losing all colour.
        blur_prob: Probability of a Gaussian blur.
        blur_sigma: Smallest and largest standard deviation of the blur in pixels.

    Raises:
        ConfigError: A number is out of its range.
    """

    crop_scale: tuple[float, float] = (0.2, 1.0)
    flip_prob: float = 0.5
    jitter_strength: float = 1.0
    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    jitter_prob: float = 0.8
    greyscale_prob: float = 0.2
    blur_prob: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.endswith("_prob") and not 0 <= value <= 1:
                raise ConfigError(f"model.pairs.{name} is {value}; give a probability from 0 to 1.")
        for name in ("jitter_strength", "brightness", "contrast", "saturation", "hue"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"model.pairs.{name} is {getattr(self, name)}; give 0 or more.")
        if self.hue * self.jitter_strength > 0.5:
            raise ConfigError(
                f"model.pairs.hue {self.hue} times model.pairs.jitter_strength {self.jitter_strength} is more than "
                "half the circle of hues. Lower one of them."
            )
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ConfigError(
                f"model.pairs.crop_scale is {list(self.crop_scale)}; give two shares above 0, the smaller first."
            )
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1] < math.inf:
            raise ConfigError(
                f"model.pairs.blur_sigma is {list(self.blur_sigma)}; give two numbers above 0, the smaller first."
            )

    def decode_size(self, tile_size: int) -> int:
        """Height and width in pixels of a photo whose smallest crops are not enlarged.

        Args:
            tile_size: Side of a view in pixels.
        """
        return math.ceil(tile_size / math.sqrt(self.crop_scale[0]))

    def changes(self, tile_size: int) -> A.Compose:
        """The changes in their order, from a decoded photo to uint8 pixels (tile_size, tile_size, 3).

        Args:
            tile_size: Side of a view in pixels.
        """
        kernel = max(3, 2 * (tile_size // _BLURRED_SHARE) + 1)
        return A.Compose(
            [
                A.RandomResizedCrop(
                    size=(tile_size, tile_size),
                    scale=self.crop_scale,
                    interpolation=cv2.INTER_LINEAR,
                    area_for_downscale="image",
                ),
                A.HorizontalFlip(p=self.flip_prob),
                A.ColorJitter(
                    brightness=self._around_one(self.brightness),
                    contrast=self._around_one(self.contrast),
                    saturation=self._around_one(self.saturation),
                    hue=(-self.hue * self.jitter_strength, self.hue * self.jitter_strength),
                    p=self.jitter_prob,
                ),
                A.ToGray(p=self.greyscale_prob),
                A.GaussianBlur(blur_limit=(kernel, kernel), sigma_limit=self.blur_sigma, p=self.blur_prob),
            ]
        )

    def _around_one(self, strength: float) -> tuple[float, float]:
        change = strength * self.jitter_strength
        return max(0.0, 1 - change), 1 + change


class PairDataset(Dataset[dict[str, Any]]):
    """Pairs of views. What they look like depends on (seed, epoch, photo) alone.

    Args:
        training: The photos of a fold, and their grid: both views show the same part of it, drawn every time.
        files: Further photos of the same kind.
        augmentation: How a view is made.
        tile_size: Side of a view in pixels.
    """

    def __init__(
        self, training: TrainingPhotos, *, files: Sequence[Path] = (), augmentation: PairAugmentation, tile_size: int
    ) -> None:
        self.photos = training.photos
        # Arrays of text: lists of Python objects would be copied into every worker, page by page.
        self.names = np.array(training.names, dtype=np.str_)
        self.files = np.array([str(path) for path in files], dtype=np.str_)
        self.grid = training.grid
        self.seed = training.seed
        # A part must be as large as a whole photo of one part would be.
        side = augmentation.decode_size(tile_size)
        self.at_least = training.grid[0] * side, training.grid[1] * side
        self._changes = augmentation.changes(tile_size)

    def __len__(self) -> int:
        return len(self.names) + len(self.files)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """The pair for (index, epoch): `id`, and `tiles` uint8 (2, 3, S, S)."""
        index, epoch = key
        if index < len(self.names):
            name = str(self.names[index])
            photo = self.photos.read(name, at_least=self.at_least)
        else:
            name = str(self.files[index - len(self.names)])
            photo = read_photo(Path(name), at_least=self.at_least)
        rng = item_generator(self.seed, epoch, name)
        part = _drawn_part(photo, self.grid, rng)
        views = np.stack([self._view(part, rng) for _ in range(2)])
        return {"id": name, "tiles": torch.from_numpy(np.ascontiguousarray(views.transpose(0, 3, 1, 2)))}

    def _view(self, photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        seed_changes(self._changes, int(rng.integers(2**31)))
        return np.asarray(self._changes(image=photo)["image"])


def without_copies(files: Iterable[Path], contents: Iterable[str]) -> list[Path]:
    """Files that are no copies of labelled photos.

    Args:
        files: Files of photos.
        contents: SHA-256 of the labelled photos' files, in hexadecimal digits, of which the first 32 are compared.
    """
    labelled = {content[:_KEY_DIGITS] for content in contents}
    return [path for path in files if photo_key(path) not in labelled]


def _drawn_part(photo: np.ndarray, grid: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """One of the equal parts of a photo (height, width, 3)."""
    (height, width), (rows, columns) = photo.shape[:2], grid
    row, column = (int(rng.integers(count)) for count in grid)
    return photo[
        row * height // rows : (row + 1) * height // rows,
        column * width // columns : (column + 1) * width // columns,
    ]
