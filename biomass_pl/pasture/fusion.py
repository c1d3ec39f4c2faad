"""From the tile features of a photo's views, two or one, to one vector."""

from torch import Tensor, nn

from biomass_pl.errors import ConfigError
from biomass_pl.pasture.heads import BiomassHead
from biomass_pl.training.pooling import AttentionPool


class StereoFusion(nn.Module):
    """Conditions each view on the other, pools its tiles and joins the two; of a single view, there is no other.

    Args:
        num_features: Length D of a tile's feature vector.
        hidden_ratio: Output length as a share of the joined features of all views; at least 64.
        dropout: Dropout rate, 0 to 1.
        film: Condition each view on the other's mean feature (FiLM, Perez et al. 2018), where there are two.
        attention_pool: Weigh tiles by attention; otherwise all count the same.
        views: Views of a photo, 1 or 2.
    """

    def __init__(
        self,
        *,
        num_features: int,
        hidden_ratio: float,
        dropout: float,
        film: bool,
        attention_pool: bool,
        views: int = 2,
    ) -> None:
        super().__init__()
        self.views = views
        joined = views * num_features
        self.film = FeatureModulation(num_features) if film and views == 2 else None
        self.pool = AttentionPool(num_features) if attention_pool else None
        self.hidden = max(64, int(joined * hidden_ratio))
        self.join = nn.Sequential(
            nn.LayerNorm(joined),
            nn.Linear(joined, self.hidden),
            nn.GELU(),
            nn.Dropout(dropout),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Fuses tile features (B, views, T, D) to (B, hidden).

        Raises:
            ConfigError: The photos have another number of views than those that it was made for.
        """
        if features.shape[1] != self.views:
            raise ConfigError(
                f"The network was made for {self.views} view(s) of a photo, and data.views gives {features.shape[1]}. "
                "Set data.views as it was in training."
            )
        if self.film is not None:
            features = self.film(features)
        pooled = features.mean(dim=2) if self.pool is None else self.pool(features)
        fused: Tensor = self.join(pooled.flatten(start_dim=1))
        return fused


class FeatureModulation(nn.Module):
    """Scales and shifts the features of each view by the mean feature of the other.

    Starts as the identity.

    Args:
        num_features: Length D of a feature vector.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        last = nn.Linear(num_features // 2, 2 * num_features)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.Linear(num_features, num_features // 2), nn.GELU(), last)

    def forward(self, features: Tensor) -> Tensor:
        """Modulates (B, 2, T, D) to the same shape."""
        other_mean = features.mean(dim=2, keepdim=True).flip(1)
        gamma, beta = self.mlp(other_mean).chunk(2, dim=-1)
        modulated: Tensor = features * (1 + gamma) + beta
        return modulated


class StereoNetwork(nn.Module):
    """Tiles of one or two views to grams: backbone, fusion, head.

    Args:
        backbone: Tiles (B, views, T, 3, S, S) to features (B, views, T, D).
        fusion: Features to one vector (B, hidden).
        head: That vector to grams (B, 5).
    """

    def __init__(self, *, backbone: nn.Module, fusion: StereoFusion, head: BiomassHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.fusion = fusion
        self.head = head

    def forward(self, tiles: Tensor) -> Tensor:
        """Predicts grams (B, 5), float32, from tiles."""
        grams: Tensor = self.head(self.fusion(self.backbone(tiles)))
        return grams
