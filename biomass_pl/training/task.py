"""What the training of every system shares: a network, steps that log, scores of whole epochs, an optimizer."""

import abc
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from biomass_pl.data.base import Truth
from biomass_pl.errors import ConfigError, TrainingError
from biomass_pl.evaluation.report import Report
from biomass_pl.training.epoch_scores import EpochOutputs
from biomass_pl.training.export import Exportable
from biomass_pl.training.optim import ParameterGroup, TrainingLength, make_optimizer
from biomass_pl.training.precision_names import LightningPrecision

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What the best checkpoint is chosen by.

    Args:
        name: A logged score or loss.
        mode: Whether larger or smaller is better.
    """

    name: str
    mode: Literal["max", "min"] = "max"


@dataclass(frozen=True, kw_only=True)
class StepOutput:
    """What one batch gives.

    Args:
        losses: Parts of the loss; their sum is minimised.
        outputs: What else comes of it, by name, a row per item; such as `prediction`.
        measures: Other numbers of the batch by name, any number of each; their mean over an epoch is logged in training
            as `train/<name>`, unless there was none.
    """

    losses: dict[str, Tensor]
    outputs: dict[str, Tensor] = field(default_factory=dict)
    measures: dict[str, Tensor] = field(default_factory=dict)


@dataclass(kw_only=True)  # not frozen: where a trainer returns predictions, Lightning moves what is in them to the CPU
class PredictOutput:
    """What a batch is predicted to be.

    Args:
        ids: Names of the items.
        columns: Columns of the table of predictions: numbers (B,), or texts.
        arrays: Other arrays by name, a row per item; such as `embedding`.
    """

    ids: Sequence[str]
    columns: Mapping[str, Tensor | Sequence[str]]
    arrays: Mapping[str, Tensor]


class Task(LightningModule, abc.ABC):
    """A network, what it learns, and how it predicts."""

    objective: Objective
    """What early stopping and the best checkpoint watch."""

    report: Report
    """How the predictions are scored and shown."""

    truth: Truth | None = None
    """What is known of the labelled items; told when data module and task meet, before there is a trainer."""

    precisions: tuple[LightningPrecision, ...] = ("32-true", "16-mixed", "bf16-mixed")
    """Number formats that it can be trained in. Those missing here would convert labels with the inputs."""

    network: nn.Module
    """Made by `configure_model`."""

    def __init__(self) -> None:
        super().__init__()
        self._means: dict[tuple[str, str], MeanMetric] = {}
        self._newest: dict[str, Tensor] = {}

    @abc.abstractmethod
    def build(self) -> nn.Module:
        """Makes the network."""

    @abc.abstractmethod
    def step(self, batch: dict[str, Any]) -> StepOutput:
        """Losses and outputs of a labelled batch."""

    @abc.abstractmethod
    def predict_step(self, batch: dict[str, Any], batch_idx: int = 0) -> PredictOutput:
        """What a batch is predicted to be; it may be without labels."""

    @abc.abstractmethod
    def parameter_groups(self, length: TrainingLength) -> list[ParameterGroup]:
        """All that learns, in groups with their rates.

        Args:
            length: How long training lasts.
        """

    def kept_names(self) -> tuple[str, ...]:
        """Names of what `keep` keeps."""
        return "prediction", "target"

    def keep(self, output: StepOutput, batch: dict[str, Any]) -> dict[str, Tensor]:
        """What the scores of an epoch need of a validation batch, a row per item."""
        return output.outputs | {"target": batch["target"]}

    @abc.abstractmethod
    def score(self, kept: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Scores of a validation epoch by name, from all that was kept of it."""

    def set_up_for(self, data: Any) -> None:
        """Takes from the data what the network's shape depends on, and tells them what the task asks of them.

        Called before the network is built, when training or checking; a prediction has it from the checkpoint, through
        Lightning's `on_load_checkpoint`.

        Args:
            data: The data module.
        """

    def check_data(self, data: Any) -> None:
        """Refuses data that this task cannot learn from, before any training.

        Args:
            data: The data module, which knows the split.

        Raises:
            ConfigError: The items to learn from lack what a setting of the task needs.
        """

    def start_from(self, data: Any) -> None:
        """Takes from the items that it learns from what the network starts with.

        Args:
            data: The data module, which knows the split.
        """

    def configure_model(self) -> None:
        """Builds the network; a training starts from what its items say."""
        if "network" in self._modules:
            return
        data = self._trainer.datamodule if self._trainer is not None and self._trainer.training else None  # type: ignore[attr-defined]
        if data is not None:
            self.set_up_for(data)
        self.network = self.build()
        self.kept = EpochOutputs(names=self.kept_names())
        if data is not None:
            self.start_from(data)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Logs once an epoch: losses and measures as `train/...`, and the rates of its last step."""
        output = self.step(batch)
        for name, loss in output.losses.items():
            # Once per item: without its search for NaN, which would wait for the device, the metric knows no weights.
            self._add("loss", name, loss.detach().expand(len(batch["id"])))
        for name, measure in output.measures.items():
            self._add("measure", name, measure.detach().flatten())
        loss = _sum(output.losses)
        newest = _named("train", loss, output.losses) | {
            f"train/{name}": measure for name, measure in output.measures.items()
        }
        self._newest = {name: value.detach() for name, value in newest.items()}
        # Lightning's logging takes longer than a head on ready features learns; hence not in every step.
        if self.trainer.is_last_batch:
            losses = self._epoch_means("loss")
            self._log_epoch(_named("train", _sum(losses), losses), 1)
            self._log_epoch(rates_of(self.trainer.optimizers[0]), 1)
            means = self._epoch_means("measure").items()
            self._log_epoch({f"train/{name}": mean for name, mean in means if not mean.isnan()}, 1)
        return loss

    def newest_values(self) -> dict[str, Tensor]:
        """Losses, and means of measures, of the newest training batch, under the names that they have for an epoch."""
        return {name: value.float().mean() for name, value in self._newest.items()}

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Logs the loss and its parts as `val/...`, and keeps what the scores need."""
        output = self.step(batch)
        self._log_epoch(_named("val", _sum(output.losses), output.losses), len(batch["id"]))
        self.kept.update(self.keep(output, batch))

    def on_validation_epoch_end(self) -> None:
        """Logs the scores of all held-out items as `val/...`, and warns where there is none."""
        scores = {f"val/{name}": score for name, score in self.score(self.kept.compute()).items()}
        self.kept.reset()
        self.log_dict(scores)
        if math.isnan(scores.get(self.objective.name, 0.0)):
            logger.warning(
                "Epoch %d has no %s: the truth is the same for all items, or a prediction is not finite.",
                self.current_epoch + 1,
                self.objective.name,
            )

    def on_train_epoch_end(self) -> None:
        """Ends a training whose loss is no number.

        Raises:
            TrainingError: The mean loss of the epoch is not finite.
        """
        loss = self.trainer.callback_metrics.get("train/loss")
        if loss is not None and not math.isfinite(loss):
            raise TrainingError(
                f"The training loss became {float(loss)} in epoch {self.current_epoch + 1}. {self.divergence_advice()}"
            )

    def illustrate(self, data: Any, predictions: pd.DataFrame, arrays: Mapping[str, np.ndarray], folder: Path) -> None:
        """Draws what needs weights or photos of a fold, such as where the network looked.

        Args:
            data: The data module, whose held-out items are selected.
            predictions: Their rows of the out-of-fold table, by the weights that the network has now.
            arrays: The arrays of `predict_step`, of the same rows.
            folder: Where the pictures go.
        """

    def exportable(self) -> Exportable:
        """The part of the network that is of use alone, once the weights are loaded.

        Raises:
            ConfigError: There is none.
        """
        raise ConfigError(f"{type(self).__name__} has no part that can be exported; predict with it: biomass predict.")

    def divergence_advice(self) -> str:
        """What to change where the loss is no number."""
        return "Lower the rates or set trainer.gradient_clip_val."

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """One optimizer with the named groups; their rates change every step."""
        optimizer, schedule = make_optimizer(self.parameter_groups(self.training_length()), fused=self._can_fuse())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _can_fuse(self) -> bool:
        # A fused step would undo the scale of the gradients itself, after Lightning has clipped them.
        scales_gradients = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        return self.device.type in ("cpu", "cuda", "mps") and not scales_gradients

    def training_length(self) -> TrainingLength:
        """Epochs, and optimizer steps in each."""
        # Not `estimated_stepping_batches`: it starts the workers, before they could be told of features.
        batches = len(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        limit = self.trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        steps = math.ceil(batches / self.trainer.accumulate_grad_batches)
        return TrainingLength(epochs=self.trainer.max_epochs or 0, steps_per_epoch=max(1, steps))

    def _add(self, kind: str, name: str, values: Tensor) -> None:
        if (kind, name) not in self._means:
            self._means[kind, name] = MeanMetric(nan_strategy="disable").to(self.device)
        self._means[kind, name].update(values)

    def _epoch_means(self, kind: str) -> dict[str, Tensor]:
        """Means since the last call, over all processes."""
        means = {name: mean for (of_kind, name), mean in self._means.items() if of_kind == kind}
        computed = {name: mean.compute() for name, mean in means.items()}
        for mean in means.values():
            mean.reset()
        return computed

    def _log_epoch(self, values: Mapping[str, Tensor | float], weight: int) -> None:
        self.log_dict(dict(values), on_step=False, on_epoch=True, batch_size=weight, sync_dist=True)


def rates_of(optimizer: Optimizer) -> dict[str, float]:
    """The rate of each group as `rate/<group>`, and as `train/lr` that of the last, which learns from the start on."""
    rates = {f"rate/{group['name']}": group["lr"] for group in optimizer.param_groups}
    return {**rates, "train/lr": optimizer.param_groups[-1]["lr"]}


def _named(stage: str, loss: Tensor, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A loss and its parts, as they are logged."""
    return {f"{stage}/loss": loss, **{f"{stage}/loss_{name}": part for name, part in parts.items()}}


def _sum(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()
