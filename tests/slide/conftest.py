"""A rendered sample in both layouts, what is asked of a task on it, and a run, made once."""

from pathlib import Path

import pytest

from biomass_pl.data.splits import Split
from biomass_pl.slide.data import SlideDataModule
from biomass_pl.slide.sample.render import render_specimens
from biomass_pl.slide.specimens import SpecimenFiles
from tests.conftest import made_once

SPECIMENS = 60


@pytest.fixture(scope="session")
def specimen_folders(tmp_path_factory) -> Path:
    """Folders `hdf5` and `directories` with the same 60 specimens of 20 to 40 vectors. Not to be changed."""

    def make(folder: Path) -> None:
        for layout in ("hdf5", "directories"):
            render_specimens(out=folder / layout, specimens=SPECIMENS, most_vectors=40, layout=layout)

    return made_once(tmp_path_factory, "specimens", make)


@pytest.fixture(scope="session")
def packed(specimen_folders) -> SpecimenFiles:
    """The specimens in the HDF5 layout."""
    return SpecimenFiles(
        hdf5_filename=specimen_folders / "hdf5" / "specimens.hdf5",
        hdf5_feature_attribute="patch_features_comp_0",
        hdf5_text_attribute="report",
    )


@pytest.fixture(scope="session")
def unpacked(specimen_folders) -> SpecimenFiles:
    """The specimens in the directory layout."""
    root = specimen_folders / "directories"
    return SpecimenFiles(root_dir=root / "features", text_data_file=root / "reports.json")


def slide_module(folders: Path, fold: int = 0, **settings) -> SlideDataModule:
    """A data module of the rendered specimens in the HDF5 layout that was told a split."""
    files = {"hdf5_filename": Path("specimens.hdf5"), "hdf5_feature_attribute": "patch_features_comp_0"}
    small = {"hdf5_text_attribute": "report", "num_folds": 3, "batch_size": 16, "num_workers": 0}
    data = SlideDataModule(root=folders / "hdf5", **{**files, **small, **settings})
    data.use(Split(fold=fold, folds=data.make_folds()))
    return data
