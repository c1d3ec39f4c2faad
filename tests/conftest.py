"""A rendered pasture and rendered skin lesions, made once, and what most tests need around it."""

import os
import shutil
from pathlib import Path

import pytest

# Also for the processes that tests start: sums over other numbers of threads differ in their last digits, and tests
# run side by side, where threads of one would only slow the others down.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that asks for weights fails at once instead of retrying

from biomass_pl.data.lesion_sample import render_lesions
from biomass_pl.data.sample import render_sample

PHOTOS = 24
LESIONS = 120


@pytest.fixture(scope="session")
def rendered(tmp_path_factory) -> Path:
    """A data folder with 24 labelled and 4 test photos of 128 x 64 pixels. Not to be changed."""
    root = tmp_path_factory.mktemp("rendered") / "data"
    render_sample(out=root, photos=PHOTOS, test_photos=4, width=128, seed=3)
    return root


@pytest.fixture(scope="session")
def lesions(tmp_path_factory) -> Path:
    """A data folder with 120 labelled skin lesions, 12 of them malignant, and 4 test photos. Not to be changed."""
    root = tmp_path_factory.mktemp("lesions") / "data"
    render_lesions(out=root, photos=LESIONS, test_photos=4, seed=3)
    return root


@pytest.fixture
def data(rendered, tmp_path) -> Path:
    """A copy of the rendered data folder that a test may spoil."""
    return Path(shutil.copytree(rendered, tmp_path / "data"))


@pytest.fixture
def workdir(tmp_path, monkeypatch) -> Path:
    """An empty working folder, in which runs go to lightning_logs."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
