"""Run folders: which one is found, what is complete in it, who trains it, and what is said when there is none."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from biomass_pl.errors import RunError
from biomass_pl.new_runs import create_run
from biomass_pl.runs import Run, find_run
from tests.conftest import make_run, make_start

TRAINING = """
import os, sys
from pathlib import Path
from biomass_pl.runs import Run

with Run(Path(sys.argv[1])).training(int(sys.argv[2])):
    is_loader = sys.argv[3] == "with a loader" and os.fork() == 0
    if is_loader or sys.argv[3] == "alone":
        print("began", flush=True)
    sys.stdin.read()
    if is_loader:
        os._exit(0)
"""
"""A process that trains a fold until it is killed or its input ends; its loader, forked from it, outlives a kill."""


@contextmanager
def another_process(run: Run, fold: int, loader: str = "alone") -> Iterator[subprocess.Popen[str]]:
    """Another process that trains a fold."""
    command = [sys.executable, "-c", TRAINING, str(run.path), str(fold), loader]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "began\n"
        yield process


def dated(hour: int) -> str:
    return f"2026-01-02T{hour:02d}:00:00+00:00"


def test_changing_the_record_keeps_the_rest(tmp_path):
    run = make_run(tmp_path)
    before = run.record()
    run.update_record(status="complete")
    assert run.is_complete()
    assert run.record() == before | {"status": "complete"}


def test_a_fold_is_finished_with_its_record_alone(tmp_path):
    run = make_run(tmp_path, folds=(0, 1, 2))
    run.checkpoints(0).mkdir(parents=True)
    run.last_checkpoint(0).touch()
    run.finish_fold(2, {"best_epoch": 3})
    assert not run.is_finished(0) and run.is_finished(2)
    assert run.finished_folds() == [2]
    assert json.loads((run.path / "fold_2/fold.json").read_text()) == {"best_epoch": 3}


def test_folds_finished_but_not_asked_for_do_not_count(tmp_path):
    run = make_run(tmp_path, folds=(1,))
    run.finish_fold(0, {})
    assert run.finished_folds() == []


def test_files_have_the_documented_places(tmp_path):
    run = Run(tmp_path)
    places = [
        (run.folds_csv, "folds.csv"),
        (run.oof_predictions, "oof_predictions.csv"),
        (run.config(3), "fold_3/config.yaml"),
        (run.best_checkpoint(3), "fold_3/checkpoints/best.ckpt"),
        (run.last_checkpoint(3), "fold_3/checkpoints/last.ckpt"),
        (run.oof_csv(3), "fold_3/oof.csv"),
        (run.oof_last_csv(3), "fold_3/oof_last.csv"),
        (run.log, "log.txt"),
    ]
    assert all(path == tmp_path / relative for path, relative in places)


def test_the_newest_run_is_found_by_time_whatever_its_name(tmp_path):
    make_run(tmp_path, "b", created=dated(1))
    newest = make_run(tmp_path, "a", created=dated(10))
    make_run(tmp_path, "c", created=dated(9))
    assert find_run(tmp_path) == newest


def test_version_10_is_newer_than_version_9(tmp_path):
    runs = [make_run(tmp_path) for _ in range(11)]
    assert find_run(tmp_path) == runs[10]


def test_a_named_run_is_taken_though_another_is_newer(tmp_path):
    old = make_run(tmp_path, created=dated(1))
    make_run(tmp_path, created=dated(2))
    assert find_run(tmp_path, old.path) == old


def test_the_newest_unfinished_run_is_found(tmp_path):
    make_run(tmp_path, created=dated(1))
    unfinished = make_run(tmp_path, created=dated(2))
    make_run(tmp_path, created=dated(3)).update_record(status="complete")
    assert find_run(tmp_path, unfinished=True) == unfinished
    assert find_run(tmp_path, unfinished.path, unfinished=True) == unfinished


def test_folders_of_other_tools_are_passed_over(tmp_path):
    run = make_run(tmp_path, created=dated(1))
    (tmp_path / "version_0").mkdir()  # Lightning's own place
    (tmp_path / "other/version_0").mkdir(parents=True)  # killed before its record was written
    assert find_run(tmp_path) == run


@pytest.mark.parametrize("logs", ["", "lightning_logs"])
@pytest.mark.parametrize(
    ("unfinished", "kind", "option"), [(False, "no run", "--run"), (True, "no unfinished run", "--resume")]
)
def test_no_run_at_all_says_how_to_train_or_name_one(tmp_path, logs, unfinished, kind, option):
    with pytest.raises(RunError, match=f"There is {kind} in .*biomass fit --config .* {option} DIR"):
        find_run(tmp_path / logs, unfinished=unfinished)


def test_only_finished_runs_leave_nothing_to_resume(tmp_path):
    run = make_run(tmp_path)
    run.update_record(status="complete")
    with pytest.raises(RunError, match="no unfinished run"):
        find_run(tmp_path, unfinished=True)
    with pytest.raises(RunError, match="complete; there is nothing to resume") as caught:
        find_run(tmp_path, run.path, unfinished=True)
    assert str(run.path) in str(caught.value)


@pytest.mark.parametrize("unfinished", [False, True])
def test_a_missing_run_folder_is_named(tmp_path, unfinished):
    path = tmp_path / "two_stage/version_7"
    with pytest.raises(RunError, match=r"does not exist\. Name one such as") as caught:
        find_run(tmp_path, path, unfinished=unfinished)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("unfinished", [False, True])
def test_a_folder_that_is_no_run_is_named(tmp_path, unfinished):
    with pytest.raises(RunError, match=r"is not a run folder: it has no readable run\.json. Name one") as caught:
        find_run(tmp_path, tmp_path, unfinished=unfinished)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"name": "a", "fol',
        b"[1, 2]",
        b"3",
        b"null",
        b"{}",
        b'{"folds": [0]}',
        b"\xff\xfe",
        b'{"created": "", "status": "running", "folds": 3}',
        b'{"created": "", "status": "running", "folds": ["../x"]}',
    ],
)
@pytest.mark.parametrize("unfinished", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_a_corrupt_record_is_named_with_advice(tmp_path, content, unfinished, named):
    run = make_run(tmp_path)
    (run.path / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=r"no readable run\.json. Name one") as caught:
        find_run(tmp_path, run.path if named else None, unfinished=unfinished)
    assert str(run.path) in str(caught.value)


def test_a_run_without_its_record_is_not_found_yet(tmp_path):
    """As one looks whose process was killed while it was made."""
    (tmp_path / "two_stage" / "version_0").mkdir(parents=True)
    (tmp_path / "two_stage" / "version_0" / "folds.csv").write_text("image_id,fold\n")
    with pytest.raises(RunError, match="no run"):
        find_run(tmp_path)


def test_a_fold_is_trained_by_one_process_at_a_time(tmp_path):
    run = make_run(tmp_path)
    with another_process(run, 0):
        with pytest.raises(RunError) as caught, run.training(0):
            raise AssertionError("two processes train one fold")
        with run.training(1):
            assert run.is_being_trained(1)
    message = f"Fold 0 of {run.path} is being trained by another process. Wait for it to end, or stop it."
    assert str(caught.value) == message
    with run.training(0):
        pass


@pytest.mark.parametrize("loader", ["alone", "with a loader"])
def test_a_killed_training_frees_its_fold(tmp_path, loader):
    run = make_run(tmp_path)
    with another_process(run, 0, loader) as process:
        assert run.is_being_trained(0)
        process.kill()
        process.wait()
        assert not run.is_in_use()
        with run.training(0):
            pass


def test_a_training_that_fails_frees_its_fold(tmp_path):
    run = make_run(tmp_path)
    with pytest.raises(KeyError), run.training(0):
        raise KeyError
    assert not run.is_being_trained(0)


def test_looking_whether_a_fold_is_trained_leaves_nothing_and_hinders_nobody(tmp_path):
    run = make_run(tmp_path)
    assert not run.is_being_trained(0) and not run.is_in_use()
    assert [path.name for path in run.path.rglob("*")] == ["run.json"]
    with another_process(run, 1):
        assert [run.is_being_trained(fold) for fold in (0, 1)] == [False, True]
        assert run.is_in_use()
    assert not run.is_being_trained(1) and not run.is_in_use()
    with run.training(1):
        pass


def test_a_run_that_is_being_trained_is_not_resumed(tmp_path):
    older, newer = (make_run(tmp_path, created=dated(hour)) for hour in (1, 2))
    with another_process(newer, 1):
        assert find_run(tmp_path, unfinished=True) == older
        assert find_run(tmp_path) == newer
        assert find_run(tmp_path, newer.path, unfinished=True) == newer
        older.update_record(status="complete")
        with pytest.raises(RunError, match="is being trained right now; wait for it or name another") as caught:
            find_run(tmp_path, unfinished=True)
        assert f"The unfinished run {newer.path} is" in str(caught.value)
    assert find_run(tmp_path, unfinished=True) == newer


def test_folds_of_a_shared_run_that_never_began_are_passed_over(tmp_path):
    run = make_run(tmp_path, folds=(0, 1, 2))
    run.fold_dir(0).mkdir()
    assert run.begun_folds() == []
    with pytest.raises(RunError, match=r"No fold of .* Begin one: biomass fit --config RECIPE --run") as caught:
        run.config_of_any_fold()
    assert str(run.path) in str(caught.value)
    for fold in (2, 1, 3):  # the third is none of the run's
        run.fold_dir(fold).mkdir()
        run.config(fold).touch()
    assert run.begun_folds() == [1, 2]
    assert run.config_of_any_fold() == run.path / "fold_1/config.yaml"


def test_a_run_of_a_learner_is_found_by_name_and_never_taken_for_one_of_networks(tmp_path):
    networks = make_run(tmp_path, created="2026-01-01")
    learner = create_run(tmp_path, replace(make_start("gp"), learner="gp"))
    learner.update_record(created="2026-02-02")
    assert (networks.learner, learner.learner) == (None, "gp")
    assert find_run(tmp_path).path == learner.path
    assert find_run(tmp_path, trained=True).path == networks.path == find_run(tmp_path, unfinished=True).path
    assert find_run(tmp_path, learner.path, trained=True).path == learner.path
