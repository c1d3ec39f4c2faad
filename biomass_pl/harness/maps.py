"""`biomass predict --maps`: which runs have maps, and a map of every photo that was predicted."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from biomass_pl.data.base import FoldDataModule, Source
from biomass_pl.errors import ConfigError
from biomass_pl.evaluation.maps import MakesMaps, MapLayers, file_stems, write_map
from biomass_pl.files import require_writable
from biomass_pl.terminal import progress, say
from biomass_pl.training.task import Task

_ENOUGH = (500, 1000)
"""Height and width of a photo that suffice under a map."""


def layers_of(task: Task) -> MapLayers:
    """What the maps of a task show.

    Raises:
        ConfigError: It has none.
    """
    if not isinstance(task, MakesMaps):
        raise ConfigError(f"--maps: {type(task).__name__} predicts a photo as a whole and has no maps. Leave it out.")
    return task.map_layers


def require_maps(task: Task, folder: Path, *, several_views: bool) -> None:
    """Refuses maps, before anything is predicted, where there are none or they cannot be written.

    Args:
        task: The task that predicts.
        folder: Where they are to go.
        several_views: Whether each photo is predicted in several views.

    Raises:
        ConfigError: The task has none, or each view would have its own.
    """
    layers_of(task)
    if several_views:
        raise ConfigError("--maps shows photos as they are, --tta averages their flips. Give one of them.")
    require_writable(folder / "map.json")


def write_maps(
    maps: np.ndarray, names: Sequence[str], data: FoldDataModule, source: Source, task: Task, folder: Path
) -> None:
    """Writes the map of each photo; of one that several models predict, the mean.

    Args:
        maps: A map for each name (names, layers, height, width).
        names: Names of photos.
        data: Knows the photos.
        source: Which of them were predicted.
        task: The task that made the maps.
        folder: Where the files go.
    """
    layers = layers_of(task)
    if source == "test":
        data.select(source)  # where their truth is known, another data module predicted them
    photos = data.photos() if source == "held_out" else data.selected_photos()
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    with progress("Maps", len(rows)) as advance:
        for (name, of_photo), stem in zip(rows.items(), file_stems(list(rows)), strict=True):
            photo = photos.read(name, at_least=_ENOUGH)
            write_map(maps[of_photo].mean(axis=0), photo, layers, name=name, path=folder / stem)
            advance()
    say(f"{len(rows)} map(s): {folder}")
