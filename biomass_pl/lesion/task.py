"""Training of the lesion classifier."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biomass_pl.errors import ConfigError
from biomass_pl.lesion.classifier import BACKBONES, BinaryClassifier
from biomass_pl.lesion.losses import BinaryLoss, FocalLoss
from biomass_pl.lesion.partial_auc import lesion_scores
from biomass_pl.lesion.report import LesionReport
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.image_task import ImageTask
from biomass_pl.training.task import Objective, StepOutput


class LesionClassifier(ImageTask):
    """Predicts how likely a lesion is malignant.

    Args:
        backbone: vit_tiny, vit_small, vit_base, eva02_small, eva02_base, convnextv2_nano, _tiny or _base,
            convnext_small or _base; or the name of any timm network.
        dropout: Dropout rate before the last layer, 0 to 1.
        loss: FocalLoss or CrossEntropyLoss; none: FocalLoss.
        **kwargs: Settings of every model.
    """

    objective = Objective(name="val/pauc")
    report = LesionReport()
    network: BinaryClassifier

    def __init__(
        self, *, backbone: str = "vit_tiny", dropout: float = 0.2, loss: BinaryLoss | None = None, **kwargs: Any
    ) -> None:
        super().__init__(backbone=BACKBONES.get(backbone, backbone), **kwargs)
        if not 0 <= dropout < 1:
            raise ConfigError(f"model.dropout is {dropout}; give a rate from 0 to below 1.")
        # A loss is a module, which a checkpoint that holds plain values only cannot carry.
        self.save_hyperparameters(ignore=["loss"])
        self.dropout = dropout
        self.loss = loss or FocalLoss()

    def make_network(self, backbone: Backbone) -> BinaryClassifier:
        """Backbone and one linear layer."""
        return BinaryClassifier(backbone=backbone, num_features=backbone.num_features, dropout=self.dropout)

    def score(self, kept: Mapping[str, np.ndarray]) -> dict[str, float]:
        """`pauc` and `auc`."""
        return lesion_scores(kept["target"], kept["prediction"])

    def step(self, batch: dict[str, Any]) -> StepOutput:
        """Loss and logits of a labelled batch."""
        logits = self._logits(self.features(batch))
        return StepOutput(losses={"classification": self.loss(logits, batch["target"])}, outputs={"prediction": logits})

    def predict_columns(self, features: Tensor) -> dict[str, Tensor]:
        """Probabilities under `target_pred`, float64: in float32 those near 1 would be equal."""
        return {"target_pred": self._logits(features).cpu().double().sigmoid()}

    def _logits(self, features: Tensor) -> Tensor:
        # Not under autocast: rounded logits would tie, which costs score.
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.network.head(features.float()).squeeze(dim=1)
        return logits
