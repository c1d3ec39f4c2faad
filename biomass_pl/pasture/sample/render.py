"""Invents and renders a labelled pasture in the competition's layout, to try everything on without the real data."""

import datetime
import math
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from biomass_pl.data.rendering import Image, new_folder, stream
from biomass_pl.errors import ConfigError
from biomass_pl.pasture.sample.scene import Pasture, draw_clover_cover, draw_photo
from biomass_pl.terminal import progress

# In the order of the competition's tables.
TABLE_TARGETS = ("Dry_Clover_g", "Dry_Dead_g", "Dry_Green_g", "Dry_Total_g", "GDM_g")

SPLITS = ("train", "test")

FEWEST_PHOTOS = 10
NARROWEST_PHOTO = 64
# Starting a process takes about as long as rendering a few photos.
PHOTOS_PER_WORKER = 8

# The square root of the total grams is normal, which fits the quartiles of the competition's table (25, 40, 58 g):
# its middle, its spread between the photos of a site, and between sites.
MIDDLE_ROOT_G = 6.4
SPREAD_WITHIN_SITE = 1.8
SPREAD_BETWEEN_SITES = 0.7
TOTAL_RANGE_G = (4.0, 150.0)

# Image numbers have nine digits. The steps share no factor with their count, so none comes twice.
FIRST_IMAGE, IMAGE_NUMBERS = 100_000_000, 900_000_000
IMAGE_STEP, SEED_STEP = 370_248_451, 613_651_369


@dataclass(frozen=True)
class StateHabit:
    """How pastures of a state differ.

    Attributes:
        dead: Mean share of dead matter in the total.
        height: Height of the sward relative to the others.
    """

    dead: float
    height: float


# Nothing dead in WA, and the tallest swards in NSW, as in the competition's table.
STATES = {
    "NSW": StateHabit(dead=0.28, height=1.15),
    "Tas": StateHabit(dead=0.34, height=0.97),
    "Vic": StateHabit(dead=0.28, height=1.0),
    "WA": StateHabit(dead=0.0, height=0.95),
}

# Mean share of clover in the green matter, and how often a quadrat has none of it.
CLOVER_SHARE = {
    "Clover": (0.70, 0.0),
    "WhiteClover": (0.65, 0.0),
    "SubcloverLosa": (0.75, 0.0),
    "SubcloverDalkeith": (0.70, 0.0),
    "Ryegrass_Clover": (0.30, 0.25),
    "Phalaris_Clover": (0.25, 0.3),
    "Phalaris_Ryegrass_Clover": (0.20, 0.3),
    "Mixed": (0.20, 0.3),
}


@dataclass(frozen=True)
class Site:
    """One state on one day and what is sown there."""

    state: str
    date: datetime.date
    species: tuple[str, ...]


def _site(state: str, month: int, day: int, *species: str) -> Site:
    return Site(state, datetime.date(2015, month, day), species)


# Photos take the sites in turn: the first ten already differ in date and cover most months of the competition.
SITES = (
    _site("Tas", 9, 8, "Ryegrass_Clover", "Ryegrass"),
    _site("NSW", 2, 11, "Fescue", "Lucerne"),
    _site("Vic", 6, 24, "Phalaris_Clover", "Ryegrass_Clover"),
    _site("WA", 8, 26, "Clover", "SubcloverLosa"),
    _site("Tas", 11, 5, "Ryegrass", "WhiteClover"),
    _site("Vic", 10, 20, "Phalaris_Ryegrass_Clover", "Ryegrass"),
    _site("NSW", 4, 14, "Fescue_CrumbWeed", "Phalaris"),
    _site("Tas", 5, 21, "Ryegrass_Clover", "Clover"),
    _site("Vic", 7, 6, "Phalaris_Clover", "Mixed"),
    _site("NSW", 1, 22, "Lucerne", "Fescue"),
    _site("WA", 7, 15, "SubcloverDalkeith", "Ryegrass"),
    _site("Tas", 6, 24, "Ryegrass_Clover", "Ryegrass"),
    _site("Vic", 9, 17, "Ryegrass_Clover", "Phalaris_Clover"),
    _site("Tas", 10, 28, "Clover", "Ryegrass_Clover"),
    _site("NSW", 5, 12, "Ryegrass", "Fescue"),
    _site("Vic", 8, 11, "Phalaris_Clover", "Ryegrass"),
)


