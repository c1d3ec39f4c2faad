"""New run folders: their numbers and names, what they begin with, and which job may join one."""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from biomass_pl import __version__
from biomass_pl.errors import ConfigError, RunError
from biomass_pl.new_runs import check_run_name, join_run, settings_digest
from biomass_pl.runs import Run, find_run
from tests.conftest import make_run, make_start


def test_versions_of_a_name_count_up(tmp_path):
    paths = [make_run(tmp_path, name).path for name in ("a", "a", "b", "a")]
    assert paths == [
        tmp_path / "a/version_0",
        tmp_path / "a/version_1",
        tmp_path / "b/version_0",
        tmp_path / "a/version_2",
    ]


def test_a_version_is_never_given_twice_even_after_gaps(tmp_path):
    for folder in ("version_9", "version_10", "version_old", "notes"):
        (tmp_path / "a" / folder).mkdir(parents=True)
    assert make_run(tmp_path, "a").path == tmp_path / "a/version_11"


def test_runs_created_at_the_same_time_get_a_folder_each(tmp_path):
    together = Barrier(8)

    def create(_: int) -> Run:
        together.wait()
        return make_run(tmp_path, "a")

    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(create, range(8)))
    assert {run.path.name for run in runs} == {f"version_{number}" for number in range(8)}
    assert all(run.record()["status"] == "running" for run in runs)


def test_the_commit_of_the_working_folder_is_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert make_run(tmp_path).record()["git_commit"] is None
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["git", *author, "commit", "--quiet", "--allow-empty", "--message", "first"], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert len(head) == 40 and make_run(tmp_path).record()["git_commit"] == head
    monkeypatch.setenv("PATH", "")  # a machine without git
    assert make_run(tmp_path).record()["git_commit"] is None


def test_a_new_run_records_what_was_asked(tmp_path):
    run = make_run(tmp_path, folds=(2, 4))
    record = run.record()
    assert record["name"] == "two_stage" and record["command"] == ["biomass", "fit"] and record["oof"] is True
    assert record["data"] == {"table": "abc"} and record["settings"] == "0123" and record["status"] == "running"
    assert record["versions"]["biomass-pl"] == __version__
    assert set(record["versions"]) == {"biomass-pl", "torch", "lightning", "timm"}
    assert record["created"].endswith("+00:00")
    assert run.asked_folds() == [2, 4] and run.finished_folds() == [] and not run.is_complete()
    assert [path.name for path in run.path.iterdir()] == ["run.json"]


def test_jobs_that_join_one_run_share_its_record_and_add_their_files(tmp_path):
    path = tmp_path / "shared"
    starts = [make_start(files={"folds.csv": "same"}, configurations={fold: f"of {fold}"}) for fold in range(8)]
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda start: join_run(path, start), starts))
    assert len({run.record()["created"] for run in runs}) == 1
    assert (path / "folds.csv").read_text() == "same"
    assert all((path / f"fold_{fold}/config.yaml").read_text() == f"of {fold}" for fold in range(8))
    assert not list(path.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": {"folds.csv": "other"}}, "says something else"),
        ({"fingerprint": {"table": "changed"}}, "other labels or folds"),
        ({"settings": "4567"}, "with other settings. Name a new folder, or use the run's own"),
    ],
)
def test_another_run_cannot_be_joined(changes, message, tmp_path):
    start = make_start(files={"folds.csv": "same"})
    run = join_run(tmp_path / "shared", start)
    with pytest.raises(RunError, match=message) as caught:
        join_run(run.path, replace(start, **changes))
    assert str(run.path) in str(caught.value)
    assert run.folds_csv.read_text() == "same" and run.record()["settings"] == "0123"


def test_a_job_that_joins_again_brings_its_own_devices_to_a_fold_that_is_not_finished(tmp_path):
    path = tmp_path / "shared"
    join_run(path, make_start(configurations={0: "four devices", 1: "four devices"})).finish_fold(0, {})
    run = join_run(path, make_start(configurations={0: "one device", 1: "one device"}))
    assert [run.config(fold).read_text() for fold in (0, 1)] == ["four devices", "one device"]
    with run.training(1):
        join_run(path, make_start(configurations={1: "two devices"}))
    assert run.config(1).read_text() == "one device"


