"""Checkpoints are whole or absent."""

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from biomass_pl.training.callbacks import checkpoint
from biomass_pl.training.callbacks.checkpoint import BestCheckpoint, LastCheckpoint, WholeFileCheckpointIO
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