@dataclass(frozen=True)
class Photo:
    """One photo and its label."""

    image: str
    split: str
    site: Site
    species: str
    pasture: Pasture
    ndvi: float
    key: tuple[int, ...]

    @property
    def file(self) -> str:
        """Path of the JPEG inside the data folder."""
        return f"{self.split}/{self.image}.jpg"

    @property
    def stamp(self) -> str:
        """Date and time of day as the camera prints them."""
        minutes = int(stream(self.key, "clock").integers(9 * 60, 16 * 60))
        return f"{self.site.date:%d.%m.%Y} {minutes // 60:02d}:{minutes % 60:02d}"

    @property
    def grams(self) -> dict[str, float]:
        """Dry grams of every target; the sums are exact to the four decimals of the table."""
        pasture = self.pasture
        gdm = round(pasture.green_g + pasture.clover_g, 4)
        total = round(gdm + pasture.dead_g, 4)
        return dict(zip(TABLE_TARGETS, (pasture.clover_g, pasture.dead_g, pasture.green_g, total, gdm), strict=True))


def render_sample(*, out: Path, photos: int = 120, test_photos: int = 10, width: int = 2000, seed: int = 0) -> None:
    """Renders a labelled pasture into a new folder, in the layout of the competition.

    The same arguments give the same bytes, whatever the number of processor cores.

    Args:
        out: Folder to make. It appears only once everything in it is there.
        photos: Labelled photos, at least 10.
        test_photos: Photos without labels.
        width: Width of a photo in pixels, even and at least 64; the height is half of it.
        seed: Another seed gives another pasture.

    Raises:
        ConfigError: If a number is out of range.
        DataError: If `out` is there already and holds something.
    """
    _check(photos=photos, test_photos=test_photos, width=width, seed=seed)
    train = [_photo("train", index, seed) for index in range(photos)]
    test = [_photo("test", index, seed) for index in range(test_photos)]
    with new_folder(out) as folder:
        _write_tables(train, test, folder)
        _write_photos(train + test, folder, width)


def clover_covers(*, photos: int, width: int, seed: int = 0) -> Iterator[tuple[str, Image]]:
    """Where the labelled photos that `render_sample` makes of the same arguments show clover.

    Yields:
        Image id, and the share of every pixel that is clover, (width / 2, width), 0..1.
    """
    for photo in (_photo("train", index, seed) for index in range(photos)):
        yield photo.image, draw_clover_cover(pasture=photo.pasture, key=photo.key, width=width)


def _check(*, photos: int, test_photos: int, width: int, seed: int) -> None:
    if photos < FEWEST_PHOTOS:
        raise ConfigError(f"--photos {photos} is too few to learn from: use {FEWEST_PHOTOS} or more.")
    if test_photos < 0:
        raise ConfigError(f"--test_photos {test_photos} is below zero: use 0 for a sample without a test set.")
    if width < NARROWEST_PHOTO or width % 2:
        raise ConfigError(
            f"--width {width} does not work: use an even number of pixels from {NARROWEST_PHOTO} up, e.g. 2000."
        )
    if seed < 0:
        raise ConfigError(f"--seed {seed} is below zero: use 0 or a positive whole number.")


def _photo(split: str, index: int, seed: int) -> Photo:
    """Label and key of one photo; they depend on nothing but the arguments."""
    split_number = SPLITS.index(split)
    position = index % len(SITES)
    site = SITES[position]
    key = (seed, split_number, index)
    rng = stream(key, "label")
    species = site.species[int(rng.integers(len(site.species)))]
    pasture = _pasture(site, species, stream((seed, position), "site"), rng)
    cover = 1 - math.exp(-(pasture.green_g + pasture.clover_g) / 25)
    ndvi = round(float(np.clip(0.35 + 0.45 * cover + rng.normal(0, 0.08), 0.16, 0.91)), 2)
    number = FIRST_IMAGE + (seed * SEED_STEP + (2 * index + split_number) * IMAGE_STEP) % IMAGE_NUMBERS
    return Photo(f"ID{number}", split, site, species, pasture, ndvi, key)


