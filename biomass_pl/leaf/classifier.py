"""Backbone, further bands where there are any, and one linear layer."""

from torch import Tensor, nn

from biomass_pl.errors import ConfigError
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
        """What the last layer sees (B, D), of tiles (B, 3, S, S) of 0 to 255 and bands (B, C, S, S).

        Raises:
            ConfigError: There are not as many bands as the network was built for.
        """
        expected = 0 if self.bands is None else self.bands.channels
        given = 0 if bands is None else bands.shape[1]
        if given != expected:
            raise ConfigError(
                f"The photos have {given} further bands, and the network takes {expected}. Set data.spectral to a "
                "folder of as many, or leave it out where there are none."
            )
        features: Tensor = self.backbone(tiles) if self.bands is None else self.bands(self.backbone, tiles, bands)
        return features

    def forward(self, tiles: Tensor, bands: Tensor | None = None) -> Tensor:
        """Logits (B, classes)."""
        logits: Tensor = self.head(self.features(tiles, bands))
        return logits
