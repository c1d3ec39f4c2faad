"""Small folders of leaf photos, what is asked of the data module on them, and a run on rendered leaves."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from biomass_pl.data.splits import Split
from biomass_pl.leaf.data import LeafDataModule
from biomass_pl.runs import Run, find_run
from tests.conftest import done_in, made_once

CLASSES = ("Curl Virus", "Healthy Leaf", "Leaf Redding")
PER_CLASS, FOLDS, SIDE = 6, 3, 16


def picture(seed, height=36, width=48):
    """Smooth blobs of several sizes, as photos have them; another seed gives quite another picture."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(size=(cells, cells, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
        for cells in (4, 8, 16)
    ]
    return np.clip(128 + 35 * sum(layers), 0, 255).astype(np.uint8)


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    return path


def write_classes(root, per_class=PER_CLASS, classes=CLASSES, first_seed=0):
    """A folder of photos per class; no two photos are alike."""
    for number, name in enumerate(classes):
        for position in range(per_class):
            save(picture(first_seed + 100 * number + position), root / name / f"{name.split()[0]}_{position}.png")
    return root


def leaf_module(root, fold=0, folds=None, **settings):
    small = {"num_folds": FOLDS, "image_size": SIDE, "batch_size": 4, "num_workers": 0}
    module = LeafDataModule(root=root, **{**small, **settings})
    module.use(Split(fold=fold, folds=module.make_folds() if folds is None else folds))
    return module


def ids(loader):
    return [name for batch in loader for name in batch["id"]]


@pytest.fixture(scope="session")
def leaf_root(tmp_path_factory):
    """Three classes of six photos. Not to be changed."""
    return write_classes(tmp_path_factory.mktemp("leaves") / "data")


RECIPE = """\
trainer:
  max_epochs: 3
  callbacks:
    - class_path: ExponentialAveraging
      init_args: {decay: 0.8}
model:
  class_path: LeafClassifier
  init_args:
    backbone: hvit_tiny
    backbone_args: {embed_dim: 8, depths: [1, 1], num_heads: [1, 2]}
    pretrained: false
    mixing:
      class_path: biomass_pl.training.batch_mixing.BatchMixing
      init_args: {mixup_alpha: 0.8, cutmix_alpha: 1.0, probability: 0.7}
    optim: {head_lr: 1.0e-2, backbone_lr: 1.0e-3, warmup_epochs: 0}
data:
  class_path: LeafDataModule
  init_args:
    root: ROOT
    num_folds: 2
    image_size: 32
    batch_size: 8
    num_workers: 0
"""
"""Averaged weights, and batches most of which are mixed."""


@pytest.fixture(scope="session")
def leaf_recipe(leaves, tmp_path_factory) -> Path:
    """A recipe of three epochs on the rendered leaves."""

    def make(folder: Path) -> None:
        (folder / "cotton.yaml").write_text(RECIPE.replace("ROOT", str(leaves)))

    return made_once(tmp_path_factory, "leaf_recipe", make) / "cotton.yaml"


@pytest.fixture(scope="session")
def leaf_trained(leaf_recipe, tmp_path_factory) -> Path:
    """A working folder with one complete run on leaves, as `biomass fit` leaves it. Not to be changed."""
    command = ["fit", "--config", str(leaf_recipe)]
    return made_once(tmp_path_factory, "leaf_trained", lambda folder: done_in(folder, command))


@pytest.fixture
def leaf_run(leaf_trained) -> Run:
    """The complete run on leaves."""
    return find_run(leaf_trained / "lightning_logs")


@pytest.fixture
def leaf_copy(leaf_trained, workdir) -> Run:
    """The complete run on leaves, in a working folder of the test's own."""
    shutil.copytree(leaf_trained, workdir, dirs_exist_ok=True)
    return find_run(Path("lightning_logs"))
