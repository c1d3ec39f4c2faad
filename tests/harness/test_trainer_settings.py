"""Settings of Lightning's trainer that people debug with: served, or refused before training."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.callbacks import DeviceStatsMonitor
from lightning.pytorch.plugins import BitsandbytesPrecision

from biomass_pl.cli import main
from biomass_pl.errors import ConfigError
from biomass_pl.harness import trainer_settings
from biomass_pl.harness.parser import RunCLI
from biomass_pl.harness.trainer_settings import check_device_stats, check_plugins, check_trainer
from biomass_pl.runs import find_run
from tests.harness.another_system import BagTask, write_bags

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
        ("strategy=horovod", "trainer.strategy horovod left Lightning with its version 2; use ddp, with trainer.dev"),
        ("strategy=Horovod", "use ddp"),
        ("precision=pure_bf16", "trainer.precision pure_bf16 would round or widen the labels with the inputs. Use 32-"),
        ("precision=amp_fp16", "There is no precision 'amp_fp16' here. Give 32-true, 16-mixed or bf16-mixed, or a pub"),
        ("precision=64", "There is no precision '64' here"),
    ],
)
def test_what_a_cross_validation_cannot_serve_is_refused_before_training(setting, message, recipe, workdir, capsys):
    assert main(["fit", "--config", str(recipe), f"--trainer.{setting}"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("biomass: error:") == 1 and "Traceback" not in error
    assert not Path("lightning_logs").exists()


def test_a_plugin_and_a_precision_at_once_are_refused(recipe, workdir, capsys):
    plugin = '{"class_path": "DoublePrecision"}'
    settings = ["--trainer.plugins", plugin, "--trainer.precision", "32-true"]
    assert main(["fit", "--config", str(recipe), *settings]) == 2
    told = "DoublePrecision of trainer.plugins has a number format of its own, beside trainer.precision 32-true. Leave"
    assert told in capsys.readouterr().err and not Path("lightning_logs").exists()


def test_one_plugin_need_not_be_a_list(recipe, workdir):
    plugin = '{"class_path": "lightning.pytorch.plugins.precision.Precision"}'
    settings = ["--trainer.plugins", plugin, "--trainer.max_epochs", "3", "--folds", "0"]
    assert main(["fit", "--config", str(recipe), *settings]) == 0
    assert main(["predict"]) == 0  # a number format of Lightning needs no trust


def test_quantised_weights_need_a_gpu(monkeypatch):
    plugin = object.__new__(BitsandbytesPrecision)  # its package may be missing
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"BitsandbytesPrecision of trainer\.plugins needs a CUDA GPU"):
        check_plugins([plugin], None)


def monitored(**settings) -> SimpleNamespace:
    """As far as the check looks at a trainer."""
    trainer = {"callbacks": [DeviceStatsMonitor()], "loggers": ["one"], "accelerator": CPUAccelerator()}
    return SimpleNamespace(**(trainer | settings))


def test_statistics_of_the_device_need_a_logger_and_on_a_cpu_psutil(monkeypatch):
    check_device_stats(monitored())
    with pytest.raises(ConfigError, match=r"tells the loggers, of which trainer\.logger: false leaves none"):
        check_device_stats(monitored(loggers=[]))
    monkeypatch.setattr(trainer_settings, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="with psutil, which is not there: pip install psutil"):
        check_device_stats(monitored())
    check_device_stats(monitored(callbacks=[DeviceStatsMonitor(cpu_stats=False)]))
    check_device_stats(monitored(accelerator=CUDAAccelerator()))
    check_device_stats(monitored(callbacks=[], loggers=[]))


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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("amp_bf16", "bf16-mixed"),
        ("bf16", "bf16-mixed"),
        ("fp32", "32-true"),
        ("null", "32-true"),
        ("32", "32-true"),
        ("bf16-mixed", "bf16-mixed"),
    ],
)
def test_a_number_format_may_have_its_published_name(name, expected, recipe):
    cli = RunCLI(["--config", str(recipe), "--trainer.precision", name])
    assert cli.trainer.precision == expected
    assert yaml.safe_load(cli.config_text())["trainer"]["precision"] == (None if name == "null" else name)


@pytest.mark.parametrize("written", ["16", "'16'", "amp_bf16", "null"])
def test_a_recipe_may_write_it_as_a_number_or_a_text(written, recipe, workdir):
    Path("more.yaml").write_text(f"trainer: {{precision: {written}}}")
    stored = RunCLI(["--config", str(recipe), "--config", "more.yaml"]).config_text()
    Path("stored.yaml").write_text(stored)
    again = RunCLI(["--config", "stored.yaml"])
    assert again.config_text() == stored
    assert again.trainer.precision == ("32-true" if written == "null" else "bf16-mixed")  # a CPU has no 16-mixed


class NarrowBagTask(BagTask):
    """It can be trained with weights of half the bits."""

    precisions = (*BagTask.precisions, "bf16-true")


NARROW = f"""\
trainer: {{max_epochs: 2, accelerator: cpu, precision: pure_bf16}}
model: {{class_path: {__name__}.NarrowBagTask}}
data: {{class_path: tests.harness.another_system.Bags, init_args: {{root: data, num_workers: 0}}}}
"""


def test_a_task_that_allows_it_has_weights_of_half_the_bits_and_predicts_by_them(workdir):
    write_bags(Path("data"))
    Path("narrow.yaml").write_text(NARROW)
    assert main(["fit", "--config", "narrow.yaml"]) == 0
    run = find_run(Path("lightning_logs"))
    state = torch.load(run.best_checkpoint(0), weights_only=True)["state_dict"]
    assert {value.dtype for value in state.values()} == {torch.bfloat16}
    before = run.oof_predictions.read_bytes()
    run.oof_predictions.unlink()
    assert main(["predict", "--trust", f"{__name__}.NarrowBagTask", "tests.harness.another_system.Bags"]) == 0
    assert run.oof_predictions.read_bytes() == before


def test_a_task_that_allows_both_meanings_of_a_name_has_neither(workdir, capsys):
    write_bags(Path("data"))
    Path("narrow.yaml").write_text(NARROW.replace("pure_bf16", "bf16"))
    assert main(["fit", "--config", "narrow.yaml"]) == 2
    told = "trainer.precision bf16 is bf16-mixed to Lightning and was published for bf16-true. Give one of these two."
    assert capsys.readouterr().err == f"biomass: error: {told}\n"


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
