"""`biomass fit`, `predict`, `stack` and `bench` on measured numbers, end to end."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biomass_pl.cli import main
from biomass_pl.evaluation.embeddings import Embeddings
from biomass_pl.runs import Run, find_run
from biomass_pl.trait.scores import mean_r2
from tests.conftest import done_in, in_workdir
from tests.trait.conftest import TABLE, write_photos

pytestmark = pytest.mark.usefixtures("quick_pictures")

TARGETS = ["green", "dead", "total"]
PREDICTED = [f"{target}_pred" for target in TARGETS]
RECIPE = """\
trainer: {max_epochs: 3, accelerator: cpu}
model:
  class_path: Regression
  init_args:
    backbone: test_vit.r160_in1k
    pretrained: false
    hidden: 16
    sums: {total: [green, dead]}
    non_negative: true
    target_weights: [1, 2, 1]
    optim: {head_lr: 1.0e-2, backbone_lr: 1.0e-3, warmup_epochs: 0}
data:
  class_path: RegressionDataModule
  init_args:
    root: ROOT
    image_column: file
    group_column: farm
    targets: [green, dead, total]
    units: [g, g, g]
    num_folds: 2
    tile_size: 16
    num_workers: 0
"""
STUMBLE = "tests.harness.another_system.Stumble"


@pytest.fixture(scope="module")
def recipe(measured, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "numbers.yaml"
    path.write_text(RECIPE.replace("ROOT", str(measured)))
    return path


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory) -> Path:
    """A working folder with one complete run. Not to be changed."""
    return done_in(tmp_path_factory.mktemp("trained"), ["fit", "--config", str(recipe)])


@pytest.fixture
def run(trained, workdir) -> Run:
    """The run, in a working folder of the test's own."""
    return in_workdir(find_run(trained / "lightning_logs"), workdir)


def test_the_table_has_truth_and_predictions_of_every_photo_and_its_score_is_the_reported_one(run):
    table = pd.read_csv(run.oof_predictions, dtype={"group": str})
    assert list(table) == ["image_id", "fold", "group", *TARGETS, *PREDICTED]
    assert sorted(table["image_id"]) == TABLE["file"].tolist()
    own = TABLE.set_index("file").loc[table["image_id"]]
    np.testing.assert_array_equal(table[TARGETS].to_numpy(), own[TARGETS].to_numpy())
    assert table["group"].tolist() == own["farm"].tolist()
    assert (table[PREDICTED] >= 0).all(axis=None)
    assert (table["green_pred"] + table["dead_pred"]).tolist() == table["total_pred"].tolist()
    pooled = json.loads((run.path / "oof_metrics.json").read_text())["pooled"]
    assert pooled["mean_r2"] == mean_r2(table[TARGETS].to_numpy(), table[PREDICTED].to_numpy(), np.array([1, 2, 1]))
    assert pooled["targets"]["green"]["photos"] == 20 and pooled["interval_over"] == "groups"
    assert (run.path / "oof_predictions.png").is_file()


def test_predicting_again_repeats_the_table_and_other_photos_get_the_mean_of_the_folds(run, measured):
    before = run.oof_predictions.read_bytes()
    assert main(["predict"]) == 0
    assert run.oof_predictions.read_bytes() == before
    assert main(["predict", "--split", "test"]) == 0
    test = pd.read_csv(run.test_predictions)
    assert list(test) == ["image_id", *PREDICTED] and test["image_id"].tolist() == [
        f"photos/{n:02}.png" for n in (3, 1, 2)
    ]
    photo = measured / "photos" / "03.png"
    assert main(["predict", "--images", str(photo), "--tta", "--out", "one.csv"]) == 0
    assert main(["predict", "--images", str(photo), "--out", "plain.csv"]) == 0
    flipped, plain = pd.read_csv("one.csv"), pd.read_csv("plain.csv")
    np.testing.assert_allclose(plain[PREDICTED], test[PREDICTED][:1], rtol=1e-5)
    assert plain["image_id"].tolist() == [str(photo)] and not np.allclose(
        flipped[PREDICTED], plain[PREDICTED], rtol=1e-7
    )
    assert main(["predict", "--images", str(photo), "--data.targets", "[green, dead]"]) == 2


