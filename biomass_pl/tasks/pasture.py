"""Training of pasture models; here the two whose sums are exact."""

import abc
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biomass_pl.errors import ConfigError
from biomass_pl.losses.pasture import PastureLoss, WeightedLoss
from biomass_pl.metrics.epoch import EpochScores
from biomass_pl.models.backbone import Backbone
from biomass_pl.models.heads import BiomassHead, HierarchicalRatioHead, SoftmaxRatioHead
from biomass_pl.models.stereo import StereoFusion, StereoNetwork
from biomass_pl.optim import OptimConfig
from biomass_pl.targets import TARGETS
from biomass_pl.tasks.base import BaseTask, StepOutput


class PastureTask(BaseTask):
    """Predicts the grams of the five targets from the tiles of a photo's two views.

    Args:
        backbone: Name of any timm network.
        pretrained: Start from timm's weights for this backbone, fetched once.
        backbone_weights: Local weights file for the backbone (safetensors or a state dict), instead of timm's.
        tile_size: Side of a tile in pixels; set by data.tile_size.
        hidden_ratio: Hidden length as a share of the joined features of both views.
        dropout: Dropout rate of the head, 0 to 1.
        film: Condition each view on the other.
        attention_pool: Weigh tiles by attention, not equally.
        tile_batch: Tiles that the backbone takes at once, for small memories; 0 takes all.
        compile: Compile the backbone with torch.compile: slow to start, then faster on a GPU.
        grad_checkpointing: Compute activations again in the backward pass: less memory, a fifth more time.
        log_target: Compare log1p(grams) in the loss, so that small amounts count as much as large ones.
        loss: The loss; none: the model's published one.
        optim: Rates of the optimizer.
    """

    monitor = "val/weighted_r2"
    network: StereoNetwork

    def __init__(
        self,
        *,
        backbone: str = "vit_base_patch14_reg4_dinov2.lvd142m",
        pretrained: bool = True,
        backbone_weights: Path | None = None,
        tile_size: int = 518,
        hidden_ratio: float = 0.5,
        dropout: float = 0.2,
        film: bool = True,
        attention_pool: bool = True,
        tile_batch: int = 0,
        compile: bool = False,
        grad_checkpointing: bool = False,
        log_target: bool = False,
        loss: PastureLoss | None = None,
        optim: OptimConfig = OptimConfig(),
    ) -> None:
        super().__init__(optim=optim)
        if not 0 <= dropout < 1:
            raise ConfigError(f"model.dropout is {dropout}; give a rate from 0 to below 1.")
        if hidden_ratio <= 0:
            raise ConfigError(f"model.hidden_ratio is {hidden_ratio}; give more than 0.")
        # A loss is a module, which a checkpoint that holds plain values only cannot carry.
        self.save_hyperparameters(ignore=["loss"])
        self.backbone_name = backbone
        self.pretrained = pretrained
        self.backbone_weights = backbone_weights
        self.tile_size = tile_size
        self.hidden_ratio = hidden_ratio
        self.dropout = dropout
        self.film = film
        self.attention_pool = attention_pool
        if tile_batch < 0:
            raise ConfigError(f"model.tile_batch is {tile_batch}; give 0 (all tiles at once) or more.")
        self.tile_batch = tile_batch
        self.compile_backbone = compile
        self.grad_checkpointing = grad_checkpointing
        self.log_target = log_target
        self.loss = loss or self.published_loss()
        self.scores = EpochScores()

    @abc.abstractmethod
    def make_head(self, hidden: int) -> BiomassHead:
        """The head for vectors of this length."""

    def published_loss(self) -> PastureLoss:
        """The loss of the published script."""
        return WeightedLoss()

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
        fusion = StereoFusion(
            num_features=backbone.num_features,
            hidden_ratio=self.hidden_ratio,
            dropout=self.dropout,
            film=self.film,
            attention_pool=self.attention_pool,
        )
        self.network = StereoNetwork(backbone=backbone, fusion=fusion, head=self.make_head(fusion.hidden))
        self.add_modules(fusion.hidden)
        if self._trainer is not None and self._trainer.training:
            self.start_from(self.trainer.datamodule)  # type: ignore[attr-defined]

    def add_modules(self, hidden: int) -> None:
        """Makes what a model has beside the network, for vectors of this length."""

    def start_from(self, data: Any) -> None:
        """Takes from the training fold of a data module what the model starts with: the means of the targets."""
        self.network.head.start_at(torch.tensor(data.training_targets()))

    def step(self, batch: dict[str, Any]) -> StepOutput:
        """Losses and grams of a labelled batch."""
        prediction = self.network.head(self.encode(batch))
        losses = self.loss(prediction, batch["target"], log_target=self.log_target)
        return StepOutput(losses=losses, prediction=prediction)

    def update_scores(self, output: StepOutput, batch: dict[str, Any]) -> None:
        """Keeps grams, predicted and true, for the scores of the epoch."""
        self.scores.update(output.prediction, batch["target"])

    def on_validation_epoch_end(self) -> None:
        """Logs the scores of the whole fold as `val/...`."""
        self.log_dict({f"val/{name}": score for name, score in self.scores.compute().items()})
        self.scores.reset()

    def predict_step(self, batch: dict[str, Any], batch_idx: int = 0) -> dict[str, Any]:
        """`id`, and the predicted grams under `<target>_pred`."""
        named = zip(TARGETS, self.predict_grams(batch).unbind(dim=1), strict=True)
        return {"id": batch["id"], **{f"{target}_pred": column for target, column in named}}

    def predict_grams(self, batch: dict[str, Any]) -> Tensor:
        """Grams (B, 5)."""
        grams: Tensor = self.network.head(self.encode(batch))
        return grams

    def encode(self, batch: dict[str, Any]) -> Tensor:
        """One vector per photo (B, hidden), from its tiles or from what a frozen backbone made of them."""
        features = batch["features"] if "features" in batch else self.network.backbone(batch["tiles"])
        vectors: Tensor = self.network.fusion(features)
        return vectors


class HierarchicalRatio(PastureTask):
    """Total, then the share of GDM in it, then the share of green in that: exact sums, nothing below zero."""

    def make_head(self, hidden: int) -> BiomassHead:
        """The hierarchical head."""
        return HierarchicalRatioHead(hidden=hidden, dropout=self.dropout, log_target=self.log_target)


class SoftmaxRatio(PastureTask):
    """Total, and the shares of green, dead and clover in it: exact sums, nothing below zero.

    Args:
        ratio_temperature: Divides the logits of the shares; above 1 evens them out.
        **kwargs: Settings of every pasture model.
    """

    def __init__(self, *, ratio_temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if ratio_temperature <= 0:
            raise ConfigError(f"model.ratio_temperature is {ratio_temperature}; give more than 0.")
        self.ratio_temperature = ratio_temperature

    def make_head(self, hidden: int) -> BiomassHead:
        """The softmax head."""
        return SoftmaxRatioHead(
            hidden=hidden,
            dropout=self.dropout,
            log_target=self.log_target,
            temperature=self.ratio_temperature,
        )
