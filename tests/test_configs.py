"""Every recipe on disk trains, saves and predicts."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from biomass_pl.cli import main
from biomass_pl.runs import find_run

pytestmark = pytest.mark.usefixtures("quick_pictures")

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
PICTURE_SIZE = {
    "PastureDataModule": "--data.tile_size",
    "LesionDataModule": "--data.image_size",
    "LeafDataModule": "--data.image_size",
    "RegressionDataModule": "--data.tile_size",
}

SMALL_HVIT = [
    *("--model.backbone", "hvit_tiny"),
    *("--model.backbone_args.embed_dim", "8"),
    *("--model.backbone_args.depths", "[1, 1]"),
    *("--model.backbone_args.num_heads", "[1, 2]"),
]
"""Stands in where a recipe has options of this network, which stay as they are."""


TINY_TEXTS = [
    *("--model.name", "coca_stage_1"),
    *("--model.captions.every_n_epochs", "1"),
    *("--model.generation.max_seq_len", "12"),
    *("--model.eval.bootstraps", "10"),
    *("--model.eval.grace_period", "0"),
    *("--trainer.check_val_every_n_epoch", "1"),
]
"""Where there are texts instead of pictures."""


def shortened(config: Path) -> list[str]:
    """Settings that leave one epoch, or one of each stage."""
    callbacks = yaml.safe_load(config.read_text())["trainer"].get("callbacks", [])
    epochs = 1
    for callback in callbacks:
        if callback["class_path"] == "BackboneFreeze" and callback["init_args"]["epochs"] != "all":
            callback["init_args"]["epochs"] = 1
            epochs = 2
    return ["--trainer.callbacks", json.dumps(callbacks), "--trainer.max_epochs", str(epochs)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_a_recipe_trains_from_photos_to_an_out_of_fold_table(config, rendered, lesions, leaves, slides, plots, workdir):
    settings = yaml.safe_load(config.read_text())
    kind = settings["data"]["class_path"]
    root = {
        "PastureDataModule": rendered,
        "LesionDataModule": lesions,
        "LeafDataModule": leaves,
        "SlideDataModule": slides,
        "RegressionDataModule": plots,
    }[kind]
    tiny = TINY_TEXTS
    if kind in PICTURE_SIZE:
        tiny = ["--model.backbone", "test_vit.r160_in1k", "--model.pretrained", "false", PICTURE_SIZE[kind], "32"]
    if "backbone_args" in settings["model"]["init_args"]:
        tiny = [*tiny, *SMALL_HVIT]
    short = [*shortened(config), "--folds", "0", "1"]
    small = ["--data.num_workers", "0", "--data.batch_size", "8", "--data.root", str(root)]
    assert main(["fit", "--config", str(config), *small, *tiny, *short]) == 0
    run = find_run(workdir / "lightning_logs")
    assert run.path.parent.name == config.stem
    assert run.best_checkpoint(0).is_file() and run.best_checkpoint(1).is_file()
    table = pd.read_csv(run.oof_predictions)
    assert set(table["fold"]) == {0, 1} and table.iloc[:, 0].is_unique


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_a_recipe_says_how_to_run_it(config):
    assert f"biomass fit --config configs/{config.name}" in config.read_text()
