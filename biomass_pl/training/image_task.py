"""Tasks on pictures: a timm backbone that can be frozen, whose features may come from the bank."""

import abc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.random import fork_rng

from biomass_pl.errors import ConfigError
from biomass_pl.training.backbone import Backbone, load_encoder
from biomass_pl.training.given_backbone import GivenBackbone
from biomass_pl.training.initial_weights import check_origin, initial_encoder
from biomass_pl.training.optim import FrozenEpochs, OptimConfig, ParameterGroup, TrainingLength, backbone_and_head
from biomass_pl.training.task import PredictOutput, Task


class ImageTask(Task):
    """A network with a timm backbone, trained in one or two stages.

    Args:
        backbone: Name of any timm network.
        pretrained: Start from timm's weights of this name: from its cache, else an installed package, else fetched.
        backbone_weights: Local weights file for the backbone (safetensors or a state dict), instead of timm's.
        backbone_args: Options of the timm network, such as drop_path_rate.
        init_from: Folder of a run on the same folds, such as one of SimCLR, whose fold k gives fold k its backbone.
        tile_size: Side in pixels of what the backbone takes; set by the data.
        tile_batch: Tiles that the backbone takes at once, for small memories; 0 takes all.
        compile: Compile the backbone with torch.compile: slow to start, then faster on a GPU.
        grad_checkpointing: Compute activations again in the backward pass: less memory, a fifth more time.
        optim: Rates of the optimizer.
        given_width: Length of feature vectors that are given in place of a backbone, which is then not built; set by
            the data.
    """

    patches: ClassVar[bool] = False
    """Whether the network takes a vector of every patch of a tile from the backbone, or one of the tile."""

    def __init__(
        self,
        *,
        backbone: str,
        pretrained: bool = True,
        backbone_weights: Path | None = None,
        backbone_args: dict[str, Any] | None = None,
        init_from: Path | None = None,
        tile_size: int = 518,
        tile_batch: int = 0,
        compile: bool = False,
        grad_checkpointing: bool = False,
        optim: OptimConfig = OptimConfig(),
        given_width: int | None = None,
    ) -> None:
        super().__init__()
        if tile_batch < 0:
            raise ConfigError(f"model.tile_batch is {tile_batch}; give 0 (all tiles at once) or more.")
        if init_from is not None and backbone_weights is not None:
            raise ConfigError("model.init_from and model.backbone_weights both give the backbone's weights. Give one.")
        self.backbone_name = backbone
        self.pretrained = pretrained
        self.backbone_weights = backbone_weights
        self.backbone_args = backbone_args or {}
        self.given_width = given_width
        self.init_from = init_from if given_width is None else None
        self._checked_fold: int | None = None
        self.tile_size = tile_size
        self.tile_batch = tile_batch
        self.compile_backbone = compile
        self.grad_checkpointing = grad_checkpointing
        self.optim = optim
        # Told by the BackboneFreeze callback; what is given never learns.
        self.frozen_epochs: FrozenEpochs = 0 if given_width is None else "all"

    @abc.abstractmethod
    def make_network(self, backbone: Backbone) -> nn.Module:
        """The network around a backbone, as its `backbone`."""

    @abc.abstractmethod
    def predict_columns(self, features: Tensor) -> Mapping[str, Tensor]:
        """Columns of the table of predictions, numbers (B,), from the output of the backbone."""

    @property
    def backbone(self) -> Backbone:
        """The part of the network that can be frozen."""
        backbone = self.network.backbone
        if not isinstance(backbone, Backbone):
            msg = f"{type(self.network)} has no backbone"
            raise TypeError(msg)
        return backbone

    def origin(self) -> str:
        """What the backbone starts from, in a few words."""
        if self.init_from is not None:
            return f"the backbones of {self.init_from}, fold by fold"
        return self.backbone.origin

    def make_backbone(self, *, patches: bool) -> Backbone:
        """The backbone with the weights that it starts from, but for those of another run.

        Args:
            patches: Give a vector for each patch of a tile, instead of one for the tile.
        """
        return Backbone(
            name=self.backbone_name,
            tile_size=self.tile_size,
            pretrained=self.pretrained and self.init_from is None,
            weights=self.backbone_weights,
            grad_checkpointing=self.grad_checkpointing,
            tile_batch=self.tile_batch,
            args=self.backbone_args,
            patches=patches,
        )

    def build(self) -> nn.Module:
        """Backbone and network around it."""
        if self.given_width is not None:
            return self.make_network(GivenBackbone(self.given_width))
        # A head on a backbone that never learns starts as it would on features that were given.
        with fork_rng(range(torch.cuda.device_count()), enabled=self.frozen_epochs == "all"):
            backbone = self.make_backbone(patches=self.patches)
        if self.tile_batch and self.frozen_epochs != "all" and backbone.has_batch_statistics():
            raise ConfigError(
                f"model.tile_batch {self.tile_batch} would cut the batches whose statistics '{self.backbone_name}' "
                "learns from (batch normalisation). Set model.tile_batch: 0 and lower data.batch_size, or freeze the "
                "backbone for all epochs."
            )
        if self._checked_fold is not None:
            self._take_encoder(backbone, self._checked_fold)  # tells whether it fits, before there is a run
        if self.compile_backbone:
            backbone.network.compile()  # in place: weights keep their names
        if self.frozen_epochs == "all":
            # Before several processes wrap the network: none of them then waits for gradients that never come.
            backbone.requires_grad_(False)
        return self.make_network(backbone)

    def check_data(self, data: Any) -> None:
        """Refuses a run to start from that may have learned from what is held out.

        Raises:
            FoldError: It has other items or folds.
            RunError: There is no such run, or it has not finished the fold.
        """
        super().check_data(data)
        if self.init_from is not None and data.first_epoch == 0:
            check_origin(self.init_from, data.split.fold, data.split.folds)
            self._checked_fold = data.split.fold

    def start_from(self, data: Any) -> None:
        """Takes the backbone's weights of another run where one is named; a resumed training has its own."""
        super().start_from(data)
        if self.init_from is not None and data.first_epoch == 0:
            self._take_encoder(self.backbone, data.split.fold)

    def _take_encoder(self, backbone: Backbone, fold: int) -> None:
        if self.init_from is not None:
            encoder = initial_encoder(self.init_from, fold)
            load_encoder(backbone.network, encoder, origin=f"model.init_from {self.init_from}")

    def features(self, batch: dict[str, Any]) -> Tensor:
        """Output of the backbone, (..., D) or of patches (..., P, D), or what the bank or a file gives for it."""
        features: Tensor = batch["features"] if "features" in batch else self.backbone(batch["tiles"])
        return features

    def predict_step(self, batch: dict[str, Any], batch_idx: int = 0) -> PredictOutput:
        """The columns and arrays of the task, and `embedding` (B, D), the mean feature of each item."""
        features = self.features(batch)
        embedding = features.reshape(len(batch["id"]), -1, features.shape[-1]).mean(dim=1)
        arrays = {"embedding": embedding, **self.predict_arrays(features)}
        return PredictOutput(ids=batch["id"], columns=self.predict_columns(features), arrays=arrays)

    def predict_arrays(self, features: Tensor) -> Mapping[str, Tensor]:
        """Arrays of a prediction beside the embedding, a row per item, from the output of the backbone."""
        return {}

    def training_length(self) -> TrainingLength:
        """Also the epochs in which the backbone is frozen."""
        return replace(super().training_length(), frozen_epochs=self.frozen_epochs)

    def parameter_groups(self, length: TrainingLength) -> list[ParameterGroup]:
        """The groups of the backbone, one or a layer each, and `head`."""
        network = self.backbone.network
        in_backbone = {id(parameter) for parameter in network.parameters()}
        head = [parameter for parameter in self.parameters() if id(parameter) not in in_backbone]
        # What was given has no layers.
        config = self.optim if self.given_width is None else replace(self.optim, layer_decay=1.0)
        return backbone_and_head(backbone=network, head=head, config=config, length=length)

    def divergence_advice(self) -> str:
        """The rates by name."""
        return "Lower the rates (model.optim.head_lr, head_lr_frozen, backbone_lr) or set trainer.gradient_clip_val."
