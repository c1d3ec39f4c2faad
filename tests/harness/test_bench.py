"""`biomass bench`: figures that fit together."""

import json
from pathlib import Path

import pytest

from biomass_pl.cli import main
from biomass_pl.data.splits import Split
from biomass_pl.harness.bench import StageReport, estimated_seconds, speeds
from biomass_pl.harness.parser import RunCLI
from biomass_pl.training.callbacks.timer import StepTimes


def test_a_short_two_stage_recipe_with_a_bank_is_timed_and_nothing_but_the_report_is_written(recipe, workdir, capsys):
    """Epochs of two batches, shorter than the warm-up, are repeated."""
    settings = ["--steps", "2", "--data.batch_size", "8", "--data.bank_views", "3"]
    assert main(["bench", "--config", str(recipe), *settings]) == 0
    path = Path("lightning_logs") / recipe.stem / "bench.json"
    assert [file.relative_to(workdir) for file in workdir.rglob("*") if file.is_file()] == [path]
    report = json.loads(path.read_text())
    assert (report["photos"], report["folds"]) == (24, 3)
    frozen, full = report["stages"]
    assert (frozen["name"], frozen["epochs"], full["name"], full["epochs"]) == ("frozen", 2, "full", 2)
    for stage in (frozen, full):
        assert min(stage["step"].values()) >= 0 and stage["step_ms"] == pytest.approx(sum(stage["step"].values()))
        assert 0 < stage["utilisation"] < 1.5
        assert stage["train_photos_per_s"] > 0 and stage["forward_photos_per_s"] > 0 and stage["peak_memory_gb"] > 0
    # A backward pass costs twice a forward pass, and a frozen backbone has none.
    assert full["gflops_per_photo"] == pytest.approx(3 * frozen["gflops_per_photo"], rel=0.1)
    printed = capsys.readouterr().out
    assert "training photos/s" in printed and "bench.json" in printed


def test_a_recipe_of_one_stage_is_timed(lesion_recipe, workdir):
    assert main(["bench", "--config", str(lesion_recipe), "--steps", "1", "--out", "there/bench.json"]) == 0
    (stage,) = json.loads(Path("there/bench.json").read_text())["stages"]
    assert (stage["name"], stage["epochs"]) == ("full", 2)
    assert not Path("lightning_logs").exists()


def test_speeds_are_those_of_a_step_and_waiting_is_no_computing():
    step = StepTimes(load=100, forward=150, backward=200, update=50)  # 0.5 s, of which 0.4 s computing
    found = speeds(step, flops=2e9, batch_size=4, rate=1e11)
    assert found == {"train_photos_per_s": pytest.approx(8), "utilisation": pytest.approx(8e9 / 0.4 / 1e11)}


def stage(name: str, epochs: int, train: float, forward: float) -> StageReport:
    return StageReport(
        name=name,
        epochs=epochs,
        step=StepTimes(load=1, forward=1, backward=1, update=1),
        train_photos_per_s=train,
        forward_photos_per_s=forward,
        gflops_per_photo=1,
        utilisation=1,
        peak_memory_gb=1,
    )


def estimate(recipe: Path, stages: list[StageReport], *settings: str) -> float:
    cli = RunCLI(["--config", str(recipe), *settings])
    folds = cli.datamodule.make_folds()
    cli.datamodule.use(Split(fold=0, folds=folds))
    return estimated_seconds(stages, folds, cli)


def test_the_estimate_is_that_of_all_folds_and_epochs(recipe):
    """Of 24 photos, 16 are trained on and 8 held out in each of 3 folds."""
    stages = [stage("frozen", 2, train=16, forward=8), stage("full", 3, train=4, forward=8)]
    # An epoch of stage 1 takes 16/16 + 8/8 s, one of stage 2 takes 16/4 + 8/8 s.
    assert estimate(recipe, stages) == pytest.approx(3 * (2 * 2 + 3 * 5))


def test_frozen_epochs_cost_one_filling_where_there_is_a_bank(recipe):
    stages = [stage("frozen", 2, train=16, forward=8), stage("full", 3, train=4, forward=8)]
    # The plain view and 3 changed ones of each photo, 8 a second; stage 2 as before.
    assert estimate(recipe, stages, "--data.bank_views", "3") == pytest.approx(24 * 4 / 8 + 3 * 3 * 5)


def test_epochs_that_draw_a_part_of_the_photos_cost_that_part(lesion_recipe):
    """Half of a batch of 8 is malignant: as many batches as there are four malignant lesions to train on."""
    data = RunCLI(["--config", str(lesion_recipe)]).datamodule
    folds = data.make_folds()
    training = data.items().set_index("isic_id")["target"][folds != 0]
    drawn = training.sum() // 4 * 8
    assert 0 < drawn < len(training) / 2
    # 80 of 120 lesions would be trained on in 80 s, 40 held out are predicted in 1 s.
    found = estimate(lesion_recipe, [stage("full", 1, train=1, forward=40)])
    assert found == pytest.approx(3 * (80 * drawn / len(training) + 1))


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
