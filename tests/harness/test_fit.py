"""`biomass fit` end to end: folds, run folder, resuming."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from biomass_pl.cli import main
from biomass_pl.pasture.report import score_table
from biomass_pl.pasture.tables import read_labels
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.runs import find_run


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
    assert json.loads((run.path / "oof_metrics.json").read_text()) == score_table(pd.read_csv(run.oof_predictions))


def test_the_run_folder_tells_what_was_done(run, recipe):
    record = run.record()
    assert record["name"] == "small"
    assert record["status"] == "complete"
    assert record["folds"] == [0, 1, 2]
    assert set(record["versions"]) == {"biomass-pl", "torch", "lightning", "timm"}
    assert set(record["data"]) == {"labels", "folds"}
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


def test_one_fold_alone_is_that_fold_of_the_full_run(run, recipe, workdir):
    assert main(["fit", "--config", str(recipe), "--folds", "2"]) == 0
    alone = find_run(workdir / "lightning_logs")
    assert alone.oof_csv(2).read_bytes() == run.oof_csv(2).read_bytes()
    assert not alone.fold_dir(0).exists()


def test_the_saved_configuration_trains_the_same_again(run, workdir):
    assert main(["fit", "--config", str(run.config(1)), "--folds", "1", "--name", "again"]) == 0
    again = find_run(workdir / "lightning_logs")
    assert again.path.parent.name == "again"
    assert again.oof_csv(1).read_bytes() == run.oof_csv(1).read_bytes()


def test_the_command_line_wins_over_the_recipe_and_links_arrive(recipe, workdir):
    arguments = ["--model.optim.head_lr", "5e-3", "--seed_everything", "7", "--trainer.max_epochs", "3"]
    assert main(["fit", *arguments, "--config", str(recipe), "--folds", "0", "--oof", "false"]) == 0
    run = find_run(workdir / "lightning_logs")
    used = yaml.safe_load(run.config(0).read_text())
    assert used["model"]["init_args"]["optim"]["head_lr"] == 5e-3
    assert used["model"]["init_args"]["optim"]["backbone_lr"] == 1e-4
    assert used["seed_everything"] == 7
    hyperparameters = torch.load(run.best_checkpoint(0), weights_only=True)["hyper_parameters"]
    assert hyperparameters["tile_size"] == 32  # linked from data.tile_size
    assert not run.oof_predictions.exists() and not run.oof_csv(0).exists()


def test_the_seed_reaches_folds_and_augmentation(recipe, workdir):
    from biomass_pl.harness.parser import RunCLI

    cli = RunCLI(["--config", str(recipe), "--seed_everything", "7"])
    assert cli.datamodule.seed == 7


def test_versions_count_up_and_a_name_can_be_given(recipe, workdir):
    arguments = ["fit", "--config", str(recipe), "--folds", "0", "--oof", "false", "--trainer.max_epochs", "3"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert main([*arguments, "--name", "other"]) == 0
    names = {f"{path.parent.name}/{path.name}" for path in (workdir / "lightning_logs").glob("*/version_*")}
    assert names == {"small/version_0", "small/version_1", "other/version_0"}


def test_early_stopping_counts_from_stage_2(rendered, recipe, workdir):
    """A patience of one would end every run in stage 1 if a head that got no better there counted."""
    stopping = (
        "[{class_path: BackboneFreeze, init_args: {epochs: 4}}, "
        "{class_path: EarlyStopping, init_args: {monitor: val/weighted_r2, mode: max, patience: 1, min_delta: 10}}]"
    )
    arguments = ["--trainer.callbacks", stopping, "--trainer.max_epochs", "9", "--folds", "0", "--oof", "false"]
    assert main(["fit", "--config", str(recipe), *arguments]) == 0
    rows = pd.read_csv(find_run(workdir / "lightning_logs").fold_dir(0) / "metrics.csv")
    # Stage 1 is epochs 0 to 3; epoch 4 sets the best of stage 2, epoch 5 is no better by 10.
    assert rows["epoch"].max() == 5


def fit_killed_after(epoch: int, recipe: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "biomass_pl", "fit", "--config", str(recipe), "--folds", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if f"epoch {epoch}/" in line:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("epoch", [2, 3, 4], ids=["in stage 1", "at the switch", "in stage 2"])
def test_a_killed_fold_resumes_to_the_undisturbed_table(epoch, run, recipe, workdir):
    fit_killed_after(epoch, recipe, workdir)
    killed = find_run(workdir / "lightning_logs")
    assert not killed.is_complete()
    # An epoch's line is printed before its checkpoint is written, and on a slow disk not every epoch is.
    assert torch.load(killed.last_checkpoint(0), weights_only=True)["epoch"] < epoch
    assert main(["fit", "--resume"]) == 0
    assert killed.is_complete()
    assert killed.oof_csv(0).read_bytes() == run.oof_csv(0).read_bytes()
    assert pd.read_csv(killed.fold_dir(0) / "metrics.csv")["epoch"].tolist() == [0, 1, 2, 3]


def test_a_moved_run_resumes_with_its_best_score(recipe, run, workdir):
    fit_killed_after(3, recipe, workdir)
    moved = workdir / "lightning_logs" / "small" / "version_7"
    find_run(workdir / "lightning_logs").path.rename(moved)
    assert main(["fit", "--resume", str(moved)]) == 0
    assert (moved / "fold_0" / "oof.csv").read_bytes() == run.oof_csv(0).read_bytes()


def test_a_broken_fold_leaves_the_finished_ones_and_resuming_trains_the_rest(recipe, data, workdir, capsys):
    arguments = ["fit", "--config", str(recipe), "--data.root", str(data), "--trainer.max_epochs", "3"]
    assert main([*arguments, "--folds", "0", "--oof", "false"]) == 0
    run = find_run(workdir / "lightning_logs")
    run.update_record(folds=[0, 1], status="running", oof=True)
    run.config(1).parent.mkdir()
    run.config(1).write_bytes(run.config(0).read_bytes())
    finished = run.best_checkpoint(0).stat().st_mtime_ns
    photo = data / read_labels(data)["image_path"].iloc[0]
    good = photo.read_bytes()
    photo.write_bytes(good[:100])
    assert main(["fit", "--resume"]) == 2
    assert photo.name in capsys.readouterr().err
    photo.write_bytes(good)
    assert main(["fit", "--resume"]) == 0
    assert run.best_checkpoint(0).stat().st_mtime_ns == finished
    assert run.finished_folds() == [0, 1]
    assert set(pd.read_csv(run.oof_predictions)["fold"]) == {0, 1}


def test_resuming_refuses_what_does_not_fit(trained, recipe, data, workdir, capsys, monkeypatch):
    assert main(["fit", "--resume"]) == 2
    assert "no unfinished run" in capsys.readouterr().err
    complete = find_run(trained / "lightning_logs").path
    assert main(["fit", "--resume", str(complete)]) == 2
    assert "is complete" in capsys.readouterr().err
    assert main(["fit", "--resume", "--config", str(recipe)]) == 2
    assert "takes no others" in capsys.readouterr().err


def test_resuming_refuses_changed_labels(recipe, data, workdir, capsys):
    arguments = ["fit", "--config", str(recipe), "--data.root", str(data), "--folds", "0", "--oof", "false"]
    assert main([*arguments, "--trainer.max_epochs", "3"]) == 0
    find_run(workdir / "lightning_logs").update_record(status="running")
    table = pd.read_csv(data / "train.csv", dtype=str)
    table.loc[0, "target"] = "999.0"
    table.to_csv(data / "train.csv", index=False)
    assert main(["fit", "--resume"]) == 2
    assert "changed since" in capsys.readouterr().err


def test_a_given_fold_file_is_used_as_it_is(recipe, rendered, workdir):
    ids = read_labels(rendered)["image_id"]
    given = pd.DataFrame({"sample_id_prefix": ids, "fold": [number % 2 for number in range(len(ids))]})
    given.to_csv(workdir / "folds.csv", index=False)
    arguments = ["--data.fold_csv", "folds.csv", "--trainer.max_epochs", "3"]
    assert main(["fit", "--config", str(recipe), *arguments]) == 0
    table = pd.read_csv(find_run(workdir / "lightning_logs").oof_predictions).set_index("image_id")
    assert table["fold"].to_dict() == dict(zip(given["sample_id_prefix"], given["fold"], strict=True))


def test_a_diverging_training_ends_with_advice(recipe, workdir, capsys):
    arguments = ["--model.optim.head_lr_frozen", "1e30", "--folds", "0"]
    assert main(["fit", "--config", str(recipe), *arguments]) == 2
    assert "Lower the rates" in capsys.readouterr().err
    assert not find_run(workdir / "lightning_logs").is_finished(0)


def test_a_full_disk_leaves_no_half_checkpoint(recipe, workdir, capsys, monkeypatch):
    def save_half(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device", str(file.name))

    monkeypatch.setattr(torch, "save", save_half)
    assert main(["fit", "--config", str(recipe), "--folds", "0"]) == 2
    assert "disk is full" in capsys.readouterr().err
    run = find_run(workdir / "lightning_logs")
    assert not list(run.checkpoints(0).iterdir())
    monkeypatch.undo()
    monkeypatch.chdir(workdir)
    assert main(["fit", "--resume"]) == 0
