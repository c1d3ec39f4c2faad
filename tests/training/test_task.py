"""What every task does alike, shown on one of a single weight: mean losses, scores of whole epochs, rates."""

import logging
import math

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from biomass_pl.errors import TrainingError
from biomass_pl.training.optim import ParameterGroup, TrainingLength
from biomass_pl.training.task import Objective, PredictOutput, StepOutput, Task

TRAINING, HELD_OUT = [1.0, 2.0, 6.0], [4.0, 1.0, 3.0]


class Items(pl.LightningDataModule):
    """Numbers in batches of two: the last batch is smaller."""

    def loader(self, values: list[float]) -> DataLoader:
        items = [{"id": f"item {value}", "target": torch.tensor(value)} for value in values]
        return DataLoader(items, batch_size=2)

    def train_dataloader(self) -> DataLoader:
        return self.loader(TRAINING)

    def val_dataloader(self) -> DataLoader:
        return self.loader(HELD_OUT)

    def predict_dataloader(self) -> DataLoader:
        return self.loader(HELD_OUT)


class Product(Task):
    """Predicts its weight times the number; loses the number in the first epoch, twice as much in the second."""

    objective = Objective(name="val/range")

    def __init__(self, *, factor: float = 1.0, rate: float = 0.0) -> None:
        super().__init__()
        self.factor = factor
        self.rate = rate
        self.starts = 0

    def build(self) -> nn.Module:
        linear = nn.Linear(1, 1, bias=False)
        nn.init.constant_(linear.weight, 3.0)
        return linear

    def start_from(self, data) -> None:
        self.starts += 1
        assert isinstance(data, Items)

    def step(self, batch) -> StepOutput:
        prediction = self.network(batch["target"][:, None]).squeeze(dim=1)
        number = batch["target"].mean() * (1 + self.current_epoch) * self.factor
        return StepOutput(
            losses={"number": number, "weight": 0 * prediction.mean() + 10}, outputs={"prediction": prediction}
        )

    def predict_step(self, batch, batch_idx=0) -> PredictOutput:
        prediction = self.step(batch).outputs["prediction"]
        return PredictOutput(ids=batch["id"], columns={"number_pred": prediction}, arrays={})

    def parameter_groups(self, length: TrainingLength) -> list[ParameterGroup]:
        self.length = length
        rate, parameters = self.rate, list(self.parameters())
        return [ParameterGroup(name="all", parameters=parameters, rate=lambda step: rate * step, weight_decay=0.0)]

    def score(self, kept) -> dict[str, float]:
        return {"range": kept["prediction"].max() - kept["prediction"].min(), "sum": kept["target"].sum()}


class Logged(pl.Callback):
    """What each epoch logged."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.epochs.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def fitted(task: Task, folder, **settings) -> Logged:
    logged = Logged()
    trainer = pl.Trainer(
        accelerator="cpu",
        callbacks=[logged],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **{"max_epochs": 2, **settings},
    )
    trainer.fit(task, datamodule=Items())
    return logged


def test_losses_are_means_over_the_items_of_one_epoch(tmp_path):
    """Of 1, 2 and 6 in batches of two: 3, not the 3.75 of the batches; and the next epoch knows nothing of it."""
    first, second = fitted(Product(), tmp_path).epochs
    assert (first["train/loss_number"], first["train/loss_weight"], first["train/loss"]) == (3, 10, 13)
    assert (second["train/loss_number"], second["train/loss_weight"], second["train/loss"]) == (6, 10, 16)
    assert first["val/loss_number"] == pytest.approx(8 / 3) and first["val/loss"] == pytest.approx(10 + 8 / 3)


def test_scores_are_those_of_the_whole_epoch(tmp_path):
    """Three times 4, 1 and 3: their range is 9 in the first batch of two, and none in the second."""
    first, second = fitted(Product(), tmp_path).epochs
    assert first["val/range"] == second["val/range"] == 9
    assert first["val/sum"] == second["val/sum"] == 8


def test_the_rate_that_is_logged_is_that_of_the_last_step(tmp_path):
    logged = fitted(Product(rate=0.25), tmp_path).epochs
    assert [epoch["rate/all"] for epoch in logged] == [0.25, 0.75]


def test_the_network_is_built_once_and_starts_from_the_items_of_a_training_alone(tmp_path):
    task = Product()
    task.configure_model()
    network = task.network
    task.configure_model()
    assert task.network is network and task.starts == 0
    fitted(task, tmp_path)
    assert task.network is network and task.starts == 0  # it had been built before
    fresh = Product()
    fitted(fresh, tmp_path)
    assert fresh.starts == 1


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, 2),
        ({"limit_train_batches": 1}, 1),
        ({"limit_train_batches": 0.5}, 1),
        ({"accumulate_grad_batches": 2}, 1),
        ({"max_epochs": 3}, 2),
    ],
)
def test_a_training_is_as_long_as_the_trainer_makes_it(settings, steps, tmp_path):
    task = Product()
    fitted(task, tmp_path, **settings)
    assert task.length == TrainingLength(epochs=settings.get("max_epochs", 2), steps_per_epoch=steps)
    assert task.trainer.global_step == steps * task.length.epochs


def test_a_loss_that_is_no_number_ends_the_training_with_advice(tmp_path):
    with pytest.raises(TrainingError, match=r"became inf in epoch 1\. Lower the rates"):
        fitted(Product(factor=math.inf), tmp_path)


class Undefined(Product):
    """Has no score in its first epoch."""

    def score(self, kept) -> dict[str, float]:
        return {"range": math.nan if self.current_epoch == 0 else 1.0}


def test_an_epoch_without_a_score_says_so_and_training_goes_on(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="biomass_pl"):
        logged = fitted(Undefined(), tmp_path).epochs
    assert [math.isnan(epoch["val/range"]) for epoch in logged] == [True, False]
    told = [record.getMessage() for record in caplog.records if record.name.startswith("biomass_pl")]
    assert told == ["Epoch 1 has no val/range: the truth is the same for all items, or a prediction is not finite."]
