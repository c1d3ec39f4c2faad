"""Early stopping watches what is logged, and what it ended stays ended."""

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping

from biomass_pl.errors import ConfigError
from biomass_pl.training.callbacks.checkpoint import LastCheckpoint
from biomass_pl.training.callbacks.stopping import KnownMonitors, StayStopped
from tests.training.callbacks.test_checkpoint import Improving, short_trainer


class Epochs(Callback):
    """Counts the epochs that are trained."""

    def __init__(self) -> None:
        self.trained: list[int] = []

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.trained.append(trainer.current_epoch)


def test_a_training_that_was_stopped_and_cut_off_just_then_does_not_go_on(tmp_path):
    """The score of `Improving` rises until epoch 3, and epoch 4 is one too many."""

    def train(*further: Callback, resumed=None) -> list[int]:
        epochs, stopping = Epochs(), EarlyStopping(monitor="score", mode="max", patience=1)
        trainer = short_trainer(stopping, *further, epochs, LastCheckpoint(folder=tmp_path), epochs=6)
        trainer.fit(Improving(), ckpt_path=resumed)
        return epochs.trained

    assert train(StayStopped()) == [0, 1]
    assert train(StayStopped(), resumed=tmp_path / "last.ckpt") == []


def test_a_training_that_was_not_stopped_goes_on(tmp_path):
    found = []
    for epochs, resumed in ((2, None), (4, tmp_path / "last.ckpt")):
        trained, stopping = Epochs(), EarlyStopping(monitor="score", mode="max", patience=9)
        trainer = short_trainer(stopping, StayStopped(), trained, LastCheckpoint(folder=tmp_path), epochs=epochs)
        trainer.fit(Improving(), ckpt_path=resumed)
        found.append(trained.trained)
    assert found == [[0, 1], [2, 3]]


class Scored(Improving):
    """Logs its score as others log theirs."""

    def on_validation_epoch_end(self) -> None:
        self.log("val/score", float(self.current_epoch))

    def training_step(self, batch, batch_idx):
        self.log("train/loss", 1.0, on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("at_epoch_end", [None, True, False])
def test_a_score_that_is_not_logged_is_refused_with_those_that_are(at_epoch_end, workdir):
    stopping = EarlyStopping(monitor="val/other", check_on_train_epoch_end=at_epoch_end)
    with pytest.raises(ConfigError, match=r"watches 'val/other', which this .* to one of val/score, or leave it out"):
        short_trainer(KnownMonitors(), stopping, epochs=2).fit(Scored())


@pytest.mark.parametrize("known", ["val/score", "train/loss"])
def test_scores_that_are_logged_are_watched(known, workdir):
    trainer = short_trainer(KnownMonitors(), EarlyStopping(monitor=known, mode="max", patience=1), epochs=3)
    trainer.fit(Scored())
    assert trainer.current_epoch == {"val/score": 3, "train/loss": 2}[known]


def test_an_epoch_without_validation_refuses_nothing(workdir):
    stopping = EarlyStopping(monitor="val/score", mode="max", patience=9)
    trainer = short_trainer(KnownMonitors(), stopping, epochs=4)
    trainer.check_val_every_n_epoch = 2
    trainer.fit(Scored())
    assert trainer.current_epoch == 4
