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
        """Logs the loss and its parts as `train/...`, and the rate of each group as `rate/...`."""
        for group in self.trainer.optimizers[0].param_groups:
            self.log(f"rate/{group['name']}", group["lr"], on_step=True, on_epoch=False)
        return self._log_losses("train", self.step(batch), len(batch["id"]))

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Logs the loss and its parts as `val/...`, and keeps the predictions for the scores."""
        output = self.step(batch)
        self._log_losses("val", output, len(batch["id"]))
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

    def _log_losses(self, stage: str, output: StepOutput, batch_size: int) -> Tensor:
        loss = torch.stack(list(output.losses.values())).sum()
        parts = {f"{stage}/loss_{name}": part for name, part in output.losses.items()}
        self.log_dict(
            {f"{stage}/loss": loss, **parts},
            on_step=False,
            on_epoch=True,
            batch_size=batch_size,
            sync_dist=True,
        )
        return loss
