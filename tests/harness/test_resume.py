"""Trainings that were broken off go on to the undisturbed table; what a resumed run takes, refuses and tells."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from biomass_pl.cli import main
from biomass_pl.pasture.tables import read_labels
from biomass_pl.runs import Run, find_run
from tests.conftest import done_in, made_once

LOGS = Path("lightning_logs")
TRUST = [
    "--trust",
    *(f"tests.harness.interruptions.{name}" for name in ("FailOnce", "TerminateOnce", "InterruptOnce")),
]

pytestmark = pytest.mark.usefixtures("quick_pictures")


def with_callback(recipe: Path, name: str, epochs: list[int]) -> str:
    """A copy of a recipe, in the working folder, whose training is broken off in these epochs."""
    content = yaml.safe_load(recipe.read_text())
    callback = {"class_path": f"tests.harness.interruptions.{name}", "init_args": {"epochs": epochs}}
    content["trainer"]["callbacks"].append(callback)
    Path("broken.yaml").write_text(yaml.safe_dump(content))
    return "broken.yaml"


def assert_same_fold(run: Run, other: Run, fold: int = 0) -> None:
    """Predictions to the last byte; what was logged to the last digits of float32."""
    assert run.oof_csv(fold).read_bytes() == other.oof_csv(fold).read_bytes()
    assert run.oof_last_csv(fold).read_bytes() == other.oof_last_csv(fold).read_bytes()
    logged, expected = (pd.read_csv(one.metrics_csv(fold)).drop(columns="seconds") for one in (run, other))
    assert list(logged) == list(expected) and np.allclose(logged, expected, rtol=1e-6)


@pytest.fixture(scope="module")
def banked(recipe, tmp_path_factory) -> Run:
    """Fold 0 of the recipe with features kept of two views, without workers. Not to be changed."""
    command = ["fit", "--config", str(recipe), "--folds", "0", "--data.bank_views", "2"]
    return find_run(made_once(tmp_path_factory, "banked", lambda folder: done_in(folder, command)) / LOGS)


@pytest.mark.parametrize(
    ("views", "epochs", "workers"),
    [(0, [1], 2), (0, [2, 3], 0), (2, [1], 0), (2, [2, 3], 2)],  # any two of the settings meet
    ids=[
        "pixels, in stage 1, 2 workers",
        "pixels, at the switch and in stage 2, no workers",
        "bank, in stage 1, no workers",
        "bank, at the switch and in stage 2, 2 workers",
    ],
)
def test_a_broken_fold_resumes_to_the_undisturbed_table(
    views, epochs, workers, run, banked, recipe, workdir, interruptions, every_epoch_saved, capsys
):
    settings = ["--data.num_workers", str(workers), "--data.bank_views", str(views), "--folds", "0"]
    assert main(["fit", "--config", with_callback(recipe, "FailOnce", epochs), *settings]) == 2
    for epoch in epochs:
        assert "biomass: error: the power failed" in capsys.readouterr().err
        assert main(["fit", "--resume", *TRUST]) == (0 if epoch == epochs[-1] else 2)
        assert f"Fold 0 goes on with epoch {epoch + 1} of 4\n" in (LOGS / "broken/version_0/log.txt").read_text()
    assert_same_fold(find_run(LOGS), banked if views else run)


def test_a_bank_of_two_views_is_another_training(run, banked):
    assert run.oof_csv(0).read_bytes() != banked.oof_csv(0).read_bytes()


@pytest.mark.parametrize(("name", "code"), [("TerminateOnce", 143), ("InterruptOnce", 130)])
def test_a_stopped_training_says_how_to_go_on_and_goes_on(name, code, run, recipe, workdir, interruptions, capsys):
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    settings = ["--data.num_workers", "2", "--folds", "0"]
    assert main(["fit", "--config", with_callback(recipe, name, [2]), *settings]) == code
    assert capsys.readouterr().err.endswith("biomass: stopped. A training goes on with: biomass fit --resume\n")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert main(["fit", "--resume", *TRUST]) == 0
    assert_same_fold(find_run(LOGS), run)


def test_a_killed_process_with_workers_resumes_elsewhere_to_the_undisturbed_table(run, recipe, workdir):
    command = [sys.executable, "-m", "biomass_pl", "fit", "--config", str(recipe), "--folds", "0"]
    with subprocess.Popen([*command, "--data.num_workers", "2"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "epoch 2/" in line:  # the last one of stage 1
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    moved = LOGS / "small" / "version_7"
    find_run(LOGS).path.rename(moved)
    assert not find_run(LOGS).is_complete()
    assert main(["fit", "--resume", str(moved)]) == 0
    assert_same_fold(Run(moved), run)
    assert Run(moved).is_complete()


def stop_early(epochs: int, frozen: int) -> list[str]:
    """Patience of one epoch, and no epoch is good enough to renew it."""
    callbacks = (
        f"[{{class_path: BackboneFreeze, init_args: {{epochs: {frozen}}}}}, "
        "{class_path: EarlyStopping, init_args: {monitor: val/weighted_r2, mode: max, patience: 1, min_delta: 10}}]"
    )
    return ["--trainer.callbacks", callbacks, "--trainer.max_epochs", str(epochs)]


def test_early_stopping_counts_from_stage_2_and_stays_when_the_run_is_resumed(recipe, workdir):
    """A patience of one would end every run in stage 1 if a head that got no better there counted."""
    assert main(["fit", "--config", str(recipe), *stop_early(9, 4), "--folds", "0"]) == 0
    run = find_run(LOGS)
    # Stage 1 is epochs 0 to 3; epoch 4 sets the best of stage 2, epoch 5 is no better by 10.
    assert pd.read_csv(run.metrics_csv(0))["epoch"].max() == 5
    written = [run.metrics_csv(0), run.oof_csv(0), run.oof_last_csv(0)]
    before = [path.read_bytes() for path in written]
    # As if killed right after the last epoch.
    for path in (*written[1:], run.fold_dir(0) / "fold.json"):
        path.unlink()
    run.update_record(status="running")
    assert main(["fit", "--resume"]) == 0
    assert [path.read_bytes() for path in written] == before


# What a resumed run works with


@pytest.fixture
def unfinished(trained, workdir) -> Run:
    """The complete run, in the test's own working folder, as if fold 1 had not been trained."""
    shutil.copytree(trained / LOGS, LOGS)
    run = find_run(LOGS)
    for path in run.fold_dir(1).iterdir():
        if path != run.config(1):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    run.oof_predictions.unlink()
    run.update_record(status="running")
    return run


