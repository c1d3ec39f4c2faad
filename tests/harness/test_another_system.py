"""A third system, quite different from those of the package, through every command and no change of a shared room."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from biomass_pl.cli import main
from biomass_pl.runs import Run, find_run
from tests.conftest import done_in, in_workdir
from tests.harness.another_system import VOCABULARY, WARDS, BagTask, write_bags

MODULE = "tests.harness.another_system"
RECIPE = f"""\
trainer: {{max_epochs: 5, accelerator: cpu}}
model: {{class_path: {MODULE}.BagTask, init_args: {{rate: 0.3}}}}
data: {{class_path: {MODULE}.Bags, init_args: {{root: ROOT, num_workers: 0}}}}
"""
TRUST = ["--trust", f"{MODULE}.Bags", f"{MODULE}.BagTask"]
STUMBLES = ["--trainer.callbacks", f"[{{class_path: {MODULE}.Stumble}}]", "--data.num_workers", "2"]
HELD_OUT = [f"bag_{number}" for number in range(20, 28)]


@pytest.fixture(scope="module")
def bag_recipe(tmp_path_factory) -> Path:
    """A recipe on 20 bags to learn from, 8 held out and 4 to test on."""
    folder = tmp_path_factory.mktemp("bags")
    path = folder / "bags.yaml"
    path.write_text(RECIPE.replace("ROOT", str(write_bags(folder / "data"))))
    return path


@pytest.fixture(scope="module")
def bag_trained(bag_recipe, tmp_path_factory) -> Path:
    """A working folder with one complete run of the recipe. Not to be changed."""
    return done_in(tmp_path_factory.mktemp("trained"), ["fit", "--config", str(bag_recipe)])


@pytest.fixture
def bag_run(bag_trained, workdir) -> Run:
    """The run, in a working folder of the test's own."""
    return in_workdir(find_run(bag_trained / "lightning_logs"), workdir)


def rank(arrays) -> float:
    similar = arrays["image"] @ arrays["text"].T
    return np.mean([sum(row >= row[own]) for own, row in enumerate(similar)])


def scores(run: Run) -> dict:
    return json.loads((run.path / "oof_metrics.json").read_text())


