"""`biomass fit` with callbacks that copy and keep: nothing of a run stays behind, however the command ends."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from fsspec import register_implementation
from fsspec.implementations.local import LocalFileSystem

from biomass_pl.cli import main
from biomass_pl.runs import Run
from biomass_pl.training.callbacks import remote_sync
from tests.harness.another_system import WITH_TESTS, write_bags
from tests.training.file_systems import FlakyFileSystem

MODULE = "tests.harness.another_system"
INTERRUPTIONS = "tests.harness.interruptions"
RUN = Path("lightning_logs/bags/version_0")
TRUST = ["--trust", f"{MODULE}.Bags", f"{MODULE}.BagTask"]

pytestmark = pytest.mark.usefixtures("quick_pictures")


class StoppingFileSystem(LocalFileSystem):
    """Files of this machine. When a file is copied that says something, SIGTERM comes, once."""

    protocol = "stopping"
    awaited: ClassVar[bytes] = b""
    called_complete: ClassVar[bool] = False
    """What the run was called then."""

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("stopping://") if isinstance(path, str) else path)

    def put_file(self, lpath, rpath, *args, **kwargs):
        awaited = StoppingFileSystem.awaited
        if awaited and awaited in Path(lpath).read_bytes():
            StoppingFileSystem.awaited = b""
            StoppingFileSystem.called_complete = Run(RUN).is_complete()
            signal.raise_signal(signal.SIGTERM)
        super().put_file(lpath, rpath, *args, **kwargs)


register_implementation("stopping", StoppingFileSystem, clobber=True)


@pytest.fixture
def bags(workdir, monkeypatch) -> Path:
    """A working folder with data, where failed copies are soon tried again."""
    monkeypatch.setattr(remote_sync, "_FIRST_WAIT", 0.001)
    FlakyFileSystem.start_anew()
    write_bags(Path("data"))
    return workdir


def remote_sync_to(remote: object) -> str:
    return f"{{class_path: RemoteSync, init_args: {{remote: '{remote}', protocol: fsspec}}}}"


def write_recipe(*callbacks: str) -> None:
    Path("bags.yaml").write_text(
        f"trainer: {{max_epochs: 3, accelerator: cpu, callbacks: [{', '.join(callbacks)}]}}\n"
        f"model: {{class_path: {MODULE}.BagTask}}\n"
        f"data: {{class_path: {MODULE}.Bags, init_args: {{root: data, num_workers: 0}}}}\n"
    )


def files(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, by name; not what belongs to a process."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    names = {path: path.relative_to(folder) for path in paths}
    return {str(name): path.read_bytes() for path, name in names.items() if not any(p[0] == "." for p in name.parts)}


def assert_copied(target: Path = Path("backup")) -> None:
    """The copy is the run, to the last byte, but for what the command said of its end."""
    here, there = files(RUN), files(target / "bags/version_0")
    assert here.pop("log.txt").startswith(there.pop("log.txt"))
    assert here == there


def test_the_copy_holds_all_of_a_complete_run(bags):
    keep = "{class_path: PeriodicCheckpoint, init_args: {save_frequency: 2}}, {class_path: SourceCopy}"
    write_recipe(keep, remote_sync_to(bags / "backup"), "{class_path: LocalLog}")
    assert main(["fit", "--config", "bags.yaml"]) == 0
    assert_copied()
    there = Path("backup/bags/version_0")
    names = ("oof_predictions.csv", "oof_metrics.json", "learning_curves.png", "log_0.txt", "fold_0/fold.json")
    assert all((there / name).is_file() for name in (*names, "code/biomass_pl/cli.py"))
    assert sorted(path.name for path in (there / "fold_0/checkpoints").iterdir()) == [
        *("best.ckpt", "epoch_2.ckpt", "epoch_3.ckpt", "last.ckpt")
    ]
    assert json.loads((there / "run.json").read_text())["status"] == "complete"
    assert "oof_metrics.json" in (there / "log.txt").read_text()


def test_a_job_for_a_single_fold_copies_its_tables_though_others_are_missing(bags, lesion_recipe):
    settings = ["--run", "lightning_logs/bags/version_0", "--folds", "1", "--trainer.max_epochs", "1"]
    assert (
        main(["fit", "--config", str(lesion_recipe), *settings, "--trainer.callbacks", f"[{remote_sync_to('backup')}]"])
        == 0
    )
    assert not Run(RUN).is_complete() and Path("backup/bags/version_0/fold_1/oof.csv").is_file()
    assert_copied()


@pytest.mark.parametrize("name", ["FailOnce", "TerminateOnce"])
def test_a_training_that_ends_early_is_copied_and_goes_on_to_the_whole_run(name, bags, interruptions, capsys):
    write_recipe(f"{{class_path: {INTERRUPTIONS}.{name}, init_args: {{epochs: [2]}}}}", remote_sync_to("backup"))
    assert main(["fit", "--config", "bags.yaml"]) in (2, 143)
    assert Run(RUN).last_checkpoint(0).is_file()
    assert_copied()
    trust = [*TRUST, f"{INTERRUPTIONS}.{name}"]
    assert main(["fit", "--resume", *trust]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("If the run is your own: --trust backup")
    assert main(["fit", "--resume", *trust, "backup"]) == 0
    assert Run(RUN).is_complete()
    assert_copied()


def test_a_killed_training_goes_on_to_the_whole_copy(bags):
    write_recipe(remote_sync_to("backup"))
    command = [sys.executable, "-m", "biomass_pl", "fit", "--config", "bags.yaml", "--trainer.max_epochs", "200"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=WITH_TESTS) as process:
        for line in process.stdout:
            if "epoch 3/" in line:
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    config = Run(RUN).config(0)
    config.write_text(config.read_text().replace("max_epochs: 200", "max_epochs: 5"))
    assert main(["fit", "--resume", *TRUST, "backup"]) == 0
    assert_copied()


@pytest.mark.parametrize(("awaited", "complete"), [(b'"pooled"', False), (b'"complete"', True)], ids=["scores", "end"])
def test_sigterm_in_the_last_copy_leaves_a_run_that_goes_on_to_copy_the_rest(awaited, complete, bags):
    remote = f"stopping://{bags / 'backup'}"
    write_recipe(remote_sync_to(remote))
    StoppingFileSystem.awaited = awaited
    assert main(["fit", "--config", "bags.yaml"]) == 143
    assert StoppingFileSystem.called_complete is complete  # a kill would have left it so
    assert not Run(RUN).is_complete() and Run(RUN).oof_predictions.is_file()
    assert main(["fit", "--resume", *TRUST, remote]) == 0
    assert Run(RUN).is_complete()
    assert_copied()


def test_tables_that_cannot_be_copied_are_named_and_the_run_stays_unfinished(bags, capsys):
    write_recipe(remote_sync_to("flaky://away"))
    FlakyFileSystem.failing["oof_metrics"] = 5
    assert main(["fit", "--config", "bags.yaml"]) == 2
    error = capsys.readouterr().err
    assert "1 files of" in error and "oof_metrics.json (ConnectionError: the network is down)" in error
    assert not Run(RUN).is_complete()
    assert main(["fit", "--resume", *TRUST, "flaky://away"]) == 0
    assert "/away/bags/version_0/oof_metrics.json" in FlakyFileSystem.names()


def test_a_dry_run_copies_and_keeps_nothing(bags):
    keep = "{class_path: PeriodicCheckpoint, init_args: {save_frequency: 1}}, {class_path: SourceCopy}"
    write_recipe(keep, remote_sync_to("backup"), "{class_path: LocalLog}")
    assert main(["fit", "--config", "bags.yaml", "--trainer.fast_dev_run", "true"]) == 0
    assert sorted(path.name for path in bags.iterdir()) == ["bags.yaml", "data"]


def test_predicting_saves_no_checkpoints_and_copies_nothing(bags):
    keep = "{class_path: PeriodicCheckpoint, init_args: {save_frequency: 1}}"
    write_recipe(keep, remote_sync_to("backup"))
    assert main(["fit", "--config", "bags.yaml"]) == 0
    before = files(RUN)
    assert main(["predict", *TRUST, "backup", "--trainer.callbacks", f"[{keep}]", "--out", "again.csv"]) == 0
    assert files(RUN) == before == files(Path("backup/bags/version_0")) | {"log.txt": before["log.txt"]}
    assert torch.load(Run(RUN).last_checkpoint(0), weights_only=True)["epoch"] == 2
