"""Nothing of a run is lost on its way to another place, however the training ends."""

import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger

from biomass_pl.errors import ConfigError, RunError
from biomass_pl.runs import RECORD
from biomass_pl.training.callbacks import remote_sync
from biomass_pl.training.callbacks.remote_sync import RemoteSync
from tests.training.file_systems import FlakyFileSystem

NEVER = 1e6
"""A frequency with which nothing but the first copy is made in the background."""


@pytest.fixture(autouse=True)
def _anew(monkeypatch):
    FlakyFileSystem.start_anew()
    MemoryFileSystem.store.clear()
    monkeypatch.setattr(remote_sync, "_FIRST_WAIT", 0.001)


class Works(Callback):
    """Does something at the end of an epoch, counted from 0."""

    def __init__(self, **actions) -> None:
        self.actions = actions

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        action = self.actions.get(f"epoch_{trainer.current_epoch}")
        if action is not None:
            action()


def run_in(folder: Path) -> Path:
    run = folder / "lightning_logs" / "small" / "version_3"
    run.mkdir(parents=True)
    (run / RECORD).write_text("{}")
    (run / "fold_0").mkdir()
    return run


def fit(folder: Path, *callbacks: Callback, epochs: int = 3, **settings) -> None:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        limit_train_batches=1,
        limit_val_batches=0,
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **{"logger": False, **settings},
    )
    trainer.fit(BoringModel())


def flaky(frequency: float = NEVER) -> RemoteSync:
    return RemoteSync(remote="flaky://backup", frequency=frequency, protocol="fsspec")


def writer(path: Path, text: str = "text"):
    return lambda: path.write_text(text)


def after_first_copy(folder: Path, action, epoch: int = 2) -> Works:
    """Does something once the copy in the background is made, so that only the one at the end follows."""
    (folder / "first.txt").touch()
    actions = {
        "epoch_0": lambda: FlakyFileSystem.wait_for(f"/backup/{folder.name}/first.txt"),
        f"epoch_{epoch}": action,
    }
    return Works(**actions)


def copied(folder: Path) -> set[str]:
    """What was copied of a folder."""
    return {name.removeprefix(f"/backup/{folder.name}/") for name in FlakyFileSystem.names()}


# Where files go


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_whole_run_is_copied_to_its_place_among_others(tmp_path, slash):
    run, target = run_in(tmp_path), tmp_path / "backup"
    sync = RemoteSync(remote=f"{target}{slash}", frequency=NEVER, protocol="fsspec")
    fit(run / "fold_0", Works(epoch_2=writer(run / "fold_0" / "late.txt")), sync)
    assert sorted(path.name for path in (target / "small" / "version_3").rglob("*")) == ["fold_0", "late.txt", RECORD]


def test_without_a_run_the_folder_of_the_trainer_is_copied(tmp_path):
    (tmp_path / "alone").mkdir()
    sync = RemoteSync(remote="memory://", frequency=NEVER, protocol="fsspec")
    fit(tmp_path / "alone", Works(epoch_0=writer(tmp_path / "alone" / "a.txt")), sync)
    assert list(MemoryFileSystem.store) == ["/alone/a.txt"]


def test_what_a_logger_still_holds_is_copied(tmp_path):
    class LogsLate(Callback):
        def on_train_end(self, trainer, pl_module) -> None:
            trainer.logger.experiment.log_metrics({"late": 1.0})

    fit(tmp_path / "run", LogsLate(), flaky(), logger=CSVLogger(tmp_path, name="", version="run"))
    copy = bytes(FlakyFileSystem.store["/backup/run/metrics.csv"].getvalue())
    assert b"late" in copy and copy == (tmp_path / "run" / "metrics.csv").read_bytes()


# In the background


def test_files_are_copied_while_the_training_goes_on(tmp_path):
    arrived = []
    actions = {
        "epoch_0": writer(tmp_path / "a.txt"),
        "epoch_1": lambda: arrived.append(FlakyFileSystem.wait_for(f"/backup/{tmp_path.name}/a.txt")),
    }
    fit(tmp_path, Works(**actions), flaky(frequency=0.01))
    assert arrived == [True]


def test_what_fails_in_the_background_is_told_and_tried_again(tmp_path, caplog):
    (tmp_path / "a.txt").touch()
    FlakyFileSystem.failing["a.txt"] = 3
    name, arrived = f"/backup/{tmp_path.name}/a.txt", []
    fit(tmp_path, Works(epoch_0=lambda: arrived.append(FlakyFileSystem.wait_for(name))), flaky())
    assert arrived == [True]
    waits = [message.rpartition("next try in ")[2] for message in caplog.messages if "could not be copied" in message]
    assert waits == ["0.001 s", "0.002 s", "0.004 s"]
    assert (
        f"1 files could not be copied to flaky://backup/{tmp_path.name}, such as a.txt (ConnectionError" in caplog.text
    )


