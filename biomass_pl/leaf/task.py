"""Training of the leaf disease classifier."""

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from biomass_pl.errors import ConfigError, RunError
from biomass_pl.evaluation.class_pictures import attention_sheet, embedding_map
from biomass_pl.evaluation.class_scores import class_scores
from biomass_pl.evaluation.pictures import save_figure
from biomass_pl.leaf.classifier import ClassifierNetwork
from biomass_pl.leaf.losses import ClassLoss, CombinedLoss, class_weights
from biomass_pl.leaf.report import PROBABILITY_PREFIX, LeafReport
from biomass_pl.leaf.two_streams import BandStream
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.batch_mixing import BatchMixing
from biomass_pl.training.explanation import where_it_looked
from biomass_pl.training.image_task import ImageTask
from biomass_pl.training.task import Objective, StepOutput

logger = logging.getLogger(__name__)

_EXPLAINED = 8
"""Photos of a fold on which it is shown where the network looked."""


class LeafClassifier(ImageTask):
    """Predicts how likely a leaf has each disease.

    Args:
        backbone: hvit_tiny, hvit_small, hvit_base or hvit_xl; or the name of any timm network.
        dropout: Dropout rate before the last layer, 0 to 1.
        loss: CombinedLoss, FocalLoss or CrossEntropyLoss; none: CombinedLoss.
        class_weights: Weigh classes in the loss so that rare ones count as much as frequent ones.
        mixing: Mix the photos of a batch, MixUp or CutMix, with their classes; none: do not.
        spectral_channels: Number of further bands of each photo, from data.spectral; 0: none.
        use_dfca: Bring bands and colours together by cross-attention; otherwise by concatenation. None: by attention.
        **kwargs: Settings of every model.
    """

    objective = Objective(name="val/f1_macro")
    report = LeafReport()
    network: ClassifierNetwork
    class_weights: Tensor

    def __init__(
        self,
        *,
        backbone: str = "hvit_small",
        dropout: float = 0.0,
        loss: ClassLoss | None = None,
        class_weights: bool = False,
        mixing: BatchMixing | None = None,
        spectral_channels: int = 0,
        use_dfca: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, **kwargs)
        if not 0 <= dropout < 1:
            raise ConfigError(f"model.dropout is {dropout}; give a rate from 0 to below 1.")
        if spectral_channels < 0:
            raise ConfigError(f"model.spectral_channels is {spectral_channels}; give 0 or more.")
        if spectral_channels and self.tile_batch:
            raise ConfigError("model.tile_batch cuts batches of photos without further bands only. Set it to 0.")
        # A loss is a module, which a checkpoint that holds plain values only cannot carry.
        self.save_hyperparameters(ignore=["loss"])
        self.dropout = dropout
        self.loss = loss or CombinedLoss()
        self.weighs_classes = class_weights
        self.mixing = mixing
        self.spectral_channels = spectral_channels
        self.use_dfca = use_dfca
        self.classes: list[str] = []

    def set_up_for(self, data: Any) -> None:
        """Takes the names of the classes."""
        self.classes = list(data.classes)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the names of the classes with the weights."""
        checkpoint["classes"] = self.classes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the names of the classes that the weights are for, and builds the network for them.

        Raises:
            RunError: The checkpoint does not tell them.
        """
        classes = checkpoint.get("classes")
        if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
            raise RunError("A checkpoint does not tell its classes: it is damaged. Train the fold again.")
        self.classes = classes
        self.configure_model()

    def check_data(self, data: Any) -> None:
        """Refuses bands without their setting or the other way round, and classes that are balanced twice.

        Raises:
            ConfigError: Names the settings.
        """
        super().check_data(data)
        if data.band_count != self.spectral_channels:
            raise ConfigError(
                f"model.spectral_channels is {self.spectral_channels}, and data.spectral has {data.band_count} bands "
                "for each photo. Make them agree; without bands, leave both out."
            )
        if self.weighs_classes and data.balance == "sampler":
            raise ConfigError(
                "model.class_weights and data.balance: sampler would both make up for rare classes, twice. "
                "Give one of them."
            )

    def configure_model(self) -> None:
        """Builds the network if its classes are known; `load_from_checkpoint` asks before it tells them."""
        if self.classes or self._trainer is not None:
            super().configure_model()

    def make_network(self, backbone: Backbone) -> ClassifierNetwork:
        """Backbone, bands where there are any, and one linear layer; warns of a fusion without anything to fuse."""
        if self.use_dfca and not self.spectral_channels:
            _warn_of_fusion_without_bands()
        self.register_buffer("class_weights", torch.ones(len(self.classes)))
        bands = None
        if self.spectral_channels:
            bands = BandStream(
                backbone=backbone,
                channels=self.spectral_channels,
                by_attention=self.use_dfca is not False,
                grad_checkpointing=self.grad_checkpointing,
            )
        return ClassifierNetwork(backbone=backbone, classes=len(self.classes), dropout=self.dropout, bands=bands)

    def start_from(self, data: Any) -> None:
        """Takes what classes weigh, and how bands are standardised, from the photos to learn from."""
        super().start_from(data)
        if self.weighs_classes:
            counts = dict(zip(self.classes, data.class_counts().tolist(), strict=True))
            self.class_weights.copy_(class_weights(counts))
        if self.network.bands is not None:
            mean, std = data.band_statistics()
            self.network.bands.standardise_by(torch.from_numpy(mean), torch.from_numpy(std))

    def features(self, batch: dict[str, Any]) -> Tensor:
        """Output of the backbone (B, D), fused with the bands where there are any, or what was given for it."""
        if "features" in batch:
            return super().features(batch)
        return self.network.features(batch["tiles"], batch.get("bands"))

    def score(self, kept: Mapping[str, np.ndarray]) -> dict[str, float]:
        """`accuracy` and `f1_macro`."""
        logits = torch.from_numpy(kept["prediction"])
        scores = class_scores(kept["target"].astype(int), logits.softmax(dim=1).numpy())
        return {name: scores[name] for name in ("accuracy", "f1_macro")}

    def step(self, batch: dict[str, Any]) -> StepOutput:
        """Loss and logits of a labelled batch, mixed in training where asked for."""
        shares, mixed = F.one_hot(batch["target"], len(self.classes)).float(), False
        pixels = {name: batch[name] for name in ("tiles", "bands") if name in batch}
        if self.training and self.mixing is not None and pixels:
            mixed_pixels, shares, mixed = self.mixing.mix(list(pixels.values()), shares)
            pixels = dict(zip(pixels, mixed_pixels, strict=True))
        logits = self._logits(self.features(batch | pixels))
        right = (logits.argmax(dim=1) == batch["target"]).float()
        return StepOutput(
            losses={"classification": self.loss(logits, shares, self.class_weights if self.weighs_classes else None)},
            outputs={"prediction": logits},
            # What a mixed photo shows has no one class to be right about.
            measures={"accuracy": right[:0] if mixed else right},
        )

    def predict_columns(self, features: Tensor) -> dict[str, Tensor]:
        """Probabilities under `prob_<class>`, float64: in float32 those near 1 would be equal."""
        probabilities = self._logits(features).cpu().double().softmax(dim=1).unbind(dim=1)
        return {f"{PROBABILITY_PREFIX}{name}": column for name, column in zip(self.classes, probabilities, strict=True)}

    def illustrate(self, data: Any, predictions: pd.DataFrame, arrays: Mapping[str, np.ndarray], folder: Path) -> None:
        """Draws `embeddings.png`, held-out photos as the network sees them, and `attention.png`, where it looked."""
        save_figure(embedding_map(arrays["embedding"], predictions["label"].tolist()), folder / "embeddings.png")
        if data.given is not None:
            return  # there is no photo to look at
        rows = _one_of_each(predictions["label"])
        dataset: Any = data.plain_loader(held_out=True).dataset
        items = [dataset[row, 0] for row in rows]
        maps = [self._where_it_looked(item) for item in items]
        titles = [f"{row.label}\n→ {row.label_pred}" for row in predictions.iloc[rows].itertuples()]
        photos = [item["tiles"].permute(1, 2, 0).numpy() for item in items]
        attention_sheet(photos, maps, titles, folder / "attention.png")

    def _where_it_looked(self, item: dict[str, Any]) -> np.ndarray:
        self.eval()
        tiles = item["tiles"][None].to(self.device)
        bands = item["bands"][None].to(self.device) if "bands" in item else None
        return where_it_looked(self.backbone, tiles, lambda pixels: self.network(pixels, bands))

    def _logits(self, features: Tensor) -> Tensor:
        # Not under autocast: rounded logits would tie.
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.network.head(features.float())
        return logits


@cache  # told once, however many folds there are
def _warn_of_fusion_without_bands() -> None:
    logger.warning("model.use_dfca does nothing without bands: set data.spectral and model.spectral_channels")


def _one_of_each(labels: pd.Series) -> list[int]:
    """Rows of the first photos of as many classes as are shown, then of more photos of them."""
    turn = labels.groupby(labels).cumcount().to_numpy()
    return [int(row) for row in np.argsort(turn, kind="stable")[:_EXPLAINED]]