def move_data(run: Run, rendered: Path, to: str) -> None:
    for fold in run.asked_folds():
        run.config(fold).write_text(run.config(fold).read_text().replace(str(rendered), to))


@pytest.mark.parametrize("command", [["fit", "--resume"], ["predict"], ["predict", "--split", "test"], ["stack"]])
def test_data_that_are_not_there_any_more_are_asked_for(command, unfinished, rendered, workdir, capsys):
    move_data(unfinished, rendered, "gone")
    assert main(command) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    place = f"{unfinished.path} are not in 'gone' as seen from {workdir}"
    assert error == f"biomass: error: The data of {place}. Say where they are now: --data.root DIR"
    assert not unfinished.is_complete()


def test_a_run_whose_data_moved_trains_on_with_them_and_keeps_finished_folds(
    unfinished, run, rendered, data, workdir, capsys
):
    move_data(unfinished, rendered, "gone")
    finished = unfinished.best_checkpoint(0).stat().st_mtime_ns
    photo = data / read_labels(data)["image_path"].iloc[0]
    good = photo.read_bytes()
    photo.write_bytes(good[:100])
    assert main(["fit", "--resume", "--data.root", str(data)]) == 2
    assert photo.name in capsys.readouterr().err
    photo.write_bytes(good)
    assert main(["fit", "--resume", f"--data.root={data}"]) == 0
    assert unfinished.is_complete() and unfinished.finished_folds() == [0, 1, 2]
    assert unfinished.best_checkpoint(0).stat().st_mtime_ns == finished
    assert unfinished.oof_predictions.read_bytes() == run.oof_predictions.read_bytes()


def test_other_photos_under_the_same_labels_are_refused(unfinished, data, workdir, capsys):
    first, second, *_ = sorted((data / "train").iterdir())
    first.write_bytes(second.read_bytes())
    assert main(["fit", "--resume", "--data.root", str(data)]) == 2
    assert "the photos changed since" in capsys.readouterr().err


