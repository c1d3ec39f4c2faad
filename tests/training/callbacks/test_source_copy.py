"""Sources are copied once, whole, and again only where they changed."""

import os
from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

import biomass_pl
from biomass_pl.runs import RECORD
from biomass_pl.training.callbacks.source_copy import SourceCopy, copy_sources


@pytest.fixture
def package(tmp_path) -> Path:
    package = tmp_path / "package"
    for name, text in (("__init__.py", ""), ("room/part.py", "a = 1"), ("__pycache__/x.pyc", "")):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    return package


def test_a_training_keeps_the_sources_in_its_run(tmp_path):
    (tmp_path / RECORD).touch()
    for fold in (0, 1):
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_train_batches=1,
            limit_val_batches=0,
            default_root_dir=tmp_path / f"fold_{fold}",
            callbacks=[SourceCopy()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        trainer.fit(BoringModel())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code", RECORD]
    package = Path(biomass_pl.__file__).parent
    sources = {path.relative_to(package): path.read_text() for path in package.rglob("*.py")}
    copy = tmp_path / "code" / package.name
    assert {path.relative_to(copy): path.read_text() for path in copy.rglob("*.py")} == sources


def test_compiled_files_stay_behind(package, tmp_path):
    copy = copy_sources(package, tmp_path / "run")
    assert copy == tmp_path / "run" / "code"
    assert sorted(path.relative_to(copy).as_posix() for path in copy.rglob("*.*")) == [
        "package/__init__.py",
        "package/room/part.py",
    ]


@pytest.mark.parametrize("change", ["text", "new", "gone"])
def test_changed_sources_are_kept_beside_the_first_ones(package, tmp_path, change, caplog):
    run = tmp_path / "run"
    assert copy_sources(package, run) == copy_sources(package, run) == run / "code"
    assert not caplog.messages
    part = package / "room" / "part.py"
    if change == "text":
        time = part.stat().st_mtime_ns
        part.write_text("a = 2")
        os.utime(part, ns=(time, time))  # as checked out by some tools
    elif change == "new":
        (package / "more.py").touch()
    else:
        part.unlink()
    assert copy_sources(package, run) == copy_sources(package, run) == run / "code_2"
    assert "The sources of package changed since this run began" in caplog.text
    assert (run / "code/package/room/part.py").read_text() == "a = 1"
    assert sorted(path.name for path in run.iterdir()) == ["code", "code_2"]


def test_a_copy_that_breaks_leaves_nothing(package, tmp_path):
    (package / "broken.py").symlink_to(package / "nowhere.py")
    with pytest.raises(OSError, match=r"broken\.py"):
        copy_sources(package, tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
