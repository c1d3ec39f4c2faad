"""Copies of a folder: only what changed, whole files only, and nothing that failed is forgotten."""

import json
import os
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from biomass_pl.errors import ConfigError
from biomass_pl.training.remote_folder import STATE, RemoteFolder
from tests.training.file_systems import FlakyFileSystem, ObjectStore


@pytest.fixture(autouse=True)
def _anew():
    FlakyFileSystem.start_anew()
    ObjectStore.store.clear()
    ObjectStore.uploads.clear()
    MemoryFileSystem.store.clear()


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "run"
    write(folder / "log.txt", "one")
    write(folder / "fold_0" / "checkpoints" / "last.ckpt", "weights")
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_a_local_folder_gets_the_same_files(folder, tmp_path):
    target = tmp_path / "backup" / "run"
    copy = RemoteFolder(folder=folder, url=str(target))
    assert copy.copy_changes() == {}
    assert contents(target) == contents(folder) != {}
    write(folder / "log.txt", "two")
    write(folder / "fold_1" / "new.csv", "")
    assert copy.copy_changes() == {}
    assert contents(target) == contents(folder)
    assert [path for path in target.rglob(".*")] == []


@pytest.mark.parametrize("url", ["memory://backup/run", "memory://backup/run/"])
def test_a_memory_gets_the_same_files(folder, url):
    assert RemoteFolder(folder=folder, url=url).copy_changes() == {}
    assert {name: bytes(file.getvalue()).decode() for name, file in MemoryFileSystem.store.items()} == {
        f"/backup/run/{name}": text for name, text in contents(folder).items()
    }


def test_only_what_changed_is_copied_again(folder):
    copy = RemoteFolder(folder=folder, url="flaky://run")
    copy.copy_changes()
    assert len(FlakyFileSystem.uploads) == 2
    FlakyFileSystem.uploads.clear()
    copy.copy_changes()
    assert FlakyFileSystem.uploads == []
    write(folder / "log.txt", "eno")  # of the same size
    os.utime(folder / "log.txt", ns=(1, 1))
    copy.copy_changes()
    assert [name for name in FlakyFileSystem.uploads if "log.txt" in name] == FlakyFileSystem.uploads != []
    assert bytes(FlakyFileSystem.store["/run/log.txt"].getvalue()) == b"eno"


def test_a_later_process_knows_what_is_there(folder):
    RemoteFolder(folder=folder, url="flaky://run").copy_changes()
    FlakyFileSystem.uploads.clear()
    RemoteFolder(folder=folder, url="flaky://run").copy_changes()
    assert FlakyFileSystem.uploads == []
    RemoteFolder(folder=folder, url="flaky://other").copy_changes()
    assert len(FlakyFileSystem.uploads) == 2
    FlakyFileSystem.uploads.clear()
    RemoteFolder(folder=folder, url="flaky://run").copy_changes()
    assert FlakyFileSystem.uploads == []


def test_what_is_gone_or_cut_off_there_is_copied_again(folder):
    RemoteFolder(folder=folder, url="flaky://run").copy_changes()
    del FlakyFileSystem.store["/run/log.txt"]
    checkpoint = "/run/fold_0/checkpoints/last.ckpt"
    FlakyFileSystem().pipe_file(checkpoint, b"wei")
    RemoteFolder(folder=folder, url="flaky://run").copy_changes()
    assert "/run/log.txt" in FlakyFileSystem.store
    assert bytes(FlakyFileSystem.store[checkpoint].getvalue()) == b"weights"


@pytest.mark.parametrize(
    "state", ["", "[]", "{", '{"flaky://run": 3}', '{"flaky://run": {"log.txt": [1]}}', '{"flaky://run": {"a": null}}']
)
def test_a_damaged_memory_of_copies_only_costs_time(folder, state):
    write(folder / STATE, state)
    assert RemoteFolder(folder=folder, url="flaky://run").copy_changes() == {}
    assert len(FlakyFileSystem.store) == 2
    assert set(json.loads((folder / STATE).read_text())["flaky://run"]) == set(contents(folder))


@pytest.mark.parametrize("halfway", [False, True])
def test_what_failed_is_told_and_copied_next_time(folder, halfway):
    FlakyFileSystem.failing["log.txt"], FlakyFileSystem.halfway = 2, halfway
    copy = RemoteFolder(folder=folder, url="flaky://run")
    for _ in range(2):
        assert copy.copy_changes() == {"log.txt": "ConnectionError: the network is down"}
        assert FlakyFileSystem.names() == {"/run/fold_0/checkpoints/last.ckpt"}
    assert copy.copy_changes() == {}
    assert "/run/log.txt" in FlakyFileSystem.names()


def test_what_failed_is_copied_by_a_later_process(folder):
    FlakyFileSystem.failing["log.txt"] = 1
    assert RemoteFolder(folder=folder, url="flaky://run").copy_changes()
    FlakyFileSystem.uploads.clear()
    assert RemoteFolder(folder=folder, url="flaky://run").copy_changes() == {}
    assert len(FlakyFileSystem.uploads) == 1


