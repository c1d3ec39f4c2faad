"""Writes rendered specimens in either of the published layouts: one HDF5 file, or folders of feature files."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from biomass_pl.slide.sample.bags import Vectors
from biomass_pl.slide.sample.findings import Specimen
from biomass_pl.slide.sample.wording import report_of

HDF5_FILE = "specimens.hdf5"
FEATURE_GROUP = "patch_features_comp_0"
TEXT_NAME = "report"
FEATURE_FOLDER = "features"
TEXT_FILE = "reports.json"

_SPECIMENS_OF_A_FOLDER = 50
_MOST_IN_A_TILE = 8

Write = Callable[[Specimen, Vectors], None]


@contextmanager
def hdf5_file(folder: Path) -> Iterator[Write]:
    """One HDF5 file with features and reports.

    Args:
        folder: Where to put it.

    Yields:
        To be called with every specimen and its vectors.
    """
    text = h5py.string_dtype(encoding="utf-8")
    ids, paths = [], []
    with h5py.File(folder / HDF5_FILE, "w") as file:

        def write(specimen: Specimen, vectors: Vectors) -> None:
            path = f"/patients/{specimen.patient}/{specimen.identity}"
            group = file.create_group(f"{path}/{FEATURE_GROUP}")
            tiles = _tiles(vectors)
            group.create_dataset("features", data=tiles)
            group.create_dataset("positions", data=_positions(len(tiles)))
            group.create_dataset("tile_keys", data=np.array([f"(0, 0, 0, {tile})" for tile in range(len(tiles))], "S"))
            file[path].create_dataset(TEXT_NAME, data=report_of(specimen.findings), dtype=text)
            ids.append(specimen.identity)
            paths.append(path)

        yield write
        index = file.create_group("case-index")
        index.create_dataset("case_ids", data=ids, dtype=text)
        index.create_dataset("case_paths", data=paths, dtype=text)


@contextmanager
def directories(folder: Path) -> Iterator[Write]:
    """Folders of feature files, every third of them in the root of the remainder, and a JSON file of reports.

    Args:
        folder: Where to put them.

    Yields:
        To be called with every specimen and its vectors.
    """
    import torch  # slow, and the other layout needs none of it

    reports: dict[str, dict[str, str]] = {}
    count = 0

    def write(specimen: Specimen, vectors: Vectors) -> None:
        nonlocal count
        batch, place = divmod(count, _SPECIMENS_OF_A_FOLDER)
        root = folder / (f"{FEATURE_FOLDER}_remainder" if batch % 3 == 2 else FEATURE_FOLDER)
        features = root / f"data_{batch}" / "extracted_features"
        features.mkdir(parents=True, exist_ok=True)
        tiles = _tiles(vectors)
        content = {
            # A copy has its own storage; a view would be saved with the whole bag.
            (place, 0, 0, number): {"feature": torch.from_numpy(tile.copy()), "position": position}
            for number, (tile, position) in enumerate(zip(tiles, _positions(len(tiles)).tolist(), strict=True))
        }
        torch.save({0: content}, features / f"{place}.pth")
        record = {"specimen_index": place, "patient": specimen.patient, "specimen": specimen.identity}
        with (features.parent / "feature_information.txt").open("a", encoding="utf-8") as lines:
            lines.write(f'["{specimen.identity}.svs"]\n{json.dumps({**record, "size": float(len(vectors))})}\n')
            lines.write(f"'{place}.pth'\n")
        reports.setdefault(specimen.patient, {})[specimen.identity] = report_of(specimen.findings)
        count += 1

    yield write
    (folder / TEXT_FILE).write_text(json.dumps(reports, indent=2) + "\n", encoding="utf-8")


def _tiles(vectors: Vectors) -> Vectors:
    """The vectors as tiles of equally many (tiles, vectors, width), as the published reader needs them."""
    in_tile = max(size for size in range(1, _MOST_IN_A_TILE + 1) if len(vectors) % size == 0)
    return vectors.reshape(-1, in_tile, vectors.shape[1])


def _positions(tiles: int) -> np.ndarray:
    """Section, row and column of tiles in a grid, int64 (tiles, 3)."""
    rows, columns = np.divmod(np.arange(tiles), 16)
    return np.stack([np.ones(tiles, int), rows, columns], axis=1)
