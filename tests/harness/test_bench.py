"""`biomass bench`: figures that fit together."""

import json
from pathlib import Path

import pytest

from biomass_pl.cli import main
from biomass_pl.harness.parser import RunCLI

STEPS = ("--steps", "2", "--data.batch_size", "2")


def bench(recipe, *arguments):
    assert main(["bench", "--config", str(recipe), *STEPS, *arguments, "--out", "bench.json"]) == 0
    return json.loads(Path("bench.json").read_text())


def test_the_figures_of_a_two_stage_recipe_fit_together(recipe, workdir, capsys):
    report = bench(recipe)
    frozen, full = report["stages"]
    assert (frozen["name"], frozen["epochs"], full["name"], full["epochs"]) == ("frozen", 2, "full", 2)
    for stage in (frozen, full):
        assert stage["step_ms"] == pytest.approx(sum(stage["step"].values()))
        assert stage["train_photos_per_s"] == pytest.approx(2 * 1000 / stage["step_ms"])
        seconds = (stage["step_ms"] - stage["step"]["load"]) / 1000
        reached = 2 * stage["gflops_per_photo"] * 1e9 / seconds
        assert stage["utilisation"] == pytest.approx(reached / (report["matrix_tflops_per_s"] * 1e12))
        assert stage["forward_photos_per_s"] > 0 and stage["peak_memory_gb"] > 0
    # A backward pass costs twice a forward pass, and a frozen backbone has none.
    assert full["gflops_per_photo"] == pytest.approx(3 * frozen["gflops_per_photo"], rel=0.1)
    held_out = report["photos"] / report["folds"]
    expected = sum(
        report["folds"]
        * stage["epochs"]
        * ((report["photos"] - held_out) / stage["train_photos_per_s"] + held_out / stage["forward_photos_per_s"])
        for stage in (frozen, full)
    )
    assert report["estimated_seconds"] == pytest.approx(expected)
    printed = capsys.readouterr().out
    assert "training photos/s" in printed and "bench.json" in printed


def test_epochs_shorter_than_the_warm_up_are_repeated(recipe, workdir):
    report = bench(recipe, "--data.batch_size", "8")
    assert all(stage["step_ms"] > 0 for stage in report["stages"])


def test_nothing_but_the_report_is_written(recipe, workdir):
    assert main(["bench", "--config", str(recipe), *STEPS]) == 0
    assert [path for path in workdir.rglob("*") if path.is_file()] == [
        workdir / "lightning_logs" / recipe.stem / "bench.json"
    ]


def test_frozen_epochs_cost_one_filling_where_there_is_a_bank(recipe, workdir):
    report = bench(recipe, "--data.bank_views", "3")
    frozen, full = report["stages"]
    held_out = report["photos"] / report["folds"]
    stage_2 = (report["photos"] - held_out) / full["train_photos_per_s"] + held_out / full["forward_photos_per_s"]
    filling = 4 * report["photos"] / frozen["forward_photos_per_s"]
    assert report["estimated_seconds"] == pytest.approx(filling + report["folds"] * full["epochs"] * stage_2)
    assert not Path("lightning_logs/feature_bank").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--steps", "0"], "--steps"),
        (["--data.root", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_named(recipe, workdir, arguments, message, capsys):
    configuration = [] if "--config" in arguments else ["--config", str(recipe)]
    assert main(["bench", *configuration, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (workdir / "lightning_logs").exists()


def test_epochs_that_draw_a_part_of_the_photos_cost_that_part(lesion_recipe, workdir):
    assert main(["bench", "--config", str(lesion_recipe), "--steps", "1", "--out", "bench.json"]) == 0
    report = json.loads(Path("bench.json").read_text())
    (stage,) = report["stages"]
    data = RunCLI(["--config", str(lesion_recipe)]).datamodule
    labels = data.items().set_index("isic_id")["target"]
    training = labels[data.make_folds().loc[labels.index] != 0]
    drawn = training.sum() // 4 * 8  # half of a batch of 8 is malignant
    assert 0 < drawn < len(training)
    held_out = len(labels) / report["folds"]
    epoch = drawn / len(training) * (len(labels) - held_out) / stage["train_photos_per_s"]
    epoch += held_out / stage["forward_photos_per_s"]
    assert report["estimated_seconds"] == pytest.approx(report["folds"] * stage["epochs"] * epoch)