def test_an_upload_that_breaks_leaves_the_older_file_whole(folder):
    copy = RemoteFolder(folder=folder, url="flaky://run")
    copy.copy_changes()
    write(folder / "log.txt", "longer than before")
    FlakyFileSystem.failing["log.txt"], FlakyFileSystem.halfway = 1, True
    copy.copy_changes()
    assert bytes(FlakyFileSystem.store["/run/log.txt"].getvalue()) == b"one"


class Stopped(BaseException):
    """As SIGTERM is in a training."""


def test_what_was_copied_before_an_interruption_is_remembered(folder, monkeypatch):
    def stop(self, path1: str, path2: str) -> None:
        raise Stopped

    copy = RemoteFolder(folder=folder, url="flaky://run")
    write(folder / "zz.txt", "last in order")
    write(folder / "fold_0" / "a.txt", "first")
    real = FlakyFileSystem.mv
    monkeypatch.setattr(FlakyFileSystem, "mv", lambda self, old, new: (stop if "zz" in new else real)(self, old, new))
    with pytest.raises(Stopped):
        copy.copy_changes()
    assert set(json.loads((folder / STATE).read_text())["flaky://run"]) == set(contents(folder)) - {"zz.txt"}
    assert not [name for name in FlakyFileSystem.names() if name.endswith(".part")]
    monkeypatch.undo()
    assert copy.copy_changes() == {}
    assert "/run/zz.txt" in FlakyFileSystem.names()


def test_a_file_that_changes_while_it_is_copied_is_copied_again(folder, monkeypatch):
    real = FlakyFileSystem.put_file

    def append(self, lpath: str, rpath: str) -> None:
        real(self, lpath, rpath)
        if "log.txt" in rpath and len(FlakyFileSystem.uploads) <= 2:
            write(folder / "log.txt", "one and more")

    monkeypatch.setattr(FlakyFileSystem, "put_file", append)
    copy = RemoteFolder(folder=folder, url="flaky://run")
    copy.copy_changes()
    assert bytes(FlakyFileSystem.store["/run/log.txt"].getvalue()) == b"one"
    copy.copy_changes()
    assert bytes(FlakyFileSystem.store["/run/log.txt"].getvalue()) == b"one and more"


def test_a_file_that_is_deleted_while_it_is_copied_is_no_failure(folder, monkeypatch):
    def delete(self, lpath: str, rpath: str) -> None:
        Path(lpath).unlink()
        raise FileNotFoundError(lpath)

    monkeypatch.setattr(FlakyFileSystem, "put_file", delete)
    assert RemoteFolder(folder=folder, url="flaky://run").copy_changes() == {}
    assert contents(folder) == {}


def test_what_was_deleted_here_stays_there(folder):
    copy = RemoteFolder(folder=folder, url="flaky://run")
    copy.copy_changes()
    (folder / "log.txt").unlink()
    assert copy.copy_changes() == {}
    assert "/run/log.txt" in FlakyFileSystem.names()


def test_files_of_processes_and_links_that_lead_out_stay_at_home(folder, tmp_path):
    write(tmp_path / "secret", "of the user")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "inner").symlink_to(folder / "log.txt")
    (folder / "loop").symlink_to(folder / "loop")
    write(folder / ".best.ckpt.0123.tmp", "half")
    write(folder / "fold_0" / ".training.lock", "")
    write(folder / ".hidden" / "file", "")
    RemoteFolder(folder=folder, url="flaky://run").copy_changes()
    assert FlakyFileSystem.names() == {"/run/log.txt", "/run/inner", "/run/fold_0/checkpoints/last.ckpt"}


def test_an_object_store_gets_files_by_their_name_at_once(folder):
    RemoteFolder(folder=folder, url="oci://run").copy_changes()
    assert (
        sorted(ObjectStore.uploads)
        == sorted(ObjectStore.store)
        == ["/run/fold_0/checkpoints/last.ckpt", "/run/log.txt"]
    )
    RemoteFolder(folder=folder, url="flaky://run").copy_changes()
    assert all(name.endswith(".part") for name in FlakyFileSystem.uploads)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere://run", r"nowhere://run is no place to copy to .* Give a URL that fsspec knows"),
        ("dropbox://run", r"dropbox://run needs a package that is not installed: .*dropbox"),
        ("unreachable://run", r"unreachable://run cannot be reached \(ConnectionError: no route to host\)"),
    ],
)
def test_a_place_that_cannot_be_used_is_named(folder, url, message):
    with pytest.raises(ConfigError, match=message):
        RemoteFolder(folder=folder, url=url)


def test_a_folder_is_not_copied_into_itself(folder):
    for place in (folder, folder / "backup"):
        with pytest.raises(ConfigError, match="which it is to copy"):
            RemoteFolder(folder=folder, url=str(place))
    (folder.parent / "door").symlink_to(folder)
    with pytest.raises(ConfigError, match="which it is to copy"):
        RemoteFolder(folder=folder, url=f"file://{folder.parent}/door/backup")


def test_where_nothing_can_be_remembered_copies_are_made_and_a_warning(folder, caplog):
    (folder / STATE).mkdir()
    copy = RemoteFolder(folder=folder, url="flaky://run")
    assert copy.copy_changes() == {}
    assert len(FlakyFileSystem.names()) == 2
    assert "What was copied to flaky://run is copied again by a resumed training" in caplog.text