def test_a_broken_training_with_workers_resumes_to_the_bytes_of_one_without(run, recipe):
    Path("stumble").touch()
    broken = ["fit", "--config", str(recipe), "--name", "broken", "--data.num_workers", "2"]
    with pytest.raises(RuntimeError, match="stumbled"):
        main([*broken, "--trainer.callbacks", f"[{{class_path: {STUMBLE}}}]"])
    unfinished = find_run(Path("lightning_logs"))
    assert unfinished.path.parent.name == "broken" and not unfinished.is_finished(0)
    assert main(["fit", "--resume", "--trust", STUMBLE]) == 0
    for name in ("oof_predictions.csv", "oof_metrics.json", "fold_0/oof_last.csv"):
        assert (unfinished.path / name).read_bytes() == (run.path / name).read_bytes(), name


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_frozen_backbone_reads_the_bank_and_predicts_as_without_it(workers, recipe, workdir):
    frozen = [
        "--trainer.callbacks",
        "[{class_path: BackboneFreeze, init_args: {epochs: all}}]",
        "--data.num_workers",
        workers,
    ]
    quick = [
        "fit",
        "--config",
        str(recipe),
        "--folds",
        "0",
        "--trainer.max_epochs",
        "1",
        "--data.aug_prob",
        "0",
        *frozen,
    ]
    tables = []
    for name, views in (("pixels", "0"), ("bank", "1")):
        assert main([*quick, "--name", name, "--data.bank_views", views]) == 0
        tables.append(pd.read_csv(find_run(Path("lightning_logs")).oof_csv(0)))
    assert list(Path("lightning_logs/feature_bank").glob("*/*.features"))
    np.testing.assert_allclose(tables[1][PREDICTED], tables[0][PREDICTED], rtol=1e-4)


@pytest.fixture
def complete(tmp_path) -> Path:
    """Data in which everything was measured."""
    return write_photos(
        tmp_path / "complete", TABLE.assign(green=TABLE["green"].fillna(3.0), total=TABLE["total"].fillna(50.0))
    )


def test_pre_training_without_labels_hands_its_backbone_over(recipe, complete, workdir):
    common = ["--data.root", str(complete), "--data.tile_size", "32", "--folds", "0", "--trainer.max_epochs", "1"]
    simclr = Path("simclr.yaml")
    settings = {"class_path": "SimCLR", "init_args": {"backbone": "test_vit.r160_in1k", "pretrained": False}}
    lines = recipe.read_text().split("model:")[0], recipe.read_text().partition("\ndata:")[2]
    simclr.write_text(f"{lines[0]}model: {json.dumps(settings)}\ndata:{lines[1]}")
    assert main(["fit", "--config", str(simclr), *common]) == 0
    first = find_run(Path("lightning_logs")).path
    assert main(["fit", "--config", str(recipe), *common, "--model.init_from", str(first)]) == 0
    assert find_run(Path("lightning_logs")).oof_csv(0).is_file()


def test_boosters_learn_from_the_embeddings_and_bench_times_the_recipe(recipe, complete, workdir):
    assert main(["fit", "--config", str(recipe), "--data.root", str(complete), "--trainer.max_epochs", "1"]) == 0
    assert main(["predict"]) == 0
    run = find_run(Path("lightning_logs"))
    assert len(Embeddings.read(run.path / "oof_embeddings.npz").ids) == len(TABLE)
    assert main(["stack", "--features", "predictions", "embeddings", "--pca", "3", "--seeds", "1"]) == 0
    table = pd.read_csv(run.path / "stack_predictions_embeddings" / "oof_predictions.csv")
    assert list(table) == ["image_id", "fold", "group", *TARGETS, *PREDICTED]
    assert main(["bench", "--config", str(recipe), "--steps", "1", "--out", "bench.json"]) == 0
    assert json.loads(Path("bench.json").read_text())["estimated_seconds"] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--data.targets", "[green, dead, grey]", "--model.sums", "null"], "has no column grey"),
        (["--data.targets", "[green, dead, fold]"], "names 'fold'"),
        (["--model.sums", "{total: [green]}"], "fewer than two parts"),
        (["--data.group_column", "field"], "has no column field"),
        (["--data.table", "other.csv"], "other.csv does not exist"),
        (["--data.views", "both"], "views"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_message_before_a_run_is_made(
    settings, message, recipe, workdir, capsys
):
    assert main(["fit", "--config", str(recipe), *settings]) == 2
    assert message in capsys.readouterr().err
    assert not list(workdir.iterdir())


def test_one_column_without_groups_needs_little(measured, workdir):
    root = Path(shutil.copytree(measured, workdir / "data"))
    Path("one.yaml").write_text(
        RECIPE.partition("    sums:")[0] + "data: {class_path: RegressionDataModule, init_args: {}}\n"
    )
    plain = [
        "--data.targets",
        "[dead]",
        "--data.image_column",
        "file",
        "--data.num_folds",
        "2",
        "--data.tile_size",
        "16",
    ]
    quick = ["--trainer.max_epochs", "1", "--data.num_workers", "0", "--folds", "1"]
    assert main(["fit", "--config", "one.yaml", *plain, *quick]) == 0
    table = pd.read_csv(find_run(Path("lightning_logs")).oof_predictions)
    assert list(table) == ["image_id", "fold", "dead", "dead_pred"] and root.is_dir()