def test_changed_labels_are_refused(unfinished, data, workdir, capsys):
    table = pd.read_csv(data / "train.csv", dtype=str)
    table.loc[0, "target"] = "999.0"
    table.to_csv(data / "train.csv", index=False)
    assert main(["fit", "--resume", "--data.root", str(data)]) == 2
    assert "changed since" in capsys.readouterr().err


@pytest.mark.parametrize("fold", [0, 2])
def test_a_stored_configuration_of_any_fold_keeps_features_among_the_logs_or_asks(fold, unfinished, tmp_path, capsys):
    """Wherever it says: it may come from somebody else."""
    content = yaml.safe_load(unfinished.config(fold).read_text())
    elsewhere = tmp_path / "elsewhere"
    content["data"]["init_args"] |= {"bank_views": 2, "bank_dir": str(elsewhere)}
    unfinished.config(fold).write_text(yaml.safe_dump(content))
    assert main(["fit", "--resume"]) == 2
    assert (
        f"keeps features in {elsewhere}, outside the logs. If the run is your own: --trust" in capsys.readouterr().err
    )
    assert not elsewhere.exists() and not unfinished.is_complete()


@pytest.mark.parametrize(
    "setting",
    [
        ["--folds", "1"],
        ["--oof", "false"],
        ["--name", "x"],
        ["--model.dropout", "0.1"],
        ["--trainer.max_epochs=9"],
        ["--data.num_workers", "0"],
        ["--data.roo", "data"],
        ["--config", "small.yaml"],
    ],
    ids=" ".join,
)
def test_other_settings_are_refused_by_name(setting, unfinished, capsys):
    assert main(["fit", "--resume", *setting]) == 2
    error = capsys.readouterr().err
    assert f"takes no others ({setting[0]}). Leave them out, or start a new run." in error
    assert not unfinished.is_complete() and not unfinished.is_finished(1)


def test_all_settings_that_are_refused_are_named_at_once(workdir, capsys):
    assert main(["fit", "--resume", "--folds", "2", "--oof", "false", "--name", "x", "--data.grid", "[1, 1]"]) == 2
    assert "(--folds --name --oof --data.grid)" in capsys.readouterr().err


def test_a_run_that_another_process_trains_is_left_to_it(unfinished, capsys):
    older = Run(unfinished.path.with_name("version_9"))
    shutil.copytree(unfinished.path, older.path)
    shutil.copytree(older.fold_dir(0), older.fold_dir(1), dirs_exist_ok=True)  # nothing is left to train
    older.update_record(folds=[0, 2], created="2026-01-01T00:00:00+00:00")
    with unfinished.training(1):
        assert main(["fit", "--resume", str(unfinished.path)]) == 2
        told = f"Fold 1 of {unfinished.path} is being trained by another process. Wait for it to end, or stop it."
        assert capsys.readouterr().err.splitlines()[-1] == f"biomass: error: {told}"
        assert main(["fit", "--resume"]) == 0
        assert older.is_complete() and not unfinished.is_complete()
        capsys.readouterr()
        assert main(["fit", "--resume"]) == 2
        assert f"The unfinished run {unfinished.path} is being trained right now" in capsys.readouterr().err


def test_without_an_unfinished_run_there_is_nothing_to_resume(trained, workdir, capsys):
    assert main(["fit", "--resume"]) == 2
    assert "no unfinished run" in capsys.readouterr().err
    complete = find_run(trained / LOGS).path
    assert main(["fit", "--resume", str(complete)]) == 2
    assert "is complete" in capsys.readouterr().err


def test_resume_and_run_do_not_go_together(workdir, capsys):
    assert main(["fit", "--resume", "--run", "x"]) == 2
    assert "Leave --run out" in capsys.readouterr().err


def test_runs_are_looked_for_where_the_trainer_puts_them(unfinished, workdir, capsys):
    (workdir / "elsewhere").mkdir()
    LOGS.rename(workdir / "elsewhere" / LOGS)
    for arguments in (["--trainer.default_root_dir", "elsewhere"], ["--trainer.default_root_dir=elsewhere"]):
        assert main(["predict", "--folds", "2", *arguments]) == 0
    assert (workdir / "elsewhere" / unfinished.path / "oof_predictions_folds_2.csv").is_file()
    assert main(["fit", "--resume", "--trainer.default_root_dir"]) == 2
    assert "There is no unfinished run in lightning_logs" in capsys.readouterr().err
