"""Checkpoints are whole or absent, hold nothing that runs, and tell where a training goes on."""

import os
import pickle

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from biomass_pl.errors import RunError
from biomass_pl.training.callbacks import checkpoint
from biomass_pl.training.callbacks.checkpoint import (
    BestCheckpoint,
    LastCheckpoint,
    WholeFileCheckpointIO,
    next_epoch,
    read_checkpoint,
)
from biomass_pl.training.task import Objective


def test_a_checkpoint_round_trips(tmp_path):
    path = tmp_path / "checkpoints" / "best.ckpt"
    WholeFileCheckpointIO().save_checkpoint({"weights": torch.arange(3)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["weights"], torch.arange(3))
    assert [file.name for file in path.parent.iterdir()] == ["best.ckpt"]


def test_a_failed_write_leaves_the_older_checkpoint(tmp_path):
    path = tmp_path / "best.ckpt"
    WholeFileCheckpointIO().save_checkpoint({"epoch": 1}, path)
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        WholeFileCheckpointIO().save_checkpoint({"epoch": 2, "unsaveable": (step for step in [1])}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["best.ckpt"]


def test_the_best_score_survives_a_move_of_the_folder(tmp_path):
    first = BestCheckpoint(folder=tmp_path / "old", objective=Objective(name="val/score"))
    first.best_model_score = torch.tensor(0.7)
    first.best_k_models = {str(tmp_path / "old" / "best.ckpt"): torch.tensor(0.7)}
    moved = BestCheckpoint(folder=tmp_path / "new", objective=Objective(name="val/score"))
    moved.load_state_dict(first.state_dict())
    assert moved.best_model_score == torch.tensor(0.7)
    assert moved.dirpath == str(tmp_path / "new")


class Clock(Callback):
    """An epoch takes 30 seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.seconds += 30


class SlowDisk(WholeFileCheckpointIO):
    """Saving a checkpoint takes 10 seconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.saved: list[int] = []

    def save_checkpoint(self, checkpoint, path, storage_options=None) -> None:
        self.clock.seconds += 10
        self.saved.append(checkpoint["epoch"])
        super().save_checkpoint(checkpoint, path, storage_options)


def test_saving_the_last_epoch_takes_a_twentieth_of_the_time(tmp_path, monkeypatch):
    clock = Clock()
    disk = SlowDisk(clock)
    monkeypatch.setattr(checkpoint, "time", clock)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=12,
        limit_train_batches=1,
        limit_val_batches=0,
        callbacks=[clock, LastCheckpoint(folder=tmp_path)],
        plugins=[disk],
        **quiet,
    )
    trainer.fit(BoringModel())
    # Saved at second 40; due again at 240: the epoch that ends at 250. Then the very last one.
    assert disk.saved == [0, 7, 11]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 11


class Improving(BoringModel):
    """Gets better in epochs 2 and 3 only."""

    def on_validation_epoch_end(self) -> None:
        self.log("score", [0.5, 0.5, 0.6, 0.7, 0.1, 0.1][self.current_epoch])


def test_the_last_checkpoint_is_never_older_than_the_best(tmp_path, monkeypatch):
    clock = Clock()
    disk = SlowDisk(clock)
    monkeypatch.setattr(checkpoint, "time", clock)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=6,
        limit_train_batches=1,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        callbacks=[
            clock,
            BestCheckpoint(folder=tmp_path, objective=Objective(name="score")),
            LastCheckpoint(folder=tmp_path),
        ],
        plugins=[disk],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Improving())
    # Best and last in epochs 0, 2 and 3, last alone at the end.
    assert disk.saved == [0, 0, 2, 2, 3, 3, 5]


QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}


def short_trainer(*callbacks: Callback, epochs: int) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        limit_train_batches=1,
        limit_val_batches=1,
        callbacks=list(callbacks),
        **QUIET,
    )


@pytest.mark.parametrize(("mode", "best"), [("max", 3), ("min", 4)])
def test_the_best_is_what_the_objective_says(mode, best, tmp_path):
    kept = BestCheckpoint(folder=tmp_path, objective=Objective(name="score", mode=mode))
    short_trainer(kept, epochs=6).fit(Improving())
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == best


def test_a_training_goes_on_with_the_epoch_after_its_checkpoint(tmp_path):
    for epochs in (1, 3):
        short_trainer(LastCheckpoint(folder=tmp_path), epochs=epochs).fit(BoringModel())
        assert next_epoch(read_checkpoint(tmp_path / "last.ckpt")) == epochs


class MakesAFolder:
    """Unpickled with trust, this would run a command."""

    def __init__(self, folder) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


DAMAGES = {
    "empty": lambda whole, folder: b"",
    "text": lambda whole, folder: b"no checkpoint",
    "half": lambda whole, folder: whole[: len(whole) // 2],
    "the beginning": lambda whole, folder: whole[:100],
    "a pickle that runs": lambda whole, folder: pickle.dumps({"state_dict": MakesAFolder(folder)}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_or_hostile_checkpoint_is_named_and_nothing_in_it_runs(damage, tmp_path):
    path, folder = tmp_path / "best.ckpt", tmp_path / "made_by_the_checkpoint"
    torch.save({"state_dict": {"weight": torch.arange(1000)}, "loops": {}}, path)
    read_checkpoint(path)
    path.write_bytes(damage(path.read_bytes(), folder))
    with pytest.raises(RunError, match=r"best.ckpt is no checkpoint of this package.* Train the fold again"):
        read_checkpoint(path)
    assert not folder.exists()


@pytest.mark.parametrize("content", ["evil", "tensor", "list", "no loops", "no weights"])
def test_what_else_was_saved_is_no_checkpoint(content, tmp_path):
    folder = tmp_path / "made_by_the_checkpoint"
    contents = {
        "evil": {"state_dict": {}, "loops": {}, "hyper_parameters": MakesAFolder(folder)},
        "tensor": torch.zeros(3),
        "list": [1, 2],
        "no loops": {"state_dict": {}},
        "no weights": {"state_dict": None, "loops": {}},
    }
    torch.save(contents[content], tmp_path / "best.ckpt")
    with pytest.raises(RunError, match=r"best.ckpt is no checkpoint of this package"):
        read_checkpoint(tmp_path / "best.ckpt")
    assert not folder.exists()


def test_a_checkpoint_that_is_not_there_says_how_to_make_it(tmp_path):
    with pytest.raises(RunError, match=r"best.ckpt does not exist. Finish the training: biomass fit --resume"):
        read_checkpoint(tmp_path / "best.ckpt")


def test_a_file_that_only_cannot_be_opened_is_not_called_damaged(tmp_path):
    (tmp_path / "best.ckpt").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        read_checkpoint(tmp_path / "best.ckpt")
    assert caught.value.filename == str(tmp_path / "best.ckpt")


@pytest.mark.parametrize(
    "loops", [{}, {"fit_loop": None}, {"fit_loop": {"epoch_progress": {"current": {"processed": "x"}}}}]
)
def test_a_checkpoint_without_its_epoch_is_damaged(loops):
    with pytest.raises(RunError, match="does not tell its epoch"):
        next_epoch({"state_dict": {}, "loops": loops})