def test_one_given_split_trains_scores_and_keeps_its_texts(bag_run):
    assert pd.read_csv(bag_run.folds_csv)["fold"].tolist() == [-1] * 20 + [0] * 8
    with bag_run.oof_predictions.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["bag_id", "ward", "fold", "words", "certainty", "words_pred"]
    assert [row["bag_id"] for row in rows] == HELD_OUT
    assert [row["ward"] for row in rows] == [WARDS[number // 2 % 4] for number in range(20, 28)]
    assert [row["words"] for row in rows] == [VOCABULARY[number % 4] for number in range(20, 28)]
    assert {row["words_pred"] for row in rows} <= set(VOCABULARY)
    # Each word names two bags: the best rank is 2, a guess has 4.5.
    assert 2 <= scores(bag_run)["pooled"]["rank"] < 3.5


def test_the_best_epoch_has_the_smallest_loss_and_each_group_its_own_rate_and_decay(bag_run):
    epochs = pd.read_csv(bag_run.metrics_csv(0))
    record = json.loads((bag_run.fold_dir(0) / "fold.json").read_text())
    assert record["best_epoch"] == epochs["val/loss"].idxmin()
    assert record["val/loss"] == pytest.approx(epochs["val/loss"].min())
    assert epochs["rate/image"].tolist() == pytest.approx([0.3] * 5)
    assert epochs["rate/text"].tolist() == pytest.approx([0.03] * 5)
    (optimizer,) = torch.load(bag_run.last_checkpoint(0), weights_only=True)["optimizer_states"]
    assert {group["name"]: group["weight_decay"] for group in optimizer["param_groups"]} == {"image": 0.1, "text": 0.0}


def test_predicting_again_gives_the_table_and_the_arrays_by_name(bag_run):
    tables = [bag_run.oof_predictions, bag_run.path / "oof_metrics.json"]
    before = [path.read_bytes() for path in tables]
    assert main(["predict", *TRUST]) == 0
    assert [path.read_bytes() for path in tables] == before
    with np.load(bag_run.path / "oof_embeddings.npz") as archive:
        assert set(archive.files) == {"bag_id", "image", "text"}
        assert archive["bag_id"].tolist() == HELD_OUT
        assert archive["image"].shape == archive["text"].shape == (8, 4)
        assert rank(archive) == scores(bag_run)["pooled"]["rank"]
    with np.load(bag_run.fold_dir(0) / "oof_last_embeddings.npz") as archive:
        assert rank(archive) == scores(bag_run)["pooled_last"]["rank"]


def test_its_own_test_items_are_predicted(bag_run):
    assert main(["predict", "--split", "test", *TRUST, "--out", "test.csv"]) == 0
    table = pd.read_csv("test.csv")
    assert table["bag_id"].tolist() == ["bag_28", "bag_29", "bag_30", "bag_31"]
    assert table["certainty"].between(-1, 1).all() and set(table["words_pred"]) <= set(VOCABULARY)
    with np.load("test_embeddings.npz") as archive:
        assert set(archive.files) == {"bag_id", "image", "text"}
    assert not Path("submission.csv").exists() and not (bag_run.path / "submission.csv").exists()


@pytest.fixture(scope="module")
def two_models(bag_recipe, tmp_path_factory) -> Path:
    """A working folder with a run of two folds, whose test bags are known. Not to be changed."""
    command = ["fit", "--config", str(bag_recipe), "--data.folds", "2", "--data.score_test", "true"]
    return done_in(tmp_path_factory.mktemp("two_models"), [*command, "--trainer.max_epochs", "2"])


def test_test_items_with_truth_are_scored_fold_by_fold(two_models, workdir, capsys):
    run = in_workdir(find_run(two_models / "lightning_logs"), workdir)
    assert main(["predict", "--split", "test", *TRUST]) == 0
    assert "Test scores of" in capsys.readouterr().out
    table = pd.read_csv(run.test_predictions, dtype=str, keep_default_na=False)
    assert list(table) == ["bag_id", "ward", "fold", "words", "certainty", "words_pred"]
    names = ["bag_28", "bag_29", "bag_30", "bag_31"]
    assert table["bag_id"].tolist() == 2 * names and table["fold"].tolist() == ["0"] * 4 + ["1"] * 4
    assert table["words"].tolist() == 2 * [VOCABULARY[number % 4] for number in range(28, 32)]
    assert table["ward"].tolist() == 2 * [WARDS[number // 2 % 4] for number in range(28, 32)]
    scored = json.loads((run.path / "test_metrics.json").read_text())
    with np.load(run.path / "test_embeddings.npz") as archive:
        assert archive["bag_id"].tolist() == 2 * names
        parts = [{name: archive[name][rows] for name in ("image", "text")} for rows in (slice(4), slice(4, 8))]
        assert scored["pooled"] == {"bags": 8, "rank": rank(archive)}
    assert scored["folds"] == {"0": rank(parts[0]), "1": rank(parts[1])} and "pooled_last" not in scored
    assert (run.path / "test_predictions.png").is_file()
    whole = run.test_predictions.read_bytes()
    assert main(["predict", "--split", "test", "--folds", "1", *TRUST]) == 0
    alone = pd.read_csv(run.path / "test_predictions_folds_1.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(alone, table[4:].reset_index(drop=True))
    assert run.test_predictions.read_bytes() == whole


def test_what_a_task_takes_from_the_data_is_that_of_the_first_fold_asked_for(bag_recipe, workdir, monkeypatch):
    seen = []
    monkeypatch.setattr(BagTask, "set_up_for", lambda task, data: seen.append((data.split.fold, len(data.names()))))
    command = ["fit", "--config", str(bag_recipe), "--data.folds", "3", "--folds", "1", "--trainer.max_epochs", "1"]
    assert main([*command, "--oof", "false"]) == 0
    assert seen and set(seen) == {(1, 28)}


def test_a_broken_training_with_workers_resumes_to_the_bytes_of_one_without(bag_run, bag_recipe, capsys):
    Path("stumble").touch()
    with pytest.raises(RuntimeError, match="stumbled"):
        main(["fit", "--config", str(bag_recipe), "--name", "broken", *STUMBLES])
    assert not Path("stumble").exists()
    broken = find_run(Path("lightning_logs"))
    assert broken.path.parent.name == "broken" and not broken.is_finished(0)
    assert main(["fit", "--resume", *TRUST]) == 2
    assert f"--trust {MODULE}.Stumble" in capsys.readouterr().err
    assert main(["fit", "--resume", *TRUST, f"{MODULE}.Stumble"]) == 0
    assert "goes on with epoch" in capsys.readouterr().err
    for name in ("oof_predictions.csv", "oof_metrics.json", "fold_0/oof_last.csv", "fold_0/oof_embeddings.npz"):
        assert (broken.path / name).read_bytes() == (bag_run.path / name).read_bytes(), name


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["predict"], f"--trust {MODULE}.BagTask"),
        (["predict", *TRUST, "--tta"], "the data of this run have one"),
        (["predict", *TRUST, "--derive_dead"], "--derive_dead is not for this run"),
        (["predict", *TRUST, "--images", "data.npz"], "A bag is no file of its own"),
        (["stack", *TRUST], "Runs of BagTask cannot be stacked"),
    ],
    ids=lambda part: " ".join(part[:1] + part[-1:]) if isinstance(part, list) else "",
)
def test_what_it_cannot_do_is_refused_in_one_sentence(command, message, bag_run, capsys):
    Path("data.npz").touch()
    before = sorted(Path().rglob("*"))
    assert main(command) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("biomass: error:")]
    assert message in line
    assert sorted(Path().rglob("*")) == before


def test_a_bar_names_the_fold_and_counts_epochs_from_1(bag_recipe, workdir, capfd):
    shown = ["--trainer.enable_progress_bar", "true", "--trainer.max_epochs", "2"]
    assert main(["fit", "--config", str(bag_recipe), *shown]) == 0
    bars = capfd.readouterr()
    for title in ("fold 0, epoch 1 of 2:", "fold 0, epoch 2 of 2:", "fold 0, predicting:"):
        assert title in bars.out + bars.err


def test_freezing_a_backbone_that_is_not_there_is_refused_before_a_run_is_made(bag_recipe, workdir, capsys):
    freeze = "[{class_path: BackboneFreeze, init_args: {epochs: 2}}]"
    assert main(["fit", "--config", str(bag_recipe), "--trainer.callbacks", freeze]) == 2
    assert "BagTask has no backbone to freeze" in capsys.readouterr().err
    assert not list(workdir.iterdir())


def test_help_shows_the_settings_of_the_classes_that_a_recipe_names(bag_recipe, capsys):
    assert main(["fit", "--config", str(bag_recipe), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--data Bags" in shown and "--data.dropped" in shown and "Share of a bag's vectors" in shown
    assert "--model BagTask" in shown and "--model.rate" in shown
    assert "--model.backbone" not in shown and "Other models" not in shown and "SUPPRESS" not in shown


def test_help_names_a_class_that_is_not_there(bag_recipe, capsys):
    assert main(["fit", "--config", str(bag_recipe), "--model", f"{MODULE}.Missing", "--help"]) == 2
    assert f"there is no class '{MODULE}.Missing'" in capsys.readouterr().err


def test_bench_counts_what_is_trained_on_and_what_is_held_out(bag_recipe, workdir):
    assert main(["bench", "--config", str(bag_recipe), "--steps", "1", "--out", "bench.json"]) == 0
    report = json.loads(Path("bench.json").read_text())
    (stage,) = report["stages"]
    epoch = 20 / stage["train_photos_per_s"] + 8 / stage["forward_photos_per_s"]
    assert report["estimated_seconds"] == pytest.approx(5 * epoch)
