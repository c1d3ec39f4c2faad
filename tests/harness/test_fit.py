"""`biomass fit` end to end: folds, run folder, what it says, what it refuses before training."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from biomass_pl.cli import main
from biomass_pl.harness.memory import peak_memory
from biomass_pl.harness.parser import RunCLI
from biomass_pl.pasture.report import score_table
from biomass_pl.pasture.tables import read_labels
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.runs import find_run
from tests.conftest import make_run

pytestmark = pytest.mark.usefixtures("quick_pictures")

LOGS = Path("lightning_logs")


def test_every_photo_is_predicted_once_by_the_fold_that_held_it_out(run, rendered):
    table = pd.read_csv(run.oof_predictions)
    folds = pd.read_csv(run.folds_csv).set_index("image_id")["fold"]
    labels = read_labels(rendered).set_index("image_id")
    assert sorted(table["image_id"]) == sorted(labels.index)
    assert (table["fold"].to_numpy() == folds.loc[table["image_id"]].to_numpy()).all()
    for fold in range(3):
        own = pd.read_csv(run.oof_csv(fold))
        assert set(own["image_id"]) == set(folds.index[folds == fold])
        assert (own["fold"] == fold).all()
    assert (table.set_index("image_id")[list(TARGETS)] == labels.loc[table["image_id"], list(TARGETS)]).all(axis=None)


def test_the_reported_scores_are_those_of_the_written_table(run):
    scores = json.loads((run.path / "oof_metrics.json").read_text())
    last = pd.concat([pd.read_csv(run.oof_last_csv(fold)) for fold in range(3)])
    expected = score_table(last)["pooled"]
    assert scores["pooled_last"]["weighted_r2"] == pytest.approx(expected["weighted_r2"], rel=1e-12)
    assert scores.pop("pooled_last")["photos"] == expected["photos"] == 24
    assert scores == score_table(pd.read_csv(run.oof_predictions)) and scores["constant"]


def test_the_run_folder_tells_what_was_done(run, recipe):
    record = run.record()
    assert record["name"] == "small"
    assert record["status"] == "complete"
    assert record["folds"] == [0, 1, 2]
    assert set(record["versions"]) == {"biomass-pl", "torch", "lightning", "timm"}
    assert set(record["data"]) == {"labels", "folds", "contents"}
    for fold in range(3):
        outcome = json.loads((run.fold_dir(fold) / "fold.json").read_text())
        assert outcome["epochs"] == 4
        assert outcome["best_epoch"] >= 2  # counted from stage 2
        assert outcome["seconds"] > 0
        assert outcome["peak_memory_bytes"] > 1e8
        assert list(run.fold_dir(fold).glob("events*"))
        assert not list(run.fold_dir(fold).rglob("*.tmp"))


def test_there_is_one_row_per_epoch_with_rates_losses_and_scores(run):
    rows = pd.read_csv(run.fold_dir(0) / "metrics.csv")
    assert rows["epoch"].tolist() == [0, 1, 2, 3]
    assert rows["rate/backbone"].tolist()[:2] == [0, 0] and (rows["rate/backbone"][2:] > 0).all()
    wanted = {"train/loss", "train/loss_regression", "val/loss", "val/weighted_r2", "val/mean_r2", "rate/head"}
    assert wanted | {f"val/r2_{target}" for target in TARGETS} <= set(rows)


def test_one_fold_alone_is_that_fold_of_the_full_run_and_versions_count_up(run, recipe, workdir):
    make_run(LOGS, "small")
    assert main(["fit", "--config", str(recipe), "--folds", "2"]) == 0
    alone = find_run(LOGS)
    assert alone.path == LOGS / "small/version_1"
    assert alone.oof_csv(2).read_bytes() == run.oof_csv(2).read_bytes()
    assert not alone.fold_dir(0).exists()


def test_the_saved_configuration_trains_the_same_again(run, workdir):
    assert main(["fit", "--config", str(run.config(1)), "--folds", "1", "--name", "again"]) == 0
    again = find_run(LOGS)
    assert again.path.parent.name == "again"
    assert again.oof_csv(1).read_bytes() == run.oof_csv(1).read_bytes()


def test_the_memory_of_a_fold_is_not_that_of_what_came_before(recipe, workdir):
    large = np.ones(600_000_000, dtype=np.uint8)
    before = peak_memory()
    del large
    settings = ["--folds", "0", "--oof", "false", "--trainer.max_epochs", "3", "--trainer.limit_train_batches", "1"]
    assert main(["fit", "--config", str(recipe), *settings]) == 0
    outcome = json.loads((find_run(LOGS).fold_dir(0) / "fold.json").read_text())
    assert 1e8 < outcome["peak_memory_bytes"] < before - 2e8


def test_the_command_line_wins_over_the_recipe_and_links_arrive(recipe, workdir):
    arguments = ["--model.optim.head_lr", "5e-3", "--seed_everything", "7", "--trainer.max_epochs", "3"]
    assert main(["fit", *arguments, "--config", str(recipe), "--folds", "0", "--oof", "false"]) == 0
    run = find_run(LOGS)
    used = yaml.safe_load(run.config(0).read_text())
    assert used["model"]["init_args"]["optim"]["head_lr"] == 5e-3
    assert used["model"]["init_args"]["optim"]["backbone_lr"] == 1e-4
    assert used["seed_everything"] == 7
    hyperparameters = torch.load(run.best_checkpoint(0), weights_only=True)["hyper_parameters"]
    assert hyperparameters["tile_size"] == 32  # linked from data.tile_size
    assert not run.oof_predictions.exists() and not run.oof_csv(0).exists()


def test_the_seed_reaches_folds_and_augmentation(recipe, workdir):
    cli = RunCLI(["--config", str(recipe), "--seed_everything", "7"])
    assert cli.datamodule.seed == 7


def test_a_given_fold_file_is_used_as_it_is(recipe, rendered, workdir):
    ids = read_labels(rendered)["image_id"]
    given = pd.DataFrame({"sample_id_prefix": ids, "fold": [number % 2 for number in range(len(ids))]})
    given.to_csv(workdir / "folds.csv", index=False)
    arguments = ["--data.fold_csv", "folds.csv", "--trainer.max_epochs", "3", "--folds", "1"]
    assert main(["fit", "--config", str(recipe), *arguments]) == 0
    run = find_run(LOGS)
    used = pd.read_csv(run.folds_csv)
    assert used["image_id"].tolist() == ids.tolist() and used["fold"].tolist() == given["fold"].tolist()
    assert sorted(pd.read_csv(run.oof_predictions)["image_id"]) == sorted(ids[1::2])


def test_a_full_disk_leaves_no_half_checkpoint(recipe, workdir, capsys, monkeypatch):
    def save_half(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device", str(file.name))

    monkeypatch.setattr(torch, "save", save_half)
    assert main(["fit", "--config", str(recipe), "--folds", "0"]) == 2
    assert "disk is full" in capsys.readouterr().err
    run = find_run(LOGS)
    assert not list(run.checkpoints(0).iterdir())
    monkeypatch.undo()
    monkeypatch.chdir(workdir)
    assert main(["fit", "--resume"]) == 0


# What is said


EPOCH_LINE = r"fold \d  epoch {epoch}/4  train/loss (\S+)  val/loss (\S+)  val/weighted_r2 (\S+)  best (\S+)  \d+\.\d s"


def test_the_log_holds_what_was_printed(run):
    text = run.log.read_text()
    assert text.startswith(
        f"Starts from random weights\nRun folder: {run.path.relative_to(run.path.parents[2])}\n"
        "Fold 0: 15 training photos, 9 held"
    )
    for name in ("Out-of-fold scores of", "weighted_r2", "constant", "last epoch's weights", "oof_metrics.json"):
        assert name in text, name
    lines = text.splitlines()
    for fold in range(3):
        rows = pd.read_csv(run.metrics_csv(fold))
        own = [line for line in lines if line.startswith(f"fold {fold}  ")]
        assert len(own) == 4
        for epoch, line in enumerate(own):
            found = re.fullmatch(EPOCH_LINE.format(epoch=epoch + 1), line)
            row = rows.iloc[epoch]
            expected = [row["train/loss"], row["val/loss"], row["val/weighted_r2"]]
            assert [float(value) for value in found.groups()[:3]] == pytest.approx(expected, rel=1e-3)


def test_the_log_keeps_the_error_that_ended_a_training(recipe, workdir, capsys):
    """A training that diverges; its advice stands on the terminal and in the log."""
    arguments = ["--model.optim.head_lr_frozen", "1e30", "--folds", "0"]
    assert main(["fit", "--config", str(recipe), *arguments]) == 2
    run = find_run(LOGS)
    error = capsys.readouterr().err.splitlines()[-1].removeprefix("biomass: ")
    assert "Lower the rates" in error and run.log.read_text().splitlines()[-1] == error
    assert not run.is_finished(0)


# What is refused before training


def refused(arguments: list[str], capsys) -> str:
    """The one message of a command that makes no run."""
    assert main(["fit", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("biomass: error:") == 1 and "Traceback" not in error
    assert not LOGS.exists()
    return error


def test_a_fold_of_bare_soil_is_refused_before_training(recipe, data, workdir, capsys):
    ids = read_labels(data)["image_id"]
    pd.DataFrame({"image_id": ids, "fold": [0] * 3 + [1] * (len(ids) - 3)}).to_csv("folds.csv", index=False)
    table = pd.read_csv(data / "train.csv", dtype=str)
    table.loc[table["sample_id"].str.split("__").str[0].isin(ids[:3]), "target"] = "0.0"
    table.to_csv(data / "train.csv", index=False)
    arguments = ["--config", str(recipe), "--data.root", str(data), "--data.fold_csv", "folds.csv"]
    error = refused(arguments, capsys)
    assert "Fold 0 holds out 3 photo(s) whose grams are all equal, such as bare soil" in error


def test_the_same_photo_in_two_folds_is_named_and_refused(recipe, run, data, workdir, capsys):
    paths = read_labels(data).set_index("image_id")["image_path"]
    folds = pd.read_csv(run.folds_csv).set_index("image_id")["fold"]
    (one, first), (other, second) = folds.drop_duplicates().iloc[:2].items()
    shutil.copy(data / paths[one], data / paths[other])
    error = refused(["--config", str(recipe), "--data.root", str(data)], capsys)
    assert "The same photo stands under several names in different folds" in error
    both = [f"{one} (fold {first})", f"{other} (fold {second})"]
    assert " and ".join(both) in error or " and ".join(both[::-1]) in error
