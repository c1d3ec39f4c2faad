"""Pictures of many photos: thumbnails row by row, each under a few words. No torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure

from biomass_pl.evaluation.pictures import save_figure

_SHEET_COLUMNS = 5
_SHEET_OF_MANY_COLUMNS = 6
_PANEL_WIDTH, _LINE = 2.5, 0.13
"""Width of a panel, and height of a line of its caption, in inches."""

_THUMBNAIL = 256
"""Longest side of a thumbnail in pixels."""


def photo_sheet(photos: Iterable[tuple[np.ndarray, str]], path: Path, *, title: str) -> None:
    """Draws photos as thumbnails, each above a caption.

    Args:
        photos: RGB bytes (height, width, 3) and caption of each.
        path: The PNG file.
        title: What stands above all.
    """
    thumbnails = [(thumbnail(photo), caption) for photo, caption in photos]
    heights = [
        _PANEL_WIDTH * picture.shape[0] / picture.shape[1] + _LINE * (caption.count("\n") + 2)
        for picture, caption in thumbnails
    ]
    figure, panels = sheet_figure(
        len(thumbnails), columns=_SHEET_OF_MANY_COLUMNS, title=title, row_height=max(heights, default=1.0)
    )
    for panel, (picture, caption) in zip(panels, thumbnails, strict=True):
        panel.imshow(picture)
        panel.text(
            *(0.5, -0.03), without_formulas(caption), fontsize=7, ha="center", va="top", transform=panel.transAxes
        )
    save_figure(figure, path)


def thumbnail(photo: np.ndarray) -> np.ndarray:
    """A photo of at most 256 pixels a side."""
    height, width = photo.shape[:2]
    scale = _THUMBNAIL / max(height, width)
    if scale >= 1:
        return photo
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA))


def sheet_figure(
    count: int, *, columns: int = _SHEET_COLUMNS, title: str = "", row_height: float = 2.9
) -> tuple[Figure, list[Any]]:
    """A figure with as many panels without axes, row by row.

    Args:
        count: Number of panels.
        columns: Panels in a row.
        title: What stands above all.
        row_height: Height of a row in inches.
    """
    rows = max(1, -(-count // columns))
    figure = Figure(figsize=(_PANEL_WIDTH * columns, row_height * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.axis("off")
        panel.set_anchor("N")
    if title:
        figure.suptitle(without_formulas(title))
    return figure, list(panels[:count])


def without_formulas(text: str) -> str:
    """A text without formulas, which matplotlib finds between dollar signs."""
    return text.replace("$", r"\$")
