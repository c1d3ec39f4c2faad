"""What is said while a machine trains stands in a log of its own."""

import logging

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from biomass_pl.errors import TrainingError
from biomass_pl.runs import RECORD
from biomass_pl.terminal import LOGGER
from biomass_pl.training.callbacks.local_log import LocalLog


class Warns(Callback):
    """Warns at the start, and may break the training off."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    def on_train_start(self, trainer, pl_module) -> None:
        logging.getLogger(f"{LOGGER}.somewhere").warning("the disk is slow")
        if self.fails:
            raise TrainingError("the power failed")


def fit(folder, *callbacks) -> None:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=1,
        limit_val_batches=0,
        default_root_dir=folder / "fold_0",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(BoringModel())


def test_the_log_lies_in_the_run_and_ends_with_each_training(tmp_path):
    (tmp_path / RECORD).touch()
    fit(tmp_path, Warns(), LocalLog())
    logging.getLogger(LOGGER).warning("between")
    fit(tmp_path, Warns(), LocalLog())
    assert (tmp_path / "log_0.txt").read_text() == "warning: the disk is slow\n" * 2


def test_the_error_that_ends_a_training_is_its_last_line(tmp_path):
    (tmp_path / RECORD).touch()
    with pytest.raises(TrainingError):
        fit(tmp_path, Warns(fails=True), LocalLog())
    logging.getLogger(LOGGER).warning("afterwards")
    assert (tmp_path / "log_0.txt").read_text() == "warning: the disk is slow\nerror: the power failed\n"
