"""Which epochs are saved and deleted, and that a training goes on from any of them."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from biomass_pl.errors import ConfigError
from biomass_pl.training.callbacks.checkpoint import WholeFileCheckpointIO, next_epoch, read_checkpoint
from biomass_pl.training.callbacks.periodic_checkpoint import PeriodicCheckpoint


def fit(folder: Path, *callbacks: Callback, epochs: int, resume: Path | None = None, **settings) -> BoringModel:
    torch.manual_seed(0)
    model = BoringModel()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        limit_train_batches=2,
        limit_val_batches=0,
        default_root_dir=folder,
        callbacks=list(callbacks),
        plugins=[WholeFileCheckpointIO()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(model, ckpt_path=resume, weights_only=True)
    return model


def saved(folder: Path) -> list[str]:
    return sorted(path.stem.removeprefix("epoch_") for path in (folder / "checkpoints").glob("*"))


class Stop(Callback):
    """Ends the training with an epoch, counted from 1."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epoch


@pytest.mark.parametrize(
    ("frequency", "epochs", "expected"),
    [(1, 3, ["1", "2", "3"]), (2, 5, ["2", "4", "5"]), (2, 4, ["2", "4"]), (20, 3, ["3"]), (0, 3, ["3"])],
)
def test_every_so_many_epochs_and_the_last_are_saved_by_the_number_completed(tmp_path, frequency, epochs, expected):
    fit(tmp_path, PeriodicCheckpoint(save_frequency=frequency), epochs=epochs)
    assert saved(tmp_path) == expected
    for name in expected:
        assert next_epoch(read_checkpoint(tmp_path / f"checkpoints/epoch_{name}.ckpt")) == int(name)


def test_the_last_epoch_of_a_training_that_stops_early_is_saved(tmp_path):
    fit(tmp_path, Stop(3), PeriodicCheckpoint(save_frequency=2), epochs=9)
    assert saved(tmp_path) == ["2", "3"]


def test_a_stop_that_waits_for_its_time_is_not_the_end(tmp_path):
    fit(tmp_path, Stop(1), PeriodicCheckpoint(save_frequency=0), epochs=9, min_epochs=3)
    assert saved(tmp_path) == ["3"]


def test_the_newest_epoch_is_kept_beside_them(tmp_path):
    epochs = []

    class Look(Callback):
        def on_train_epoch_start(self, trainer, pl_module) -> None:
            if trainer.current_epoch:
                epochs.append(next_epoch(read_checkpoint(tmp_path / "checkpoints" / "epoch_latest.ckpt")))

    fit(tmp_path, Look(), PeriodicCheckpoint(save_frequency=3, save_most_recent=True), epochs=4)
    assert saved(tmp_path) == ["3", "4", "latest"]
    assert epochs == [1, 2, 3]
    assert next_epoch(read_checkpoint(tmp_path / "checkpoints" / "epoch_latest.ckpt")) == 4


def test_the_one_before_is_deleted_and_no_other(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for name in ("epoch_1.ckpt", "epoch_3.ckpt", "best.ckpt"):
        (tmp_path / "checkpoints" / name).touch()
    fit(tmp_path, PeriodicCheckpoint(save_frequency=2, save_most_recent=True, delete_previous=True), epochs=5)
    assert saved(tmp_path) == ["1", "3", "5", "best", "latest"]


def test_a_resumed_training_deletes_what_it_had_saved(tmp_path):
    settings = {"save_frequency": 2, "delete_previous": True}
    fit(tmp_path, PeriodicCheckpoint(**settings), epochs=4)
    newest = tmp_path / "checkpoints" / "epoch_4.ckpt"
    assert saved(tmp_path) == ["4"]
    (tmp_path / "checkpoints" / "epoch_2.ckpt").touch()  # as if it had been killed before it could delete this one
    fit(tmp_path, PeriodicCheckpoint(**settings), epochs=6, resume=newest)
    assert saved(tmp_path) == ["6"]


def test_the_older_one_is_there_until_the_new_one_is_whole(tmp_path):
    class FullDisk(WholeFileCheckpointIO):
        def save_checkpoint(self, checkpoint, path, storage_options=None) -> None:
            if "epoch_2" in str(path):
                raise OSError("no space left on device")
            super().save_checkpoint(checkpoint, path, storage_options)

    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        limit_train_batches=1,
        limit_val_batches=0,
        default_root_dir=tmp_path,
        callbacks=[PeriodicCheckpoint(save_frequency=1, delete_previous=True)],
        plugins=[FullDisk()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(OSError, match="no space"):
        trainer.fit(BoringModel())
    assert saved(tmp_path) == ["1"]


@pytest.mark.parametrize("name", ["2", "3", "5", "latest"])
def test_a_training_goes_on_from_any_of_them_as_if_it_had_not_stopped(tmp_path, name):
    whole = fit(tmp_path / "whole", epochs=7, enable_checkpointing=False)
    callbacks = PeriodicCheckpoint(save_frequency=2, save_most_recent=True)
    fit(tmp_path, Stop(3 if name == "3" else 5), callbacks, epochs=7)
    resumed = fit(tmp_path, epochs=7, resume=tmp_path / f"checkpoints/epoch_{name}.ckpt")
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


def test_a_checkpoint_of_others_names_no_file_to_delete():
    with pytest.raises((TypeError, ValueError)):
        PeriodicCheckpoint().load_state_dict({"saved_epochs": ["../../home"]})


def test_a_negative_frequency_is_named():
    with pytest.raises(ConfigError, match=r"save_frequency is -1; give 1 or more, or 0 for the last epoch only"):
        PeriodicCheckpoint(save_frequency=-1)