def test_waits_do_not_grow_beyond_the_frequency(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(remote_sync, "_FIRST_WAIT", 0.002)
    (tmp_path / "a.txt").touch()
    FlakyFileSystem.failing["a.txt"] = 4
    name = f"/backup/{tmp_path.name}/a.txt"
    fit(tmp_path, Works(epoch_0=lambda: FlakyFileSystem.wait_for(name)), flaky(frequency=0.004))
    waits = [message.rpartition("next try in ")[2] for message in caplog.messages if "could not be copied" in message]
    assert waits == ["0.002 s", "0.004 s", "0.004 s", "0.004 s"]


# At the end


def test_what_is_left_at_the_end_is_tried_again_and_again(tmp_path, caplog):
    FlakyFileSystem.failing["a.txt"] = 4
    fit(tmp_path, after_first_copy(tmp_path, (tmp_path / "a.txt").touch), flaky())
    assert copied(tmp_path) == {"a.txt", "first.txt"}
    assert len([message for message in caplog.messages if "next try in" in message]) == 4


def test_an_error_that_remains_names_the_files(tmp_path):
    def write() -> None:
        for name in ("a.txt", "b.txt", "c.txt"):
            (tmp_path / name).touch()

    FlakyFileSystem.failing.update({"a.txt": 99, "c.txt": 99})
    message = (
        rf"2 files of {tmp_path} could not be copied to flaky://backup/{tmp_path.name}:\n  a\.txt \(Conn.*\n  c\.txt"
    )
    with pytest.raises(RunError, match=message):
        fit(tmp_path, after_first_copy(tmp_path, write), flaky())
    assert copied(tmp_path) == {"b.txt", "first.txt"}
    assert FlakyFileSystem.failing == {"a.txt": 94, "c.txt": 94}  # five tries, not again for the error that they raised
    FlakyFileSystem.failing.clear()
    fit(tmp_path, flaky())
    assert copied(tmp_path) == {"a.txt", "b.txt", "c.txt", "first.txt"}


class BrokenError(Exception):
    """What ends a training."""


@pytest.mark.parametrize("ending", [BrokenError, KeyboardInterrupt, SystemExit])
def test_an_exception_comes_after_the_copy_and_stays_what_it_is(tmp_path, ending, caplog):
    def fail() -> None:
        (tmp_path / "a.txt").touch()
        raise ending

    with pytest.raises(SystemExit if ending is KeyboardInterrupt else ending):
        fit(tmp_path, after_first_copy(tmp_path, fail, epoch=1), flaky())
    assert copied(tmp_path) == {"a.txt", "first.txt"}


def test_files_that_cannot_be_copied_do_not_hide_the_exception(tmp_path, caplog):
    def fail() -> None:
        (tmp_path / "a.txt").touch()
        raise BrokenError

    FlakyFileSystem.failing["a.txt"] = 99
    with pytest.raises(BrokenError):
        fit(tmp_path, after_first_copy(tmp_path, fail, epoch=1), flaky())
    (error,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "1 files of" in error.message and "a.txt (ConnectionError" in error.message


class Terminated(BaseException):
    """What the command line makes of SIGTERM."""


def test_sigterm_in_the_middle_of_the_last_copy_loses_nothing(tmp_path, monkeypatch):
    real, stopped = FlakyFileSystem.put_file, []

    def stop_once(self, lpath, rpath) -> None:
        real(self, lpath, rpath)
        if "b.txt" in rpath and not stopped:
            stopped.append(True)
            signal.raise_signal(signal.SIGTERM)

    def stop(number, frame) -> None:
        raise Terminated

    monkeypatch.setattr(FlakyFileSystem, "put_file", stop_once)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        names = ("a.txt", "b.txt", "c.txt")
        with pytest.raises(Terminated):
            fit(tmp_path, after_first_copy(tmp_path, lambda: [(tmp_path / name).touch() for name in names]), flaky())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert copied(tmp_path) == {"first.txt", *names}


TRAINING = """
import sys
from pathlib import Path
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from biomass_pl.training.callbacks.remote_sync import RemoteSync

folder, target = map(Path, sys.argv[1:])

class Writes(Callback):
    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 3:
            (folder / "late.txt").write_text("whole")
            print("written", flush=True)

Trainer(
    accelerator="cpu", max_steps=10**9, limit_val_batches=0, default_root_dir=folder, logger=False,
    enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    callbacks=[Writes(), RemoteSync(remote=str(target), frequency=1e6, protocol="fsspec")],
).fit(BoringModel())
"""


def test_a_process_that_gets_sigterm_copies_what_is_left(tmp_path):
    folder, target = tmp_path / "run", tmp_path / "backup"
    folder.mkdir()
    command = [sys.executable, "-c", TRAINING, str(folder), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    assert "Received SIGTERM" in error
    assert (target / "run" / "late.txt").read_text() == "whole"


def test_what_is_written_after_the_training_is_copied_to_the_same_place(tmp_path):
    run, sync = run_in(tmp_path), flaky()
    fit(run / "fold_0", sync)
    FlakyFileSystem.uploads.clear()
    (run / "oof_predictions.csv").touch()
    FlakyFileSystem.failing["oof"] = 4
    sync.copy_run(run)
    assert FlakyFileSystem.names() == {f"/backup/small/version_3/{name}" for name in (RECORD, "oof_predictions.csv")}
    assert len(FlakyFileSystem.uploads) == 5
    (run / "report.html").touch()
    FlakyFileSystem.failing["report"] = 5
    with pytest.raises(RunError, match=r"report\.html \(ConnectionError"):
        sync.copy_run(run)


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"remote": "s3://bucket", "frequency": 0}, r"RemoteSync\.frequency is 0; give more than 0 seconds"),
        ({"remote": "s3://bucket", "frequency": float("nan")}, r"RemoteSync\.frequency is nan"),
        ({"remote": "gs://bucket"}, r"remote gs://bucket is no s3:// URL\. .* RemoteSync\.protocol: fsspec"),
        ({"remote": "s3://bucket", "protocol": "ftp"}, r"RemoteSync\.protocol is 'ftp'; give s3 or fsspec"),
    ],
)
def test_a_setting_that_cannot_work_is_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        RemoteSync(**settings)


def test_a_place_that_cannot_be_reached_ends_the_training_before_it_begins(tmp_path):
    begun = []
    sync = RemoteSync(remote="unreachable://backup", protocol="fsspec")
    with pytest.raises(ConfigError, match="cannot be reached"):
        fit(tmp_path, sync, Works(epoch_0=lambda: begun.append(True)))
    assert not begun
