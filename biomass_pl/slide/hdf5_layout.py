"""Specimens in one HDF5 file: a group per patient and specimen, with a group of features and a text."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from biomass_pl.data.hdf5_file import Hdf5File
from biomass_pl.errors import ConfigError, DataError, listed

_READ_AS_STORED = (np.float16, np.float32, np.float64)
_DAMAGED = (OSError, RuntimeError, KeyError, ValueError)
"""How h5py reports a damaged file."""


def holds_patients(path: Path) -> bool:
    """Whether a file is one of HDF5 with a group of patients."""
    try:
        with h5py.File(path, "r") as file:
            return "patients" in file
    except _DAMAGED:
        return False


class Hdf5Bags:
    """Bags of feature vectors in an HDF5 file.

    `/patients/<patient>/<specimen>/<group>/features` holds an array (vectors, width) or (tiles, vectors, width);
    `/case-index/case_ids` and `case_paths` tell the specimens and where they are. A file whose index is empty or
    missing, as the published converter leaves it at first, has all specimens of all patients.

    Args:
        path: The file.
        feature_attribute: Name of the group of features in the group of a specimen.

    Raises:
        DataError: It cannot be read, or its index contradicts itself.
    """

    def __init__(self, path: Path, *, feature_attribute: str) -> None:
        self.source = str(path)
        self.feature_attribute = feature_attribute
        self.file = Hdf5File(path)
        self.paths = _indexed_paths(self.file)
        self.specimens = {name: path.split("/")[1] for name, path in self.paths.items()}
        """Patient of each specimen, in the order of the index."""

    def shapes(self, names: Sequence[str]) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
        """Vectors of bags and their width, of which nothing but the sizes is read.

        Args:
            names: Specimens of the file.

        Returns:
            Shape (vectors, width) of each bag that can be used, and what is wrong with each of the others.

        Raises:
            ConfigError: None has a group of features of that name.
        """
        shapes, problems = {}, {}
        file = self.file.opened()
        for name in names:
            try:
                shapes[name] = _bag_shape(file[self._place(name)])
            except _DAMAGED as error:
                problems[name] = f"no array {self._place(name)}: {_text(error)}"
            except _UnfitArrayError as error:
                problems[name] = str(error)
        if names and not any(self.feature_attribute in file.get(self.paths[name], {}) for name in names):
            raise ConfigError(
                f"No specimen of {self.source} has a group '{self.feature_attribute}'. "
                f"{_choices(file, self.paths[names[0]])} Correct data.hdf5_feature_attribute."
            )
        self.file.close()
        return shapes, problems

    def read(self, name: str) -> np.ndarray:
        """Vectors of a bag (vectors, width), of the type in which they are stored.

        Raises:
            DataError: They cannot be read.
        """
        try:
            array = self.file.opened()[self._place(name)][()]
        except _DAMAGED as error:
            raise DataError(
                f"The features of {name} in {self.source} cannot be read ({_text(error)}). Restore the file."
            ) from error
        vectors = array.reshape(-1, array.shape[-1])
        return np.asarray(vectors if vectors.dtype in _READ_AS_STORED else vectors.astype(np.float32))

    def _place(self, name: str) -> str:
        return f"{self.paths[name]}/{self.feature_attribute}/features"


class Hdf5Reports:
    """Reports in the HDF5 file of the bags.

    Args:
        bags: The bags.
        text_attribute: Name of the text in the group of a specimen.
    """

    def __init__(self, bags: Hdf5Bags, *, text_attribute: str) -> None:
        self.source = bags.source
        self.specimens = bags.specimens
        self.text_attribute = text_attribute
        self._bags = bags

    def read(self, patients: Mapping[str, str]) -> dict[str, str]:
        """The reports of specimens.

        Args:
            patients: Patient of each specimen.

        Returns:
            Text by specimen, of those that have one.

        Raises:
            ConfigError: None has a text of that name.
            DataError: Some have something else under that name; names all of them.
        """
        file, paths = self._bags.file.opened(), self._bags.paths
        texts, problems = {}, []
        for name in patients:
            stored = file.get(f"{paths[name]}/{self.text_attribute}")
            if stored is None:
                continue
            text = _scalar_text(stored)
            if text is None:
                problems.append(f"{paths[name]}/{self.text_attribute}")
            else:
                texts[name] = text
        if problems:
            raise DataError(
                f"{self.source} has something else than one UTF-8 text as the report of {len(problems)} specimen(s). "
                f"Correct them, or data.hdf5_text_attribute:\n{listed(problems)}"
            )
        if patients and not texts:
            raise ConfigError(
                f"No specimen of {self.source} has a text '{self.text_attribute}'. "
                f"{_choices(file, paths[next(iter(patients))])} Correct data.hdf5_text_attribute."
            )
        self._bags.file.close()
        return texts


class _UnfitArrayError(Exception):
    """What stands in the place of features is no array of vectors."""


def _bag_shape(array: Any) -> tuple[int, int]:
    if not isinstance(array, h5py.Dataset) or array.dtype.kind not in "fiu" or array.ndim not in (2, 3):
        what = f"{array.ndim} dimension(s) of {array.dtype}" if isinstance(array, h5py.Dataset) else "a group"
        msg = f"{array.name} has {what}, not the two or three of an array of vectors"
        raise _UnfitArrayError(msg)
    return int(np.prod(array.shape[:-1])), int(array.shape[-1])


def _indexed_paths(file: Hdf5File) -> dict[str, str]:
    """Path of each specimen, `patients/<patient>/<specimen>`."""
    content = file.opened()
    try:
        index = content.get("case-index", {})
        if "case_ids" in index and "case_paths" in index:
            pairs = list(zip(_texts(index["case_ids"]), _texts(index["case_paths"]), strict=True))
        else:
            patients = content.get("patients", {})
            pairs = [(name, f"patients/{patient}/{name}") for patient in patients for name in patients[patient]]
    except (*_DAMAGED, AttributeError, TypeError) as error:
        raise DataError(
            f"{file.path} has no index of specimens that can be read ({_text(error)}). Write its case-index again."
        ) from error
    file.close()
    if not pairs:
        raise DataError(f"{file.path} has no specimens: its groups case-index and patients are empty or missing.")
    return _checked_paths(pairs, file.path)


def _checked_paths(pairs: Iterable[tuple[str, str]], source: Path) -> dict[str, str]:
    paths: dict[str, str] = {}
    problems = []
    for name, path in pairs:
        parts = path.strip("/").split("/")
        if len(parts) != 3 or parts[0] != "patients" or parts[2] != name:
            problems.append(f"{name}: {path} is not /patients/<patient>/{name}")
        elif paths.setdefault(name, "/".join(parts)) != "/".join(parts):
            problems.append(f"{name} is there twice: {paths[name]} and {'/'.join(parts)}")
    if problems:
        raise DataError(f"{source} has {len(problems)} problem(s) in its index; correct it:\n{listed(problems)}")
    return paths


def _texts(dataset: Any) -> list[str]:
    return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in dataset[()]]


def _scalar_text(stored: Any) -> str | None:
    """A text of one string; none where it is something else."""
    value = stored[()] if isinstance(stored, h5py.Dataset) and stored.shape == () else None
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else None
    except UnicodeDecodeError:
        return None


def _choices(file: Any, path: str) -> str:
    """What the group of a specimen holds, to choose from."""
    return f"{path} has {', '.join(file.get(path, {})) or 'nothing'}."


def _text(error: BaseException) -> str:
    """An error in one line; that of a missing key is in quotes."""
    return str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__
