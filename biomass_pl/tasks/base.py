"""What the training of every system shares: steps that log, optimizer, frozen epochs."""

import abc
import math
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from biomass_pl.errors import TrainingError
from biomass_pl.optim import FrozenEpochs, OptimConfig, TrainingLength, make_optimizer


@dataclass(frozen=True, kw_only=True)
class StepOutput:
    """What one batch gives.

    Args:
        losses: Parts of the loss; their sum is minimised.
        prediction: Predictions, a row per item.
        raw_prediction: The same before what the task corrects; none where it corrects nothing.
    """

    losses: dict[str, Tensor]
    prediction: Tensor
    raw_prediction: Tensor | None = None


class LossMeans:
    """Means of the parts of the loss over the items seen since they were last taken."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._items = 0

    def add(self, losses: dict[str, Tensor], items: int) -> None:
        """Adds the mean losses of a batch of items."""
        for name, loss in losses.items():
            self._sums[name] = self._sums.get(name, 0) + items * loss.detach()
        self._items += items

    def take(self) -> dict[str, Tensor]:
        """The means; the next items start anew."""
        means = {name: total / self._items for name, total in self._sums.items()}
        self._sums, self._items = {}, 0
        return means


class BaseTask(LightningModule, abc.ABC):
    """A network with a backbone, trained in one or two stages.

    Args:
        optim: Rates of the optimizer.
    """

    monitor: str
    """The logged score that early stopping and the best checkpoint watch; larger is better."""

    network: nn.Module
    """Made by `configure_model`; has a `backbone`."""

    def __init__(self, *, optim: OptimConfig) -> None:
        super().__init__()
        self.optim = optim
        self.frozen_epochs: FrozenEpochs = 0  # told by the BackboneFreeze callback
        self._means = LossMeans()

    @abc.abstractmethod
    def step(self, batch: dict[str, Any]) -> StepOutput:
        """Losses and predictions of a labelled batch."""

    @abc.abstractmethod
    def predict_step(self, batch: dict[str, Any], batch_idx: int = 0) -> dict[str, Any]:
        """A dictionary of `id` (list) and a tensor per predicted column."""

    @abc.abstractmethod
    def update_scores(self, output: StepOutput, batch: dict[str, Any]) -> None:
        """Keeps what the scores of the validation epoch need."""

    def check_data(self, data: Any) -> None:
        """Refuses data that this task cannot learn from, before any training.

        Args:
            data: The data module, which knows the fold.

        Raises:
            ConfigError: The training fold lacks what a setting of the task needs.
        """

    @property
    def backbone(self) -> nn.Module:
        """The part of the network that can be frozen."""
        backbone = self.network.backbone
        if not isinstance(backbone, nn.Module):
            msg = f"{type(self.network)} has no backbone"
            raise TypeError(msg)
        return backbone

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Logs, in the last step of an epoch, its losses as `train/...` and the rate of each group as `rate/...`."""
        losses = self.step(batch).losses
        self._means.add(losses, len(batch["id"]))
        # Lightning's logging takes longer than a head on ready features learns; hence not in every step.
        if self.trainer.is_last_batch:
            for group in self.trainer.optimizers[0].param_groups:
                self.log(f"rate/{group['name']}", group["lr"], on_step=True, on_epoch=False)
            self._log_losses("train", self._means.take(), 1)
        return _sum(losses)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Logs the loss and its parts as `val/...`, and keeps the predictions for the scores."""
        output = self.step(batch)
        self._log_losses("val", output.losses, len(batch["id"]))
        self.update_scores(output, batch)

    def on_train_epoch_end(self) -> None:
        """Ends a training whose loss is no number.

        Raises:
            TrainingError: The mean loss of the epoch is not finite.
        """
        loss = self.trainer.callback_metrics.get("train/loss")
        if loss is not None and not math.isfinite(loss):
            raise TrainingError(
                f"The training loss became {float(loss)} in epoch {self.current_epoch}. Lower the rates "
                "(model.optim.head_lr, head_lr_frozen, backbone_lr) or set trainer.gradient_clip_val."
            )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """One optimizer with the groups `backbone` and `head`; both rates change every step."""
        backbone = list(self.backbone.parameters())
        in_backbone = {id(parameter) for parameter in backbone}
        optimizer, schedule = make_optimizer(
            backbone=backbone,
            head=[parameter for parameter in self.parameters() if id(parameter) not in in_backbone],
            config=self.optim,
            length=self._training_length(),
            fused=self._can_fuse(),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _can_fuse(self) -> bool:
        # A fused step would undo the scale of the gradients itself, after Lightning has clipped them.
        scales_gradients = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        return self.device.type in ("cpu", "cuda", "mps") and not scales_gradients

    def _training_length(self) -> TrainingLength:
        epochs = self.trainer.max_epochs or 0
        steps = self.trainer.estimated_stepping_batches
        return TrainingLength(
            epochs=epochs, steps_per_epoch=math.ceil(steps / epochs), frozen_epochs=self.frozen_epochs
        )

    def _log_losses(self, stage: str, losses: dict[str, Tensor], weight: int) -> None:
        parts = {f"{stage}/loss_{name}": part for name, part in losses.items()}
        self.log_dict(
            {f"{stage}/loss": _sum(losses), **parts}, on_step=False, on_epoch=True, batch_size=weight, sync_dist=True
        )


def _sum(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()
