"""Training of the density model: grams per square metre on every patch, summed over the ground."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from biomass_pl.errors import ConfigError
from biomass_pl.evaluation.maps import MAP, MapLayers
from biomass_pl.pasture.density_head import DensityHead, DensityNetwork, joined_map
from biomass_pl.pasture.intervals import IntervalHead
from biomass_pl.pasture.quadrat import QUADRAT_MM
from biomass_pl.pasture.task import PastureTask
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.task import StepOutput

_SMALLEST_HIDDEN = 64


class PatchDensity(PastureTask):
    """Density of green, dead and clover on every patch of a photo: exact sums, nothing below zero, and a map.

    Args:
        hidden_ratio: Hidden length as a share of a patch's features; at least 64.
        interval_classes: Also guess in which of so many intervals each target lies, with edges at the quantiles of the
            training fold; 0: do not.
        interval_weight: Loss weight of that guess.
        **kwargs: Settings of every pasture model.
    """

    patches = True
    map_layers = MapLayers(
        colours={"green": (0, 200, 0), "dead": (255, 140, 0), "clover": (60, 90, 255)},
        unit="g/m2",
        ground_mm=QUADRAT_MM,
    )
    network: DensityNetwork
    interval_head: IntervalHead

    def __init__(
        self, *, hidden_ratio: float = 0.25, interval_classes: int = 0, interval_weight: float = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if hidden_ratio <= 0:
            raise ConfigError(f"model.hidden_ratio is {hidden_ratio}; give more than 0.")
        if interval_classes < 0 or interval_classes == 1:
            raise ConfigError(f"model.interval_classes is {interval_classes}; give 2 or more, or 0 for none.")
        if interval_weight <= 0:
            raise ConfigError(f"model.interval_weight is {interval_weight}; give more than 0.")
        if self.compile_backbone:
            raise ConfigError(
                "model.compile compiles what pools a tile to one vector; PatchDensity takes the patches before that. "
                "Set model.compile: false."
            )
        self.hidden_ratio = hidden_ratio
        self.interval_classes = interval_classes
        self.interval_weight = interval_weight
        self._photo_grid: tuple[int, int] | None = None

    def check_data(self, data: Any) -> None:
        """Also refuses tiles that may overlap, whose ground would count twice.

        Raises:
            ConfigError: Photos are seen as a whole.
        """
        super().check_data(data)
        if data.view_shape()[0] == 1:
            raise ConfigError(
                "PatchDensity adds up the ground of tiles, which overlap with data.views: whole. "
                "Set data.views: halves."
            )

    def make_network(self, backbone: Backbone) -> DensityNetwork:
        """Backbone and the head on its patches."""
        hidden = max(_SMALLEST_HIDDEN, int(backbone.num_features * self.hidden_ratio))
        if self.interval_classes:
            self.interval_head = IntervalHead(hidden=hidden, classes=self.interval_classes)
        head = DensityHead(
            num_features=backbone.num_features, hidden=hidden, dropout=self.dropout, log_target=self.log_target
        )
        return DensityNetwork(backbone=backbone, head=head)

    def start_from(self, data: Any) -> None:
        """Also takes the quantiles of the targets."""
        super().start_from(data)
        if self.interval_classes:
            self.interval_head.start_at(torch.tensor(data.training_targets()))

    def step(self, batch: dict[str, Any]) -> StepOutput:
        """Losses of the grams and, where they are guessed, of the intervals."""
        head = self.network.head
        hidden = head.hidden(self.features(batch))
        prediction = head.grams(head.density(hidden))
        losses = self.loss(prediction, batch["target"], log_target=self.log_target)
        if self.interval_classes:
            logits = self.interval_head(hidden.flatten(start_dim=1, end_dim=-2).mean(dim=1))
            losses["intervals"] = self.interval_weight * self.interval_head.loss(logits, batch["target"])
        return StepOutput(losses=losses, outputs={"prediction": prediction})

    def predict_grams(self, features: Tensor) -> Tensor:
        """Grams (B, 5) from the features of patches."""
        grams: Tensor = self.network.head(features)
        return grams

    def make_maps(self, photo_grid: tuple[int, int]) -> None:
        """Has predictions carry the densities of each photo (3, height, width) as the array `map`.

        Args:
            photo_grid: Rows and columns of tiles of a whole photo.

        Raises:
            ConfigError: The patches are given, and nothing tells where they lie in a photo.
        """
        if self.given_width is not None:
            raise ConfigError(
                "--maps shows where patches lie in a photo, which data.features do not tell. Leave it out."
            )
        self._photo_grid = photo_grid

    def predict_arrays(self, features: Tensor) -> Mapping[str, Tensor]:
        """The densities, where maps are asked for."""
        if self._photo_grid is None:
            return {}
        head = self.network.head
        return {MAP: joined_map(head.density(head.hidden(features)), self._photo_grid)}
