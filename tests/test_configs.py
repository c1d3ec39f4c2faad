"""Every recipe on disk trains, saves and predicts."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from biomass_pl.cli import main
from biomass_pl.runs import find_run

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
PICTURE_SIZE = {"PastureDataModule": "--data.tile_size", "LesionDataModule": "--data.image_size"}


def epochs_for(config: Path) -> int:
    """One epoch, or one after the frozen ones."""
    callbacks = yaml.safe_load(config.read_text())["trainer"]["callbacks"]
    frozen = [callback["init_args"]["epochs"] for callback in callbacks if callback["class_path"] == "BackboneFreeze"]
    return 1 + sum(epochs for epochs in frozen if epochs != "all")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_a_recipe_trains_from_photos_to_an_out_of_fold_table(config, rendered, lesions, workdir):
    kind = yaml.safe_load(config.read_text())["data"]["class_path"]
    root = {"PastureDataModule": rendered, "LesionDataModule": lesions}[kind]
    tiny = ["--model.backbone", "test_vit.r160_in1k", "--model.pretrained", "false", PICTURE_SIZE[kind], "32"]
    short = ["--trainer.max_epochs", str(epochs_for(config)), "--data.num_workers", "0", "--folds", "0", "1"]
    small = ["--data.batch_size", "8", "--data.root", str(root)]
    assert main(["fit", "--config", str(config), *small, *tiny, *short]) == 0
    run = find_run(workdir / "lightning_logs")
    assert run.path.parent.name == config.stem
    assert run.best_checkpoint(0).is_file() and run.best_checkpoint(1).is_file()
    table = pd.read_csv(run.oof_predictions)
    assert set(table["fold"]) == {0, 1} and table.iloc[:, 0].is_unique


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_a_recipe_says_how_to_run_it(config):
    assert f"biomass fit --config configs/{config.name}" in config.read_text()
