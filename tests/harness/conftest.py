"""A small two-stage recipe and one run of it."""

import os
from pathlib import Path

import pytest

from biomass_pl.cli import main
from biomass_pl.runs import Run, find_run

RECIPE = """\
trainer:
  max_epochs: 4
  callbacks:
    - class_path: BackboneFreeze
      init_args: {epochs: 2}
    - class_path: EarlyStopping
      init_args: {monitor: val/weighted_r2, mode: max, patience: 10}
model:
  class_path: HierarchicalRatio
  init_args:
    backbone: test_vit.r160_in1k
    pretrained: false
    optim: {head_lr: 1.0e-3, backbone_lr: 1.0e-4, warmup_epochs: 1}
data:
  class_path: PastureDataModule
  init_args:
    root: ROOT
    num_folds: 3
    tile_size: 32
    num_workers: 0
    stereo_correct_aug: true
    stereo_swap_prob: 0.5
"""


@pytest.fixture(scope="session")
def recipe(rendered, tmp_path_factory) -> Path:
    """A two-stage recipe on the rendered photos."""
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(RECIPE.replace("ROOT", str(rendered)))
    return path


@pytest.fixture(scope="session")
def trained(recipe, tmp_path_factory) -> Path:
    """A working folder with one complete run of the recipe. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["fit", "--config", str(recipe)]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def run(trained) -> Run:
    """The complete run."""
    return find_run(trained / "lightning_logs")
