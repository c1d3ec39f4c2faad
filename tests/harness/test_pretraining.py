"""Pre-training with SimCLR through the command: tables, resumed and shared trainings, predictions of new photos."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from biomass_pl.cli import main
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.runs import Run, find_run
from tests.conftest import done_in, made_once
from tests.harness.test_resume import assert_same_fold, with_callback

pytestmark = pytest.mark.usefixtures("quick_pictures")

LOGS = Path("lightning_logs")
TRUST = ["--trust", "tests.harness.interruptions.FailOnce"]

MODEL = {
    "class_path": "SimCLR",
    "init_args": {
        "backbone": "test_vit.r160_in1k",
        "pretrained": False,
        "probe_every": 2,
        "optim": {"head_lr": 1e-3, "backbone_lr": 1e-3, "warmup_epochs": 1},
    },
}


def write_recipe(recipe: Path, path: Path, *, epochs: int, **data) -> None:
    """A recipe of SimCLR with averaged weights on the data of another recipe."""
    content = yaml.safe_load(recipe.read_text())
    settings = {"class_path": content["data"]["class_path"], "init_args": content["data"]["init_args"] | data}
    averaging = {"class_path": "ExponentialAveraging", "init_args": {"decay": 0.5}}
    trainer = {"max_epochs": epochs, "callbacks": [averaging]}
    path.write_text(yaml.safe_dump({"trainer": trainer, "model": MODEL, "data": settings}))


@pytest.fixture(scope="module")
def simclr_recipe(recipe, tmp_path_factory) -> Path:
    """SimCLR on the rendered pastures."""

    def make(folder: Path) -> None:
        write_recipe(recipe, folder / "simclr.yaml", epochs=4)

    return made_once(tmp_path_factory, "simclr_recipe", make) / "simclr.yaml"


@pytest.fixture(scope="module")
def pretrained(simclr_recipe, tmp_path_factory) -> Run:
    """A complete run of it. Not to be changed."""
    command = ["fit", "--config", str(simclr_recipe)]
    return find_run(made_once(tmp_path_factory, "pretrained", lambda folder: done_in(folder, command)) / LOGS)


def test_a_run_on_pastures_has_the_probe_in_its_tables(pretrained):
    assert pretrained.is_complete()
    table = pd.read_csv(pretrained.oof_predictions)
    assert {f"probe_{target}" for target in TARGETS} < set(table) and len(table) == 24
    metrics = json.loads((pretrained.path / "oof_metrics.json").read_text())
    best = [json.loads((pretrained.fold_dir(fold) / "fold.json").read_text()) for fold in range(3)]
    scores = [metrics["folds"][str(fold)]["r2"] for fold in range(3)]
    assert scores == pytest.approx([record["val/probe_r2"] for record in best], abs=1e-5)
    epochs = pd.read_csv(pretrained.metrics_csv(0))
    logged = {"train/loss", "train/lr", "train/alignment", "train/uniformity", "val/probe_r2", "val/probe_untrained"}
    assert logged < set(epochs) and epochs["val/probe_untrained"].nunique() == 1
    assert epochs["val/probe_r2"][2] == epochs["val/probe_r2"][1]  # no probe in epoch 3
    assert (pretrained.path / "oof_predictions.png").is_file() and (pretrained.path / "learning_curves.png").is_file()


def test_the_probe_predicts_again_and_new_photos(pretrained, rendered, workdir):
    shutil.copytree(pretrained.path.parents[1], LOGS)
    run = find_run(LOGS)
    before = run.oof_predictions.read_bytes()
    assert main(["predict"]) == 0 and run.oof_predictions.read_bytes() == before
    assert main(["predict", "--split", "test"]) == 0
    table = pd.read_csv(run.test_predictions)
    assert len(table) == 4 and np.isfinite(table[[f"probe_{target}" for target in TARGETS]].to_numpy()).all()


@pytest.mark.parametrize("workers", [0, 2], ids=lambda workers: f"{workers} workers")
def test_a_broken_fold_resumes_to_the_undisturbed_table(
    workers, pretrained, simclr_recipe, workdir, interruptions, every_epoch_saved
):
    settings = ["--data.num_workers", str(workers), "--folds", "0"]
    assert main(["fit", "--config", with_callback(simclr_recipe, "FailOnce", [1, 3]), *settings]) == 2
    assert main(["fit", "--resume", *TRUST]) == 2
    assert main(["fit", "--resume", *TRUST]) == 0
    assert_same_fold(find_run(LOGS), pretrained)


def test_two_processes_train_what_one_trains(recipe, workdir):
    """The pairs of all processes are negatives of each other: other batches would have another loss."""
    ids = pd.read_csv(Path(yaml.safe_load(recipe.read_text())["data"]["init_args"]["root"]) / "train.csv")
    names = ids["sample_id"].str.split("__").str[0].drop_duplicates()
    pd.DataFrame({"image_id": names, "fold": np.arange(24) % 3}).to_csv("even.csv", index=False)
    write_recipe(recipe, Path("alone.yaml"), epochs=2, fold_csv="even.csv", batch_size=8)
    write_recipe(recipe, Path("both.yaml"), epochs=2, fold_csv="even.csv", batch_size=4)
    assert main(["fit", "--config", "alone.yaml", "--folds", "0"]) == 0
    together = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [sys.executable, "-m", "biomass_pl", "fit", "--config", "both.yaml", "--folds", "0", *together]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    runs = [Run(LOGS / name / "version_0") for name in ("alone", "both")]
    alone, both = (pd.read_csv(run.metrics_csv(0)) for run in runs)
    for name in ("train/loss", "train/uniformity", "train/alignment", "val/probe_untrained"):
        assert np.allclose(alone[name], both[name], atol=1e-4), name
    states = [torch.load(run.last_checkpoint(0), weights_only=True)["state_dict"] for run in runs]
    assert all(torch.allclose(states[0][name], states[1][name], atol=1e-3) for name in states[0])
    tables = [pd.read_csv(run.oof_last_csv(0)) for run in runs]
    columns = [f"probe_{target}" for target in TARGETS]
    assert np.allclose(tables[0][columns], tables[1][columns], atol=1e-3)


def test_lesions_are_pretrained_with_classes(lesion_recipe, workdir, capsys):
    write_recipe(lesion_recipe, Path("moles.yaml"), epochs=1, positive_ratio=None)
    assert main(["fit", "--config", "moles.yaml", "--model.chunk", "4"]) == 0
    run = find_run(LOGS)
    table = pd.read_csv(run.oof_predictions)
    assert {"prob_0", "prob_1", "probe_target"} < set(table) and len(table) == 120
    assert (table["probe_target"] == (table["prob_1"] > 0.5)).all()
    metrics = json.loads((run.path / "oof_metrics.json").read_text())
    accuracy = (table["probe_target"] == table["target"]).mean()
    assert metrics["pooled"]["accuracy"] == pytest.approx(accuracy)
    assert "accuracy of all folds pooled" in " ".join(capsys.readouterr().out.split())
    assert main(["predict", "--split", "test"]) == 0
    tested = pd.read_csv(run.test_predictions)
    # The mean of probabilities decides, not the first fold's class.
    assert (tested["probe_target"] == (tested["prob_1"] > 0.5)).all() and len(tested) == 4
    assert yaml.safe_load(run.config(0).read_text())["model"]["init_args"]["chunk"] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.batch_size", "1"], "leaves a photo nothing to be told from"),
        (["--model.temperature", "0"], "model.temperature is 0.0; give more than 0"),
        (["--model.pairs.hue", "0.9"], "half the circle of hues"),
        (["--model.unlabelled", "[gone]"], "gone does not exist"),
        (["--model.tile_batch", "2"], "tile_batch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_refused_before_there_is_a_run(arguments, message, simclr_recipe, workdir, capsys):
    assert main(["fit", "--config", str(simclr_recipe), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("biomass: error:") == 1
    assert not LOGS.exists()


# Starting from it


def encoder(run: Run, fold: int) -> dict[str, torch.Tensor]:
    state = torch.load(run.best_checkpoint(fold), weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if name.startswith("network.backbone.")}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


FROM = "--model.init_from"
STILL = ["--model.optim", "{head_lr: 0.001, backbone_lr: 0, weight_decay: 0, warmup_epochs: 0}"]


def test_fold_k_starts_from_the_encoder_of_fold_k(pretrained, recipe, workdir):
    start = [FROM, str(pretrained.path), "--folds", "0", "2", "--trainer.callbacks=null", "--trainer.max_epochs", "1"]
    assert main(["fit", "--config", str(recipe), *start, *STILL]) == 0
    run = find_run(LOGS)
    for fold in (0, 2):
        assert same(encoder(run, fold), encoder(pretrained, fold))
    assert not same(encoder(run, 0), encoder(run, 2))
    # The run is on its own from now on: it predicts and resumes where the other one is gone.
    for fold in (0, 2):
        text = run.config(fold).read_text()
        assert str(pretrained.path) in text
        run.config(fold).write_text(text.replace(str(pretrained.path), "gone"))
    assert main(["predict"]) == 0


def test_a_broken_fine_tuning_goes_on_with_its_own_weights(
    pretrained, recipe, workdir, interruptions, every_epoch_saved
):
    settings = [FROM, "origin", "--folds", "0"]
    shutil.copytree(pretrained.path, "origin")
    assert main(["fit", "--config", str(recipe), *settings]) == 0
    undisturbed = find_run(LOGS)
    assert main(["fit", "--config", with_callback(recipe, "FailOnce", [1]), *settings]) == 2
    shutil.rmtree("origin")
    assert main(["fit", "--resume", *TRUST]) == 0
    assert_same_fold(Run(LOGS / "broken/version_0"), undisturbed)


def refuse_origin(recipe: Path, run: Path, message: str, capsys, *arguments: str) -> None:
    assert main(["fit", "--config", str(recipe), FROM, str(run), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("biomass: error:") == 1
    assert not LOGS.exists()


def test_runs_that_may_have_seen_what_is_held_out_are_refused(pretrained, recipe, lesion_run, workdir, capsys):
    refuse_origin(recipe, pretrained.path, "has other folds, such as", capsys, "--data.cv_strategy", "random")
    refuse_origin(recipe, pretrained.path, "has other folds, such as", capsys, "--data.num_folds", "2")
    refuse_origin(recipe, lesion_run.path, "was trained on other items", capsys)
    refuse_origin(recipe, workdir, "is not a run folder", capsys)
    shutil.copytree(pretrained.path, "unfinished")
    (Path("unfinished") / "fold_1" / "fold.json").unlink()
    refuse_origin(recipe, Path("unfinished"), "fold 1 of unfinished is not finished", capsys)


@pytest.mark.parametrize(
    "other", [["--model.backbone", "test_resnet.r160_in1k"], ["--data.tile_size", "48"]], ids=lambda value: value[0]
)
def test_an_encoder_that_does_not_fit_is_refused_before_there_is_a_run(other, pretrained, recipe, workdir, capsys):
    refuse_origin(recipe, pretrained.path, "do not fit the backbone and tile size", capsys, *other)


def test_weights_come_from_one_place(pretrained, recipe, workdir, capsys):
    message = "model.init_from and model.backbone_weights both give"
    refuse_origin(recipe, pretrained.path, message, capsys, "--model.backbone_weights", "x.pt")
