"""A rendered sample in both layouts, what is asked of a task on it, and a run, made once."""

import shutil
from pathlib import Path

import pytest

from biomass_pl.data.splits import Split
from biomass_pl.runs import Run, find_run
from biomass_pl.slide.data import SlideDataModule
from biomass_pl.slide.sample.render import render_specimens
from biomass_pl.slide.specimens import SpecimenFiles
from tests.conftest import done_in, made_once

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


RECIPE = """\
trainer:
  max_epochs: 2
  gradient_clip_val: 1.0
model:
  class_path: SlideCaptioning
  init_args:
    vocab_size: 300
    optim: {lr: 2.0e-3, wd: 0.1}
    scheduler: {warmup: 2}
    captions: {enabled: true, every_n_epochs: 2}
    generation: {max_seq_len: 12, min_seq_len: 3, top_k: 5}
    zero_shot:
      class_prompt_mapping: [zero_shot/dignity_prompts.json, zero_shot/diagnosis_prompts.json]
      specimen_class_mapping: [zero_shot/dignity_classes.json, zero_shot/diagnosis_classes.json]
    few_shot:
      examples: [few_shot/dignity.json, few_shot/diagnosis.json]
    eval: {bootstraps: 30}
data:
  class_path: SlideDataModule
  init_args:
    root: ROOT
    hdf5_filename: specimens.hdf5
    hdf5_feature_attribute: patch_features_comp_0
    hdf5_text_attribute: report
    num_folds: 2
    batch_size: 12
    num_workers: 0
"""


@pytest.fixture(scope="session")
def slide_recipe(specimen_folders, tmp_path_factory) -> Path:
    """A recipe of two epochs on the rendered specimens."""

    def make(folder: Path) -> None:
        (folder / "slides.yaml").write_text(RECIPE.replace("ROOT", str(specimen_folders / "hdf5")))

    return made_once(tmp_path_factory, "slide_recipe", make) / "slides.yaml"


@pytest.fixture(scope="session")
def slide_trained(slide_recipe, tmp_path_factory) -> Path:
    """A working folder with one complete run on specimens, as `biomass fit` leaves it. Not to be changed."""
    command = ["fit", "--config", str(slide_recipe)]
    return made_once(tmp_path_factory, "slide_trained", lambda folder: done_in(folder, command))


@pytest.fixture
def slide_run(slide_trained) -> Run:
    """The complete run on specimens."""
    return find_run(slide_trained / "lightning_logs")


@pytest.fixture
def slide_copy(slide_trained, workdir) -> Run:
    """The complete run on specimens, in a working folder of the test's own."""
    shutil.copytree(slide_trained, workdir, dirs_exist_ok=True)
    return find_run(Path("lightning_logs"))
