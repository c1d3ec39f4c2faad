"""Which specimens there are, their reports and bags of vectors, in either published layout; checked before training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch

from biomass_pl.errors import ConfigError, DataError, listed
from biomass_pl.slide.directory_layout import DirectoryBags
from biomass_pl.slide.hdf5_layout import Hdf5Bags, Hdf5Reports, holds_patients
from biomass_pl.slide.report_texts import JsonReports
from biomass_pl.terminal import progress


class Bags(Protocol):
    """Bags of feature vectors by specimen. They can be handed to other processes."""

    source: str
    """Where they lie, for messages."""

    specimens: dict[str, str]
    """Patient of each specimen."""

    def shapes(self, names: Sequence[str]) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
        """Shape (vectors, width) of each bag that can be used, and what is wrong with each of the others."""

    def read(self, name: str) -> np.ndarray:
        """Vectors of a bag (vectors, width), of the type in which they are stored.

        Raises:
            DataError: They cannot be read.
        """


class Reports(Protocol):
    """Texts by specimen."""

    source: str
    """Where they lie, for messages."""

    specimens: dict[str, str]
    """Patient of each specimen that may have one."""

    def read(self, patients: Mapping[str, str]) -> dict[str, str]:
        """Text by specimen, of those that have one, for the patient of each specimen."""


@dataclass(frozen=True, kw_only=True)
class SpecimenFiles:
    """Where specimens lie.

    Args:
        root_dir: Folder of the directory layout; beside it, a folder of the same name and `_remainder` is read too.
        component: Component of the feature files to take, in the directory layout.
        hdf5_filename: File of the HDF5 layout, which then counts instead of `root_dir`.
        hdf5_feature_attribute: Name of the group of features in the group of a specimen.
        hdf5_text_attribute: Name of the report in the group of a specimen.
        text_data_file: JSON file of reports by patient and specimen; needed unless the HDF5 file has them.
    """

    root_dir: Path | None = None
    component: int = 0
    hdf5_filename: Path | None = None
    hdf5_feature_attribute: str | None = None
    hdf5_text_attribute: str | None = None
    text_data_file: Path | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Specimens:
    """All that is stored, not yet checked.

    Args:
        bags: The feature vectors.
        reports: The texts.
    """

    bags: Bags
    reports: Reports

    @property
    def patients(self) -> dict[str, str]:
        """Patient of each specimen that has features or a report."""
        return {**self.reports.specimens, **self.bags.specimens}


def recognises(root: Path) -> bool:
    """Whether a folder holds specimens in either published layout."""
    if any(root.glob("*/*/feature_information.txt")):
        return True
    return any(map(holds_patients, sorted(root.glob("*.hdf5"))))


def open_specimens(files: SpecimenFiles) -> Specimens:
    """Finds out which specimens there are.

    Raises:
        ConfigError: A setting is missing or stands beside another that excludes it.
        DataError: What is there cannot be read, or contradicts itself.
    """
    bags = _open_bags(files)
    if isinstance(bags, Hdf5Bags) and files.hdf5_text_attribute is not None and files.text_data_file is None:
        return Specimens(bags=bags, reports=Hdf5Reports(bags, text_attribute=files.hdf5_text_attribute))
    if files.text_data_file is None or (isinstance(bags, Hdf5Bags) and files.hdf5_text_attribute is not None):
        raise ConfigError(
            "Reports come from the JSON file data.text_data_file, or, with data.hdf5_filename, from that file under "
            "the name data.hdf5_text_attribute. Give one of them, and leave out the other."
        )
    return Specimens(bags=bags, reports=JsonReports(files.text_data_file))


def _open_bags(files: SpecimenFiles) -> Hdf5Bags | DirectoryBags:
    if files.hdf5_filename is not None:
        if files.hdf5_feature_attribute is None:
            raise ConfigError(
                "data.hdf5_filename needs data.hdf5_feature_attribute, the name of the group of features of a "
                "specimen, such as patch_features_comp_0."
            )
        if not files.hdf5_filename.is_file():
            raise DataError(f"{files.hdf5_filename} does not exist. Correct data.hdf5_filename.")
        return Hdf5Bags(files.hdf5_filename, feature_attribute=files.hdf5_feature_attribute)
    if files.root_dir is None:
        raise ConfigError(
            "There are no features to read. Give data.hdf5_filename or data.root_dir, or render a sample: "
            "biomass sample --kind slide --out sample"
        )
    return DirectoryBags(files.root_dir, component=files.component)


def specimen_table(specimens: Specimens, names: Sequence[str]) -> pd.DataFrame:
    """What is known of specimens, checked: features and report are there, and bags fit each other.

    Only sizes are read of the features; see `broken_bags` for their values.

    Args:
        specimens: All that is stored.
        names: The specimens that are wanted.

    Returns:
        A row per name with `specimen_id`, `patient_id`, `vectors` (size of the bag), `width` and `report`.

    Raises:
        DataError: Some cannot be used; lists all that lack the same.
    """
    bags, reports = specimens.bags, specimens.reports
    patients = {name: bags.specimens[name] for name in names if name in bags.specimens}
    _refuse(
        [name for name in names if name not in patients],
        f"have no features in {bags.source}. Add them, or leave the specimens out of the splits and reports",
    )
    shapes, problems = bags.shapes(names)
    _refuse([f"{name}: {problem}" for name, problem in problems.items()], "have features that cannot be used")
    _refuse([name for name in names if shapes[name][0] == 0], f"have empty bags in {bags.source}. Leave them out")
    width = Counter(shapes[name][1] for name in names).most_common(1)[0][0] if names else 0
    _refuse(
        [f"{name}: {shapes[name][1]}" for name in names if shapes[name][1] != width],
        f"have vectors of another width than {width}, that of most. Extract their features alike, or leave them out",
    )
    texts = reports.read(patients)
    _refuse(
        [f"{name} of {patients[name]}" for name in names if name not in texts],
        f"have no report in {reports.source}. Add them, or leave the specimens out",
    )
    _refuse(
        [name for name in names if not texts[name].strip()],
        f"have an empty report in {reports.source}. Write them, or leave the specimens out",
    )
    return pd.DataFrame(
        {
            "specimen_id": list(names),
            "patient_id": [patients[name] for name in names],
            "vectors": [shapes[name][0] for name in names],
            "width": [shapes[name][1] for name in names],
            "report": [texts[name] for name in names],
        }
    )


def read_bag(bags: Bags, name: str) -> np.ndarray:
    """Vectors of a bag (vectors, width), of the type in which they are stored, all of them finite.

    Raises:
        DataError: They cannot be read, or are not.
    """
    vectors = bags.read(name)
    # A sum is finite if all its terms are, as they are smaller than the largest number of the type that holds it.
    total = torch.from_numpy(vectors).sum(dtype=torch.float32 if vectors.dtype == np.float16 else torch.float64)
    if not torch.isfinite(total):
        raise DataError(
            f"The features of {name} in {bags.source} hold values that are no finite number. Extract them again."
        )
    return vectors


def broken_bags(bags: Bags, names: Sequence[str]) -> dict[str, str]:
    """Reads bags once; those that cannot be read, or hold what is no finite number, each with the reason."""
    broken = {}
    with progress("Checking features", len(names)) as advance:
        for name in names:
            try:
                read_bag(bags, name)
            except DataError as error:
                broken[name] = str(error)
            advance()
    return broken


def _refuse(lines: list[str], what: str) -> None:
    if lines:
        raise DataError(f"{len(lines)} specimen(s) {what}:\n{listed(lines)}")
