"""Which specimens are in which split: read from files of ids, and nothing of one in another."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from biomass_pl.errors import DataError, FoldError, listed

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True)
class SplitFiles:
    """Files of specimen ids, separated by commas or lines.

    Args:
        train: Of those to learn from; none: all that no other file names.
        val: Of those to validate on.
        test: Of those to predict in the end.
    """

    train: tuple[Path, ...] = ()
    val: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()


def read_split_files(
    files: SplitFiles, *, patients: Mapping[str, str], allow_shared_patients: bool = False
) -> dict[SplitName, list[str]]:
    """Reads the splits, each from one or more files.

    Args:
        files: The files.
        patients: Patient of every specimen that there is.
        allow_shared_patients: Whether specimens of one patient may be in several splits.

    Returns:
        Specimen ids of each split, in the order of its files. There always is `train`, the others if they have files.

    Raises:
        DataError: A file cannot be read, or names what is unknown or named before.
        FoldError: A specimen, or a patient, is in several splits, or none is left to learn from.
    """
    names: tuple[SplitName, ...] = ("train", "val", "test")
    paths = {name: getattr(files, name) for name in names}
    splits = {name: _read_ids(found, f"data.{name}_split") for name, found in paths.items() if found}
    for name, ids in splits.items():
        unknown = [one for one in ids if one not in patients]
        if unknown:
            raise DataError(
                f"data.{name}_split names {len(unknown)} specimen(s) that have neither features nor a report. Correct "
                f"the ids, which are those of specimens and not of patients:\n{listed(unknown)}"
            )
    if not files.train:
        elsewhere = {one for ids in splits.values() for one in ids}
        splits = {"train": [one for one in patients if one not in elsewhere], **splits}
        if not splits["train"]:
            raise FoldError("The other splits name all specimens that there are. Take those to learn from out of them.")
    _require_one_split({name: {one: one for one in ids} for name, ids in splits.items()}, "specimen(s)", "")
    if not allow_shared_patients:
        _require_one_split(
            {name: {patients[one]: one for one in ids} for name, ids in splits.items()},
            "patient(s)",
            ", or set data.allow_shared_patients: true, after which scores flatter",
        )
    return splits


def _read_ids(paths: Sequence[Path], setting: str) -> list[str]:
    found: list[str] = []
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} does not exist. Correct {setting}.")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} of {setting} is no text in UTF-8 ({error}). Save it so.") from error
        ids = [part.strip() for line in text.splitlines() for part in line.split(",")]
        if not any(ids):
            raise DataError(f"{path} of {setting} names no specimen. Write ids separated by commas or lines.")
        found += filter(None, ids)
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise DataError(f"{setting} names {len(twice)} specimen(s) twice. Name each once:\n{listed(twice)}")
    return found


def _require_one_split(members: Mapping[SplitName, Mapping[str, str]], what: str, otherwise: str) -> None:
    """Refuses what is in several splits.

    Args:
        members: Names of what must be in one split, each with a specimen that shows it.
        what: What they are.
        otherwise: What else can be done.
    """
    places: dict[str, list[str]] = defaultdict(list)
    for split, found in members.items():
        for name, specimen in found.items():
            places[name].append(f"{split} ({specimen})" if specimen != name else split)
    shared = [f"{name}: {', '.join(found)}" for name, found in places.items() if len(found) > 1]
    if shared:
        raise FoldError(
            f"{len(shared)} {what} are in several splits, where a model would be scored on what it was trained on. "
            f"Put each into one{otherwise}:\n{listed(shared)}"
        )


def require_one_fold_per_patient(folds: pd.Series, patients: Mapping[str, str]) -> None:
    """Refuses given folds that hold out a specimen of a patient of whom another is trained on.

    Args:
        folds: The fold of each specimen, indexed by its name.
        patients: Patient of each specimen.

    Raises:
        FoldError: There are such patients; names them.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for name in folds.index:
        members[patients[name]].append(name)
    apart = [
        f"{patient}: {', '.join(f'{name} (fold {folds[name]})' for name in names)}"
        for patient, names in members.items()
        if len({folds[name] for name in names}) > 1
    ]
    if apart:
        raise FoldError(
            f"data.fold_csv puts specimens of {len(apart)} patient(s) into several folds, where a model would be "
            "scored on patients that it was trained on. Put each into one, or set data.allow_shared_patients: true, "
            f"after which scores flatter:\n{listed(apart)}"
        )
