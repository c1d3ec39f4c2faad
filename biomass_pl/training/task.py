"""What the training of every system shares: steps that log, optimizer, frozen epochs."""

import abc
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from biomass_pl.errors import ConfigError, TrainingError
from biomass_pl.evaluation.boosters import Kind
from biomass_pl.evaluation.report import Report
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.epoch_scores import EpochScores
from biomass_pl.training.optim import FrozenEpochs, OptimConfig, TrainingLength, make_optimizer

logger = logging.getLogger(__name__)


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
        backbone: Name of any timm network.
        pretrained: Start from timm's weights for this backbone, fetched once.
        backbone_weights: Local weights file for the backbone (safetensors or a state dict), instead of timm's.
        tile_size: Side in pixels of what the backbone takes; set by the data.
        tile_batch: Tiles that the backbone takes at once, for small memories; 0 takes all.
        compile: Compile the backbone with torch.compile: slow to start, then faster on a GPU.
        grad_checkpointing: Compute activations again in the backward pass: less memory, a fifth more time.
        optim: Rates of the optimizer.
    """

    monitor: ClassVar[str]
    """The logged score that early stopping and the best checkpoint watch; larger is better."""

    kind: ClassVar[Kind]
    """What the targets are."""

    targets: ClassVar[tuple[str, ...]]
    """Columns of the truth; predictions are named `<target>_pred`."""

    report: ClassVar[Report]
    """How the predictions are scored and shown."""

    network: nn.Module
    """Made by `configure_model`; has a `backbone`."""

    def __init__(
        self,
        *,
        backbone: str,
        pretrained: bool = True,
        backbone_weights: Path | None = None,
        tile_size: int = 518,
        tile_batch: int = 0,
        compile: bool = False,
        grad_checkpointing: bool = False,
        optim: OptimConfig = OptimConfig(),
    ) -> None:
        super().__init__()
        if tile_batch < 0:
            raise ConfigError(f"model.tile_batch is {tile_batch}; give 0 (all tiles at once) or more.")
        self.backbone_name = backbone
        self.pretrained = pretrained
        self.backbone_weights = backbone_weights
        self.tile_size = tile_size
        self.tile_batch = tile_batch
        self.compile_backbone = compile
        self.grad_checkpointing = grad_checkpointing
        self.optim = optim
        self.frozen_epochs: FrozenEpochs = 0  # told by the BackboneFreeze callback
        self.scores = EpochScores(score=self.score)
        self._means = LossMeans()

    @abc.abstractmethod
    def make_network(self, backbone: Backbone) -> nn.Module:
        """The network around a backbone, as its `backbone`."""

    @abc.abstractmethod
    def step(self, batch: dict[str, Any]) -> StepOutput:
        """Losses and predictions of a labelled batch."""

    @abc.abstractmethod
    def predict_targets(self, features: Tensor) -> Tensor:
        """Predictions (B, targets) as they stand in tables, from the output of the backbone."""

    @staticmethod
    @abc.abstractmethod
    def score(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
        """Scores of a validation epoch by name, from truth and prediction."""

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

    def configure_model(self) -> None:
        """Builds the network; a training starts from what the training fold says."""
        if "network" in self._modules:
            return
        backbone = Backbone(
            name=self.backbone_name,
            tile_size=self.tile_size,
            pretrained=self.pretrained,
            weights=self.backbone_weights,
            grad_checkpointing=self.grad_checkpointing,
            tile_batch=self.tile_batch,
        )
        if self.compile_backbone:
            backbone.network.compile()  # in place: weights keep their names
        if self.frozen_epochs == "all":
            # Before several processes wrap the network: none of them then waits for gradients that never come.
            backbone.requires_grad_(False)
        self.network = self.make_network(backbone)
        if self._trainer is not None and self._trainer.training:
            self.start_from(self.trainer.datamodule)  # type: ignore[attr-defined]

    def start_from(self, data: Any) -> None:
        """Takes from the training fold of a data module what the model starts with.

        Args:
            data: The data module, which knows the fold.
        """

    def features(self, batch: dict[str, Any]) -> Tensor:
        """Output of the backbone (..., D), or what the feature bank kept of it."""
        features: Tensor = batch["features"] if "features" in batch else self.backbone(batch["tiles"])
        return features

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

    def update_scores(self, output: StepOutput, batch: dict[str, Any]) -> None:
        """Keeps predictions and truth for the scores of the epoch."""
        self.scores.update(output.prediction, batch["target"])

    def on_validation_epoch_end(self) -> None:
        """Logs the scores of the whole fold as `val/...`, and warns where there is none."""
        scores = {f"val/{name}": score for name, score in self.scores.compute().items()}
        self.scores.reset()
        self.log_dict(scores)
        if math.isnan(scores[self.monitor]):
            logger.warning(
                "Epoch %d has no %s: the truth is the same for all photos, or a prediction is not finite.",
                self.current_epoch,
                self.monitor,
            )

    def predict_step(self, batch: dict[str, Any], batch_idx: int = 0) -> dict[str, Any]:
        """`id`, the predictions under `<target>_pred`, and `embedding` (B, D), the mean feature of each photo."""
        features = self.features(batch)
        columns = self.predict_targets(features).unbind(dim=1)
        named = {f"{target}_pred": column for target, column in zip(self.targets, columns, strict=True)}
        photos = len(batch["id"])
        return {"id": batch["id"], **named, "embedding": features.reshape(photos, -1, features.shape[-1]).mean(dim=1)}

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
