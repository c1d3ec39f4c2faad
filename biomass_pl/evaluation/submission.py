"""Test predictions in the competition's form."""

from pathlib import Path

import pandas as pd

from biomass_pl.errors import DataError, listed
from biomass_pl.targets import TARGETS


def make_submission(predictions: pd.DataFrame, sample: Path) -> pd.DataFrame:
    """Turns a table of predictions into `sample_id,target`.

    Args:
        predictions: `image_id` and `<target>_pred` in grams, a row per photo.
        sample: The competition's `sample_submission.csv`; checked against, and its order kept, if it exists.

    Raises:
        DataError: The sample cannot be read, or names other rows than were predicted.
    """
    rows = [
        {"sample_id": f"{image_id}__{target}", "target": grams}
        for image_id, *values in predictions[["image_id", *(f"{t}_pred" for t in TARGETS)]].itertuples(index=False)
        for target, grams in zip(TARGETS, values, strict=True)
    ]
    submission = pd.DataFrame(rows, columns=["sample_id", "target"])
    if not sample.is_file():
        return submission
    try:
        expected = pd.read_csv(sample, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{sample} cannot be read ({error}). Restore the competition's file, or remove it.") from error
    if "sample_id" not in expected:
        raise DataError(f"{sample} has no column sample_id. Restore the competition's file, or remove it.")
    missing = sorted(set(expected["sample_id"]) - set(submission["sample_id"]))
    extra = sorted(set(submission["sample_id"]) - set(expected["sample_id"]))
    if missing or extra:
        differences = [f"{name}: not predicted" for name in missing] + [f"{name}: not expected" for name in extra]
        raise DataError(f"{sample} and test.csv name different rows; bring them in line:\n{listed(differences)}")
    return submission.set_index("sample_id").loc[expected["sample_id"]].reset_index()