def _pasture(site: Site, species: str, site_rng: np.random.Generator, rng: np.random.Generator) -> Pasture:
    """Grams and height of one quadrat: what its site has in common, and its own part."""
    habit = STATES[site.state]
    level, dryness = site_rng.normal(0, (SPREAD_BETWEEN_SITES, 0.4))
    root = max(MIDDLE_ROOT_G + level + rng.normal(0, SPREAD_WITHIN_SITE), 0)
    total = float(np.clip(root**2, *TOTAL_RANGE_G))
    dead = total * _share(habit.dead, dryness, rng)
    mean_share, bare = CLOVER_SHARE.get(species, (0.0, 1.0))
    share = _share(mean_share, 0.0, rng)
    clover = 0.0 if rng.random() < bare else (total - dead) * share
    height = 1 + 0.11 * total * habit.height * math.exp(rng.normal(0, 0.04))
    return Pasture(
        green_g=round(total - dead - clover, 4),
        dead_g=round(dead, 4),
        clover_g=round(clover, 4),
        height_cm=round(height, 4),
    )


def _share(mean: float, shift: float, rng: np.random.Generator) -> float:
    """A share around `mean`, moved by `shift` and spread on the logit scale; zero stays zero."""
    noise = rng.normal(0, 0.45)
    if mean == 0:
        return 0.0
    return 1 / (1 + math.exp(-(math.log(mean / (1 - mean)) + shift + noise)))


def _write_tables(train: list[Photo], test: list[Photo], folder: Path) -> None:
    """Writes `train.csv`, `test.csv` and `sample_submission.csv`."""
    rows = [_row(photo, target) for photo in _sorted(train) for target in TABLE_TARGETS]
    pd.DataFrame(rows).to_csv(folder / "train.csv", index=False)
    columns = ["sample_id", "image_path", "target_name"]
    rows = [_row(photo, target) for photo in _sorted(test) for target in TABLE_TARGETS]
    asked = pd.DataFrame(rows, columns=columns)
    asked.to_csv(folder / "test.csv", index=False)
    asked[["sample_id"]].assign(target=0.0).to_csv(folder / "sample_submission.csv", index=False)


def _sorted(photos: list[Photo]) -> list[Photo]:
    return sorted(photos, key=lambda photo: photo.image)


def _row(photo: Photo, target: str) -> dict[str, str | float]:
    """One row of the training table."""
    date = photo.site.date
    return {
        "sample_id": f"{photo.image}__{target}",
        "image_path": photo.file,
        "Sampling_Date": f"{date.year}/{date.month}/{date.day}",
        "State": photo.site.state,
        "Species": photo.species,
        "Pre_GSHH_NDVI": photo.ndvi,
        "Height_Ave_cm": photo.pasture.height_cm,
        "target_name": target,
        "target": photo.grams[target],
    }


def _write_photos(photos: list[Photo], folder: Path, width: int) -> None:
    """Renders all photos, on every core when there are enough of them."""
    for split in SPLITS:
        (folder / split).mkdir()
    write = partial(_write_photo, folder=folder, width=width)
    workers = min(os.cpu_count() or 1, math.ceil(len(photos) / PHOTOS_PER_WORKER))
    if workers == 1:
        _exhaust(map(write, photos), len(photos))
        return
    # A forked copy of a process with running threads (PyTorch's, OpenCV's) can hang.
    context = multiprocessing.get_context("spawn")
    # The processes keep every core busy: threads inside OpenCV would only get in their way.
    with ProcessPoolExecutor(workers, context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        _exhaust(pool.map(write, photos, chunksize=2), len(photos))


def _write_photo(photo: Photo, *, folder: Path, width: int) -> None:
    """Renders a photo and writes it as JPEG."""
    image = draw_photo(pasture=photo.pasture, stamp=photo.stamp, key=photo.key, width=width)
    quality = int(stream(photo.key, "jpeg").integers(70, 96))
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    (folder / photo.file).write_bytes(encoded.tobytes())


def _exhaust(done: Iterator[None], total: int) -> None:
    """Waits for all photos with a progress bar, which is shown on a terminal only."""
    with progress("Rendering photos", total) as advance:
        for _ in done:
            advance()
