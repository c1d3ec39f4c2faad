"""Backbone, further bands where there are any, and one linear layer."""

from torch import Tensor, nn

from biomass_pl.leaf.two_streams import BandStream
from biomass_pl.training.backbone import Backbone


class ClassifierNetwork(nn.Module):
    """One logit per class.

    Args:
        backbone: Encoder of the colours.
        classes: Number of classes.
        dropout: Dropout rate before the last layer.
        bands: Encoder of further bands; none without any.
    """

    def __init__(self, *, backbone: Backbone, classes: int, dropout: float, bands: BandStream | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.bands = bands
        last = nn.Linear(backbone.num_features, classes)
        nn.init.trunc_normal_(last.weight, std=0.02)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.Dropout(dropout), last)

    def features(self, tiles: Tensor, bands: Tensor | None) -> Tensor:
        """What the last layer sees (B, D), of tiles (B, 3, S, S) of 0 to 255 and bands (B, C, S, S)."""
        if self.bands is None or bands is None:
            features: Tensor = self.backbone(tiles)
            return features
        fused: Tensor = self.bands(self.backbone, tiles, bands)
        return fused

    def forward(self, tiles: Tensor, bands: Tensor | None = None) -> Tensor:
        """Logits (B, classes)."""
        logits: Tensor = self.head(self.features(tiles, bands))
        return logits
