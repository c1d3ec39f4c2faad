"""Maps of photos: where in them what a model predicts lies, as numbers and as a picture. No torch."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from biomass_pl.evaluation.class_pictures import shortened
from biomass_pl.evaluation.photo_sheets import without_formulas
from biomass_pl.evaluation.pictures import save_figure
from biomass_pl.files import replacing, write_json

MAP = "map"
"""Name of the array of a prediction that holds the maps: (photos, layers, height, width)."""

_SHOWN_WIDTH = 1000
"""Pixels across the picture of a photo."""

_OPACITY = 0.75
"""Of the colours where a map has its most."""

_LONGEST_STEM = 80
_TITLE = 90
_DIGEST = 8


@dataclass(frozen=True, kw_only=True)
class MapLayers:
    """What the layers of a map say.

    Args:
        colours: Colour (R, G, B of 0 to 255) of each layer, by its name, in their order.
        unit: Unit of the numbers.
        ground_mm: Longer and shorter side of the ground that a photo shows.
    """

    colours: Mapping[str, tuple[int, int, int]]
    unit: str
    ground_mm: tuple[float, float]


@runtime_checkable
class MakesMaps(Protocol):
    """A task that can tell where in a photo lies what it predicts."""

    map_layers: MapLayers

    def make_maps(self, photo_grid: tuple[int, int]) -> None:
        """Has predictions carry the array `MAP`: maps of the whole photos as they stand upright.

        Args:
            photo_grid: Rows and columns of equal parts of a photo, each of which the network is shown as one picture.
        """


def write_map(values: np.ndarray, photo: np.ndarray, layers: MapLayers, *, name: str, path: Path) -> None:
    """Writes a map as NPY, what it shows as JSON and a picture as PNG, side by side, each whole or not at all.

    Args:
        values: The map (layers, height, width).
        photo: The photo, uint8 (height, width, 3), of any size.
        layers: What the layers say.
        name: What the photo is called.
        path: Where they go, without suffix.
    """
    height, width = values.shape[1:]
    across, down = sorted(layers.ground_mm, reverse=photo.shape[1] >= photo.shape[0])
    about = {
        "photo": name,
        "names": list(layers.colours),
        "unit": layers.unit,
        "mm_per_pixel": {"across": across / width, "down": down / height},
    }
    with replacing(path.with_name(f"{path.name}.npy")) as temporary, temporary.open("wb") as file:
        np.save(file, values.astype(np.float32), allow_pickle=False)
    write_json(about, path.with_name(f"{path.name}.json"))
    save_figure(_picture(values, photo, layers, name), path.with_name(f"{path.name}.png"))


def file_stems(names: Sequence[str]) -> list[str]:
    """A file name without suffix for each photo: what follows the last slash, in plain letters, each only once.

    Photos that would share one, such as those of the same name in two folders, are told apart by a hash.
    """
    plain = [_plain(name) for name in names]
    counts = Counter(stem.lower() for stem in plain)  # some disks do not tell capitals apart
    return [
        stem if counts[stem.lower()] == 1 else f"{stem}-{hashlib.sha256(name.encode()).hexdigest()[:_DIGEST]}"
        for name, stem in zip(names, plain, strict=True)
    ]


def _plain(name: str) -> str:
    last = re.split(r"[/\\]", name)[-1]
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", Path(last).stem).lstrip(".-")
    return stem[:_LONGEST_STEM] or "photo"


def _picture(values: np.ndarray, photo: np.ndarray, layers: MapLayers, name: str) -> Figure:
    """A photo under the colours of its map, and beside it what they stand for."""
    most = float(values.max()) or 1.0  # of nothing, any scale will do
    height = max(1, photo.shape[0] * _SHOWN_WIDTH // photo.shape[1])
    covered = _covered(values / most, cv2.resize(photo, (_SHOWN_WIDTH, height), interpolation=cv2.INTER_AREA), layers)
    figure = Figure(figsize=(12, 1 + 9 * height / _SHOWN_WIDTH))
    # Fixed places: a layout that fits itself to its texts takes as long as all the rest.
    panel = figure.add_axes((0.01, 0.03, 0.76, 0.88))
    panel.imshow(covered)
    panel.axis("off")
    panel.set_title(without_formulas(shortened(name, _TITLE)), fontsize=10)
    for place, (layer, colour) in enumerate(layers.colours.items()):
        scale = LinearSegmentedColormap.from_list(
            layer, [(1.0, 1.0, 1.0), (colour[0] / 255, colour[1] / 255, colour[2] / 255)]
        )
        left = 0.79 + 0.2 * place / len(layers.colours)
        bar = figure.colorbar(ScalarMappable(Normalize(0, most), scale), cax=figure.add_axes((left, 0.05, 0.014, 0.84)))
        bar.set_label(f"{layer}, {layers.unit}")
    return figure


def _covered(shares: np.ndarray, photo: np.ndarray, layers: MapLayers) -> np.ndarray:
    """A photo without its colours under those of the layers, the denser the more a layer has."""
    height, width = photo.shape[:2]
    sums = shares.sum(axis=0)
    colours = np.tensordot(shares, np.array(list(layers.colours.values()), dtype=np.float64), axes=(0, 0))
    colours = np.divide(colours, sums[:, :, None], out=np.zeros_like(colours), where=sums[:, :, None] > 0)
    both = np.dstack([colours, _OPACITY * np.minimum(sums, 1)])
    # Enlarged in blocks: a patch has one number.
    both = cv2.resize(both, (width, height), interpolation=cv2.INTER_NEAREST)
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[:, :, None]
    opacity = both[:, :, 3:]
    return np.rint(opacity * both[:, :, :3] + (1 - opacity) * grey).astype(np.uint8)
