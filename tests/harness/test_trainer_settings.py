"""Settings of Lightning's trainer that people debug with: served, or refused before training."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from biomass_pl.cli import main
from biomass_pl.errors import ConfigError
from biomass_pl.harness.trainer_settings import check_trainer
from biomass_pl.runs import find_run

pytestmark = pytest.mark.usefixtures("quick_pictures")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("max_steps=3", "trainer.max_steps 3 may end within an epoch"),
        ("max_epochs=-1", "trainer.max_epochs is -1; a training of every fold needs 1 or more"),
        ("max_epochs=0", "trainer.max_epochs is 0; a training of every fold needs 1 or more"),
        ("limit_val_batches=0", "trainer.limit_val_batches 0 leaves no score"),
        ("limit_val_batches=0.0", "trainer.limit_val_batches 0 leaves no score"),
        ("limit_train_batches=0", "trainer.limit_train_batches 0 trains nothing"),
        ("overfit_batches=2", "trainer.overfit_batches 2 would validate on training photos"),
        ("overfit_batches=0.5", "trainer.overfit_batches 0.5 would validate on training photos"),
        ("check_val_every_n_epoch=5", "trainer.check_val_every_n_epoch 5 never validates within trainer.max_epochs 4"),
        ("enable_checkpointing=false", "trainer.enable_checkpointing false would leave nothing"),
    ],
)
def test_what_a_cross_validation_cannot_serve_is_refused_before_training(setting, message, recipe, workdir, capsys):
    assert main(["fit", "--config", str(recipe), f"--trainer.{setting}"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("biomass: error:") == 1 and "Traceback" not in error
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize("batches", ["true", "2"])
def test_a_fast_run_of_a_two_stage_recipe_trains_a_batch_and_leaves_nothing(batches, recipe, workdir, capsys):
    assert main(["fit", "--config", str(recipe), "--trainer.fast_dev_run", batches, "--folds", "1"]) == 0
    told = "fast_dev_run: fold 1 trained and validated on a few batches; nothing was written"
    assert capsys.readouterr().out.splitlines()[-1] == told
    assert list(workdir.rglob("*")) == []


def test_epochs_without_validation_have_no_scores(recipe, workdir):
    settings = ["--trainer.check_val_every_n_epoch", "2", "--folds", "0"]
    assert main(["fit", "--config", str(recipe), *settings]) == 0
    run = find_run(Path("lightning_logs"))
    rows = pd.read_csv(run.metrics_csv(0))
    scores = rows[[column for column in rows if column.startswith("val/")]]
    assert scores.shape[1] > 3 and rows["train/loss"].notna().all()
    assert scores.notna().all(axis=1).tolist() == [False, True, False, True]
    assert scores.isna().all(axis=1).tolist() == [True, False, True, False]
    assert run.is_complete()
    lines = [line for line in run.log.read_text().splitlines() if "epoch 3/4" in line]
    assert len(lines) == 1 and "val/" not in lines[0]  # nor a best of stage 2, which was not scored yet


SERVED = {
    "max_epochs": 3,
    "max_steps": -1,
    "limit_val_batches": None,
    "overfit_batches": 0.0,
    "check_val_every_n_epoch": 1,
    "limit_train_batches": None,
    "enable_checkpointing": None,
}


@pytest.mark.parametrize(
    "change",
    [{}, {"max_steps": None}, {"limit_val_batches": 2}, {"limit_val_batches": 0.5}, {"check_val_every_n_epoch": 3}],
    ids=str,
)
def test_what_makes_sense_is_served(change):
    check_trainer(SimpleNamespace(**SERVED | change))


@pytest.mark.parametrize(
    "change",
    [
        {"max_steps": 10},
        {"max_epochs": -1},
        {"max_epochs": None},
        {"max_epochs": 0},
        {"limit_val_batches": 0},
        {"limit_val_batches": 0.0},
        {"overfit_batches": 2},
        {"check_val_every_n_epoch": None},
        {"check_val_every_n_epoch": 4},
    ],
    ids=str,
)
def test_what_ends_in_no_score_is_named(change):
    (name,) = change
    with pytest.raises(ConfigError, match=rf"trainer\.{name}"):
        check_trainer(SimpleNamespace(**SERVED | change))
