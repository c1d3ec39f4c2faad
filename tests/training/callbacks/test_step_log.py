"""Curves within epochs reach the loggers, and nothing else."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers.logger import Logger

from biomass_pl.training.callbacks import step_log
from biomass_pl.training.callbacks.step_log import StepLog
from biomass_pl.training.task import StepOutput
from tests.training.test_task import Items, Logged, Product


class Rows(Logger):
    """Keeps what it is told, by step."""

    name, version = "rows", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_hyperparams(self, *args, **kwargs) -> None:
        pass

    def log_metrics(self, metrics, step=None) -> None:
        self.rows.append((step, dict(metrics)))

    def of_steps(self) -> list[tuple[int, dict[str, float]]]:
        return [row for row in self.rows if "train/batch_time" in row[1]]


class Measured(Product):
    """Its measure is the target, of which an odd first one is left out."""

    def step(self, batch) -> StepOutput:
        output = super().step(batch)
        targets = batch["target"]
        return StepOutput(
            losses=output.losses, outputs=output.outputs, measures={"even": targets[targets % 2 == 0], "all": targets}
        )


class Clock(pl.Callback):
    """Goes on a second whenever it is looked at, and a hundred in a validation."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1
        return self.now

    def on_validation_batch_end(self, *args, **kwargs) -> None:
        self.now += 100


def fitted(task, folder, *, every: int, data=None, logger=None, extra=(), **settings) -> tuple[Rows, Logged]:
    rows, logged = Rows(), Logged()
    trainer = pl.Trainer(
        accelerator="cpu",
        callbacks=[logged, StepLog(), *extra],
        logger=rows if logger is None else logger,
        log_every_n_steps=every,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **{"max_epochs": 2, **settings},
    )
    trainer.fit(task, datamodule=data or Items())
    return rows, logged


def test_every_step_has_its_own_losses_and_rate(tmp_path):
    """Batches of 1 and 2, then 6; losses twice as large in the second epoch; rates of 0, 0.25, 0.5 and 0.75."""
    rows, _ = fitted(Product(rate=0.25), tmp_path, every=1)
    steps = rows.of_steps()
    assert [step for step, _ in steps] == [0, 1, 2, 3]
    assert [row["train/loss_number_step"] for _, row in steps] == [1.5, 6, 3, 12]
    assert [row["train/loss_step"] for _, row in steps] == [11.5, 16, 13, 22]
    assert [row["rate/all"] for _, row in steps] == [row["train/lr"] for _, row in steps] == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize(("every", "steps"), [(2, [1, 3]), (3, [2]), (5, []), (0, [])])
def test_steps_are_counted_through_all_epochs(every, steps, tmp_path):
    rows, _ = fitted(Product(), tmp_path, every=every)
    assert [step for step, _ in rows.of_steps()] == steps


def test_only_batches_that_end_an_optimizer_step_count(tmp_path):
    rows, _ = fitted(Product(), tmp_path, every=1, accumulate_grad_batches=2)
    assert [step for step, _ in rows.of_steps()] == [0, 1]
    assert [row["train/loss_number_step"] for _, row in rows.of_steps()] == [6, 12]  # of the last batch of each


def test_epochs_log_the_same_with_and_without_steps(tmp_path):
    _, each = fitted(Measured(rate=0.25), tmp_path, every=1)
    rows, none = fitted(Measured(rate=0.25), tmp_path, every=0)
    assert each.epochs == none.epochs
    assert [row["rate/all"] for _, row in rows.rows if "rate/all" in row] == [0.25, 0.75]  # whatever `every` is


def test_a_measure_is_the_mean_of_the_batch_where_it_has_one(tmp_path):
    rows, _ = fitted(Measured(), tmp_path, every=1, max_epochs=1, limit_train_batches=1)
    ((_, row),) = rows.of_steps()
    assert (row["train/even_step"], row["train/all_step"]) == (2, 1.5)
    rows, _ = fitted(Measured(), tmp_path, every=1, max_epochs=1, data=Odd())
    ((_, row),) = rows.of_steps()
    assert "train/even_step" not in row and row["train/all_step"] == 5


class Odd(Items):
    def train_dataloader(self):
        return self.loader([5.0])


@pytest.mark.parametrize("settings", [{}, {"val_check_interval": 1}])
def test_times_are_means_of_steps_since_the_last_log_of_the_epoch(settings, tmp_path, monkeypatch):
    """A second for each wait and each step; what a validation takes, also one within the epoch, is no step's."""
    clock = Clock()
    monkeypatch.setattr(step_log, "time", clock)
    rows, _ = fitted(Product(), tmp_path, every=2, extra=[clock], **settings)
    assert len(rows.of_steps()) == 2
    for _, row in rows.of_steps():  # two steps with three items each time
        assert (row["train/data_time"], row["train/batch_time"]) == (1, 2)
        assert row["train/samples_per_second"] == 0.75
        assert "train/samples_per_second_per_device" not in row


def test_a_loss_that_is_no_number_is_seen(tmp_path):
    rows = Rows()
    with pytest.raises(Exception, match="training loss became nan"):
        fitted(Product(factor=float("nan")), tmp_path, every=1, logger=rows)
    assert torch.tensor([row["train/loss_step"] for _, row in rows.of_steps()]).isnan().all() and rows.of_steps()


def test_nothing_is_computed_where_nobody_is_told(tmp_path):
    _, logged = fitted(Product(), tmp_path, every=1, logger=False)
    assert len(logged.epochs) == 2