def test_a_run_that_recorded_no_settings_cannot_be_joined(tmp_path):
    run = join_run(tmp_path / "shared", make_start())
    record = run.record()
    del record["settings"]
    (run.path / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"older version, which recorded no settings\. Name a new folder"):
        join_run(run.path, make_start())


def test_a_folder_with_other_things_cannot_become_a_run(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="no run"):
        join_run(tmp_path, make_start())
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../a", "/a", "a\\b", "a\0b"])
def test_a_name_that_leaves_the_logs_or_hides_is_refused(tmp_path, name):
    logs = tmp_path / "logs"
    with pytest.raises(ConfigError, match="such as --name two_stage") as caught:
        make_run(logs, name)
    assert repr(name) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["two_stage", "a.b", "a..b", "tiles 3x3", "--", "été", "version_0"])
def test_other_names_are_free(tmp_path, name):
    check_run_name(name)
    assert find_run(make_run(tmp_path, name).path.parents[1]).path == tmp_path / name / "version_0"


CONFIGURATION = {
    "seed_everything": 7,
    "trainer": {"max_epochs": 3, "devices": 1, "callbacks": [{"class_path": "a"}, {"class_path": "b"}]},
    "model": {"class_path": "Task", "init_args": {"rate": 0.1, "weights": None}},
    "data": {"class_path": "Data", "init_args": {"root": "photos", "num_workers": 4}},
}


def changed(key: str, value) -> dict:
    """The configuration with one dotted key set."""
    configuration = json.loads(json.dumps(CONFIGURATION))
    *sections, name = key.split(".")
    section = configuration
    for part in sections:
        section = section.setdefault(part, {})
    section[name] = value
    return configuration


def test_the_digest_of_settings_is_that_of_their_sorted_json():
    known = hashlib.sha256(b'{"model": {"a": "x/y", "b": [1, null]}, "trainer": {}}').hexdigest()
    assert settings_digest({"trainer": {"devices": 8}, "model": {"b": [1, None], "a": Path("x/y")}}) == known


def test_the_order_of_settings_does_not_matter():
    reversed_order = {key: CONFIGURATION[key] for key in reversed(CONFIGURATION)}
    reversed_order["data"] = {"init_args": {"num_workers": 4, "root": Path("photos")}, "class_path": "Data"}
    assert settings_digest(reversed_order) == settings_digest(CONFIGURATION)
    callbacks = [{"class_path": "b"}, {"class_path": "a"}]
    assert settings_digest(changed("trainer.callbacks", callbacks)) != settings_digest(CONFIGURATION)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.accelerator", "gpu"),
        ("trainer.devices", 2),
        ("trainer.num_nodes", 2),
        ("trainer.strategy", {"class_path": "DDPStrategy"}),
        ("trainer.default_root_dir", Path("elsewhere")),
        ("trainer.enable_progress_bar", False),
        ("data.init_args.num_workers", 0),
        ("data.init_args.prefetch_factor", 8),
    ],
)
def test_jobs_of_one_run_may_use_machines_of_their_own(key, value):
    assert settings_digest(changed(key, value)) == settings_digest(CONFIGURATION)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed_everything", 8),
        ("trainer.max_epochs", 4),
        ("model.init_args.rate", 0.2),
        ("model.init_args.weights", "None"),
        ("model.init_args.num_workers", 4),
        ("data.init_args.root", Path("other")),
        ("data.init_args.bank_views", 2),
        ("devices", 1),
    ],
)
def test_other_settings_have_another_digest(key, value):
    assert settings_digest(changed(key, value)) != settings_digest(CONFIGURATION)


def test_the_digest_is_the_same_in_every_process():
    code = (
        "from biomass_pl.new_runs import settings_digest\n"
        "print(settings_digest({'model': {'classes': {'wheat', 'clover', 'rye'}, 'shape': (1, 2)}}))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in range(3)
    }
    assert len(digests) == 1
