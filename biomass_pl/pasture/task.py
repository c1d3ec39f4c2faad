"""Training of pasture models; here the two whose sums are exact."""

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biomass_pl.errors import ConfigError
from biomass_pl.pasture.fusion import StereoFusion, StereoNetwork
from biomass_pl.pasture.heads import BiomassHead, HierarchicalRatioHead, SoftmaxRatioHead
from biomass_pl.pasture.losses import PastureLoss, WeightedLoss
from biomass_pl.pasture.report import PastureReport
from biomass_pl.pasture.scores import pasture_scores
from biomass_pl.pasture.targets import TARGETS
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.image_task import ImageTask
from biomass_pl.training.task import Objective, StepOutput


class PastureTask(ImageTask):
    """Predicts the grams of the five targets from the tiles of a photo's views, two halves or one.

    Args:
        backbone: Name of any timm network.
        hidden_ratio: Hidden length as a share of the joined features of all views.
        dropout: Dropout rate of the head, 0 to 1.
        film: Condition each view on the other, where there are two.
        attention_pool: Weigh tiles by attention, not equally.
        log_target: Compare log1p(grams) in the loss, so that small amounts count as much as large ones.
        loss: The loss; none: the model's published one.
        **kwargs: Settings of every model.
    """

    objective = Objective(name="val/weighted_r2")
    report = PastureReport()
    network: StereoNetwork

    def __init__(
        self,
        *,
        backbone: str = "vit_base_patch14_reg4_dinov2.lvd142m",
        hidden_ratio: float = 0.5,
        dropout: float = 0.2,
        film: bool = True,
        attention_pool: bool = True,
        log_target: bool = False,
        loss: PastureLoss | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, **kwargs)
        if not 0 <= dropout < 1:
            raise ConfigError(f"model.dropout is {dropout}; give a rate from 0 to below 1.")
        if hidden_ratio <= 0:
            raise ConfigError(f"model.hidden_ratio is {hidden_ratio}; give more than 0.")
        # A loss is a module, which a checkpoint that holds plain values only cannot carry.
        self.save_hyperparameters(ignore=["loss"])
        self.hidden_ratio = hidden_ratio
        self.dropout = dropout
        self.film = film
        self.attention_pool = attention_pool
        self.log_target = log_target
        self.loss = loss or self.published_loss()
        self.views = 2

    @abc.abstractmethod
    def make_head(self, hidden: int) -> BiomassHead:
        """The head for vectors of this length."""

    def published_loss(self) -> PastureLoss:
        """The loss of the published script."""
        return WeightedLoss()

    def set_up_for(self, data: Any) -> None:
        """Takes the number of views of a photo."""
        super().set_up_for(data)
        self.views = data.view_shape()[0]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the number of views with the weights."""
        checkpoint["views"] = self.views

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the number of views that the weights are for; two where the checkpoint is older than the choice."""
        views = 1 if checkpoint.get("views") == 1 else 2
        if views != self.views and self._modules.pop("network", None) is not None:
            self.views = views
            self.configure_model()
        self.views = views

    def make_network(self, backbone: Backbone) -> StereoNetwork:
        """Backbone, fusion of the views, head."""
        fusion = StereoFusion(
            num_features=backbone.num_features,
            hidden_ratio=self.hidden_ratio,
            dropout=self.dropout,
            film=self.film,
            attention_pool=self.attention_pool,
            views=self.views,
        )
        network = StereoNetwork(backbone=backbone, fusion=fusion, head=self.make_head(fusion.hidden))
        self.add_modules(fusion.hidden)
        return network

    def add_modules(self, hidden: int) -> None:
        """Makes what a model has beside the network, for vectors of this length."""

    def start_from(self, data: Any) -> None:
        """Takes the means of the targets of the training fold."""
        super().start_from(data)
        self.network.head.start_at(torch.tensor(data.training_targets()))

    def score(self, kept: Mapping[str, np.ndarray]) -> dict[str, float]:
        """`weighted_r2`, `mean_r2` and `r2_<target>`."""
        return pasture_scores(kept["target"], kept["prediction"])

    def step(self, batch: dict[str, Any]) -> StepOutput:
        """Losses and grams of a labelled batch."""
        prediction = self.network.head(self.network.fusion(self.features(batch)))
        losses = self.loss(prediction, batch["target"], log_target=self.log_target)
        return StepOutput(losses=losses, outputs={"prediction": prediction})

    def predict_columns(self, features: Tensor) -> dict[str, Tensor]:
        """Grams under `<target>_pred`."""
        grams = self.predict_grams(features).unbind(dim=1)
        return {f"{target}_pred": column for target, column in zip(TARGETS, grams, strict=True)}

    def predict_grams(self, features: Tensor) -> Tensor:
        """Grams (B, 5) from the output of the backbone."""
        grams: Tensor = self.network.head(self.network.fusion(features))
        return grams


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
