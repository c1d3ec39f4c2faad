"""Renders plots of wheat with two measured traits and their table, to try everything on without photos of one's own."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from biomass_pl.data.rendering import Key, new_folder, stream
from biomass_pl.errors import ConfigError
from biomass_pl.terminal import progress
from biomass_pl.trait.sample.scene import Plot, draw_plot

TARGETS, UNITS = ("ears_m2", "yield_t_ha"), ("1/m2", "t/ha")

FEWEST_PHOTOS, NARROWEST_PHOTO = 20, 64
FIELDS = 10
# So often a plot was not counted, or not harvested; never neither.
NOT_COUNTED_EVERY, NOT_HARVESTED_EVERY = 9, 7


def render_plots(*, out: Path, photos: int = 120, test_photos: int = 10, width: int = 480, seed: int = 0) -> None:
    """Renders plots of wheat into a new folder: `table.csv`, `test.csv` and the photos that they name.

    The columns are `photo`, `field`, `ears_m2` (ears on a square metre) and `yield_t_ha` (grain in tonnes per hectare).
    Fields differ in soil and in what grows on them. The same arguments give the same bytes.

    Args:
        out: Folder to make. It appears only once everything in it is there.
        photos: Measured plots, at least 20.
        test_photos: Plots that are not measured.
        width: Width of a photo in pixels, at least 64; the height is three quarters of it.
        seed: Another seed gives other plots.

    Raises:
        ConfigError: If a number is out of range.
        DataError: If `out` is there already and holds something.
    """
    _check(photos=photos, test_photos=test_photos, width=width, seed=seed)
    with new_folder(out) as folder, progress("Rendering photos", photos + test_photos) as advance:
        for split, count, table in (("photos", photos, "table.csv"), ("test", test_photos, "test.csv")):
            (folder / split).mkdir()
            rows = []
            for number in range(count):
                key = (seed, len(split), number)
                plot = _plot(key, field=number % FIELDS)
                path = f"{split}/plot_{number + 1:04d}.jpg"
                _write(draw_plot(plot, key=key, width=width), folder / path, key)
                rows.append({"photo": path, "field": f"field {number % FIELDS + 1}", **_measured(plot, number)})
                advance()
            columns = ["photo", "field", *TARGETS] if split == "photos" else ["photo"]
            pd.DataFrame(rows, columns=columns).to_csv(folder / table, index=False)


def _check(*, photos: int, test_photos: int, width: int, seed: int) -> None:
    if photos < FEWEST_PHOTOS:
        raise ConfigError(f"--photos {photos} is too few to learn from: use {FEWEST_PHOTOS} or more.")
    if test_photos < 0:
        raise ConfigError(f"--test_photos {test_photos} is below zero: use 0 for a sample without a test set.")
    if width < NARROWEST_PHOTO:
        raise ConfigError(f"--width {width} does not work: use {NARROWEST_PHOTO} or more pixels.")
    if seed < 0:
        raise ConfigError(f"--seed {seed} is below zero: use 0 or a positive whole number.")


def _plot(key: Key, *, field: int) -> Plot:
    """A plot of a field: what the field has in common, and its own part."""
    common, own = stream((key[0], field), "field"), stream(key, "plot")
    level = common.uniform(0.6, 1.2)
    tint = common.uniform(-20, 20)
    return Plot(
        ears=float(np.clip(level * own.normal(420, 110), 80, 800)),
        ear_g=float(np.clip(own.normal(1.3, 0.25), 0.6, 2.0)),
        leaves=float(np.clip(own.normal(350, 90), 60, 700)),
        soil=(70 + tint, 85 + tint, 105 + tint),
    )


def _measured(plot: Plot, number: int) -> dict[str, float | None]:
    """What is told of a plot: ears in whole ones, tonnes to the hundredth."""
    counted = number % NOT_COUNTED_EVERY != NOT_COUNTED_EVERY - 1
    harvested = number % NOT_HARVESTED_EVERY != NOT_HARVESTED_EVERY - 1 or not counted
    tonnes = plot.ears * plot.ear_g * 1e4 / 1e6
    return {"ears_m2": round(plot.ears) if counted else None, "yield_t_ha": round(tonnes, 2) if harvested else None}


def _write(picture: np.ndarray, path: Path, key: Key) -> None:
    quality = int(stream(key, "jpeg").integers(80, 96))
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.write_bytes(encoded.tobytes())
