"""Checks a submission against the sample that a competition gives."""

from pathlib import Path

import pandas as pd

from biomass_pl.errors import DataError, listed


def in_sample_order(submission: pd.DataFrame, sample: Path, *, test_table: str) -> pd.DataFrame:
    """Checks a submission against the competition's sample and takes over its order.

    Args:
        submission: The name of each row in the first column.
        sample: The competition's `sample_submission.csv`; without it the submission stays as it is.
        test_table: File name of the table whose photos were predicted.

    Raises:
        DataError: The sample cannot be read, or names other rows than were predicted.
    """
    if not sample.is_file():
        return submission
    name = submission.columns[0]
    try:
        expected = pd.read_csv(sample, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{sample} cannot be read ({error}). Restore the competition's file, or remove it.") from error
    if name not in expected:
        raise DataError(f"{sample} has no column {name}. Restore the competition's file, or remove it.")
    missing = sorted(set(expected[name]) - set(submission[name]))
    extra = sorted(set(submission[name]) - set(expected[name]))
    if missing or extra:
        differences = [f"{row}: not predicted" for row in missing] + [f"{row}: not expected" for row in extra]
        raise DataError(f"{sample} and {test_table} name different rows; bring them in line:\n{listed(differences)}")
    return submission.set_index(name).loc[expected[name]].reset_index()
