"""Renders labelled skin lesions in the layout of ISIC 2024, to try everything on without the real data."""

import math
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd

from biomass_pl.data.rendering import new_folder, stream
from biomass_pl.errors import ConfigError
from biomass_pl.lesion.sample.patients import Lesion, invent_lesions
from biomass_pl.lesion.sample.record import TEST_COLUMNS, TEST_ONLY_PLACE, TRAIN_COLUMNS, record
from biomass_pl.lesion.sample.scene import draw_lesion
from biomass_pl.terminal import progress

FEWEST_PHOTOS = 60
# Two for each of five folds.
FEWEST_MALIGNANT = 10
LARGEST_SHARE = 0.25

# A value is missing in one of so many rows.
MISSING_EVERY = {"age_approx": 41, "sex": 29, "anatom_site_general": 37}
SUBMISSION_TARGET = 0.3


def render_lesions(
    *, out: Path, photos: int = 600, test_photos: int = 12, positives: float = 0.1, seed: int = 0
) -> None:
    """Renders labelled skin lesions into a new folder, in the layout of ISIC 2024.

    A malignant lesion is larger, more irregular, of more colours and redder than the patient's other moles, with
    overlap. The pictures show outline and colours better than the table measures them; the table alone knows the
    millimetres, the age and the patient. The same arguments give the same bytes.

    Args:
        out: Folder to make. It appears only once everything in it is there.
        photos: Labelled photos, at least 60, and enough for 10 malignant ones: every one of five folds by patient
            then gets two or more.
        test_photos: Photos without labels, of other patients.
        positives: Share of malignant lesions, at most a quarter.
        seed: Another seed gives other patients.

    Raises:
        ConfigError: If a number is out of range.
        DataError: If `out` is there already and holds something.
    """
    _check(photos=photos, test_photos=test_photos, positives=positives, seed=seed)
    train = invent_lesions(split="train", count=photos, malignant=round(photos * positives), seed=seed)
    test = invent_lesions(split="test", count=test_photos, malignant=round(test_photos * positives), seed=seed)
    with new_folder(out) as folder:
        _train_table(train).to_csv(folder / "train-metadata.csv", index=False, na_rep="NA")
        asked = _test_table(test)
        asked.to_csv(folder / "test-metadata.csv", index=False, na_rep="NA")
        submission = asked[["isic_id"]].assign(target=SUBMISSION_TARGET)
        submission.to_csv(folder / "sample_submission.csv", index=False)
        _write_photos(train, folder / "train-image.hdf5")
        _write_photos(test, folder / "test-image.hdf5")


def _check(*, photos: int, test_photos: int, positives: float, seed: int) -> None:
    if not 0 < positives <= LARGEST_SHARE:
        raise ConfigError(f"positives is {positives:g}: give a share above 0 and up to {LARGEST_SHARE:g}.")
    fewest = max(FEWEST_PHOTOS, math.ceil(FEWEST_MALIGNANT / positives))
    if photos < fewest:
        raise ConfigError(
            f"--photos {photos} is too few: with a share of {positives:g} malignant lesions, "
            f"five folds with two of them each take {fewest} or more."
        )
    if test_photos < 0:
        raise ConfigError(f"--test_photos {test_photos} is below zero: use 0 for a sample without a test set.")
    if seed < 0:
        raise ConfigError(f"--seed {seed} is below zero: use 0 or a positive whole number.")


def _train_table(lesions: list[Lesion]) -> pd.DataFrame:
    return _with_gaps(pd.DataFrame([record(lesion) for lesion in lesions], columns=TRAIN_COLUMNS))


def _test_table(lesions: list[Lesion]) -> pd.DataFrame:
    """The first lesion lies where none of the train table does."""
    places = [TEST_ONLY_PLACE, *[None] * len(lesions)]
    rows = [record(lesion, place=place) for lesion, place in zip(lesions, places, strict=False)]
    return _with_gaps(pd.DataFrame(rows, columns=TEST_COLUMNS))


def _with_gaps(table: pd.DataFrame) -> pd.DataFrame:
    """Drops some values, as patients do not tell everything."""
    for column, every in MISSING_EVERY.items():
        table.loc[np.arange(len(table)) % every == every // 2, column] = None
    return table


def _write_photos(lesions: list[Lesion], path: Path) -> None:
    """Draws all lesions into an HDF5 file: one scalar dataset of JPEG bytes per lesion, named after it."""
    with h5py.File(path, "w") as file, progress(f"Rendering {path.name}", len(lesions)) as advance:
        for lesion in lesions:
            quality = int(stream(lesion.key, "jpeg").integers(80, 96))
            image = draw_lesion(look=lesion.look, key=lesion.key)
            _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
            # Opaque bytes: a string type would drop zeros at the end.
            file.create_dataset(lesion.identity, data=np.void(encoded.tobytes()))
            advance()
