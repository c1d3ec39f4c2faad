"""Specimens in folders of feature files: a text file lists the specimens of a folder, each with a file of tensors."""

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biomass_pl.errors import DataError, listed
from biomass_pl.terminal import progress

RECORDS, FEATURES = "feature_information.txt", "extracted_features"

_LINES_OF_A_RECORD = 3
_QUOTES = "'\""


@dataclass(frozen=True, kw_only=True)
class _Record:
    """A specimen of a folder, as its three lines tell it."""

    name: str
    patient: str
    file: Path
    place: str


class DirectoryBags:
    """Bags of feature vectors in folders of `.pth` files.

    `<root>/<folder>/feature_information.txt` has three lines per specimen: names of slides, an object with `patient`
    and `specimen`, and a quoted file in `<root>/<folder>/extracted_features`. Beside `<root>`, `<root>_remainder` is
    read if it is there. A file maps components to tiles, and these to an object with `feature`, an array (width,) or
    (vectors, width). Files are loaded as tensors, numbers and text alone; code in them is never run.

    Args:
        root: The folder.
        component: The component to take.

    Raises:
        DataError: There are no specimens, or what is told of them contradicts itself; lists all of its kind.
    """

    def __init__(self, root: Path, *, component: int = 0) -> None:
        self.source = str(root)
        self.component = component
        records = list(_records(root))
        if not records:
            raise DataError(f"{root} has no folder with specimens in a file {RECORDS}. Correct data.root_dir.")
        _require_one_file_per_specimen(records)
        self.files = {record.name: record.file for record in reversed(records)}
        self.specimens = {record.name: record.patient for record in records}
        """Patient of each specimen."""

    def shapes(self, names: Sequence[str]) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
        """Vectors of bags and their width; the vectors themselves are not read where files are of today's format.

        Args:
            names: Specimens of the folders.

        Returns:
            Shape (vectors, width) of each bag that can be used, and what is wrong with each of the others.
        """
        shapes: dict[str, tuple[int, int]] = {}
        problems: dict[str, str] = {}
        with progress("Reading sizes of bags", len(names)) as advance:
            for name in names:
                try:
                    tiles = self._tiles(name)
                    widths = {tile.shape[1] for tile in tiles} or {0}
                    if len(widths) > 1:
                        problems[name] = f"{self.files[name]} mixes vectors of the widths {sorted(widths)}"
                    else:
                        shapes[name] = sum(len(tile) for tile in tiles), widths.pop()
                except DataError as error:
                    problems[name] = str(error)
                advance()
        return shapes, problems

    def read(self, name: str) -> np.ndarray:
        """Vectors of a bag (vectors, width), of the type in which they are stored.

        Raises:
            DataError: They cannot be read.
        """
        tiles = self._tiles(name)
        if not tiles:
            raise DataError(f"{self.files[name]} has no tiles in component {self.component}")
        vectors = torch.cat(tiles)
        kept = vectors if vectors.dtype in (torch.float16, torch.float32, torch.float64) else vectors.float()
        return kept.numpy()

    def _tiles(self, name: str) -> list[torch.Tensor]:
        """Vectors of each tile (vectors, width)."""
        file = self.files[name]
        content = _load(file)
        if not isinstance(content, dict) or not isinstance(content.get(self.component), dict):
            has = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
            raise DataError(f"{file} has no component {self.component} of tiles, but {has or 'nothing'}")
        return [_tile(value, file) for value in content[self.component].values()]


def _records(root: Path) -> Iterator[_Record]:
    if not root.is_dir():
        raise DataError(f"Folder {root} does not exist. Correct data.root_dir.")
    for folder in (root, root.with_name(f"{root.name}_remainder")):
        for path in sorted(folder.glob(f"*/{RECORDS}")):
            yield from _records_of(path)


def _records_of(path: Path) -> Iterator[_Record]:
    """Specimens of one folder; blank lines are nothing."""
    text = path.read_text(encoding="utf-8-sig")
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    for start in range(0, len(lines), _LINES_OF_A_RECORD):
        place = f"{path}, line {lines[start][0]}"
        record = _record([line for _, line in lines[start : start + _LINES_OF_A_RECORD]], path, place)
        if record is None:
            raise DataError(
                f"{place}: here three lines should tell a specimen: a list of slides in brackets, an object with the "
                "texts patient and specimen, and the name of a file in quotes. Correct the file."
            )
        yield record


def _record(lines: list[str], path: Path, place: str) -> _Record | None:
    """The specimen that three lines tell; none where they tell none."""
    try:
        slides, described, file = lines
        description = json.loads(described)
        name, patient = description["specimen"], description["patient"]
    except (ValueError, KeyError, TypeError):
        return None
    quoted = len(file) > 2 and file[0] == file[-1] and file[0] in _QUOTES and Path(file[1:-1]).name == file[1:-1]
    if not (slides.startswith("[") and quoted and isinstance(name, str) and isinstance(patient, str)):
        return None
    return _Record(name=name, patient=patient, file=path.parent / FEATURES / file[1:-1], place=place)


def _require_one_file_per_specimen(records: list[_Record]) -> None:
    """Refuses a specimen with several files, unless they are equal, and a file of several specimens."""
    of_name: dict[str, _Record] = {}
    of_file: dict[Path, _Record] = {}
    problems = []
    for record in records:
        first = of_name.setdefault(record.name, record)
        if first.patient != record.patient or not _same_bytes(first.file, record.file):
            problems.append(f"specimen {record.name}: {first.place} and {record.place}")
        first = of_file.setdefault(record.file, record)
        if first.name != record.name:
            problems.append(f"file {record.file}: {first.place} and {record.place}")
    if problems:
        raise DataError(
            f"{len(problems)} specimen(s) or file(s) stand in two places that tell different things. Keep one of "
            f"each:\n{listed(problems)}"
        )


def _same_bytes(one: Path, other: Path) -> bool:
    if one == other:
        return True
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def _load(file: Path) -> Any:
    """The content of a file of tensors, which stay on the disk until they are used."""
    if not file.is_file():
        raise DataError(f"{file} does not exist")
    try:
        # Only the format of today, an archive, can be mapped into memory.
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # a damaged file can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{file} cannot be loaded as tensors, numbers and text, and nothing else is loaded, as it could run code; "
            f"save it again so, or restore it ({reason})"
        ) from error


def _tile(value: object, file: Path) -> torch.Tensor:
    """Vectors of a tile (vectors, width)."""
    feature = value.get("feature") if isinstance(value, dict) else None
    try:
        vectors = torch.as_tensor(feature).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{file} has a tile without an array of numbers as its feature") from error
    if vectors.layout != torch.strided or vectors.ndim not in (1, 2, 3) or vectors.is_complex():
        raise DataError(f"{file} has a tile whose feature is no vector or array of vectors: {tuple(vectors.shape)}")
    return vectors.reshape(-1, vectors.shape[-1])
