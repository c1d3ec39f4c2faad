"""From the tile features of two views to one vector per photo."""

from torch import Tensor, nn

from biomass_pl.pasture.heads import BiomassHead


class StereoFusion(nn.Module):
    """Conditions each view on the other, pools its tiles and joins the two.

    Args:
        num_features: Length D of a tile's feature vector.
        hidden_ratio: Output length as a share of 2 D; at least 64.
        dropout: Dropout rate, 0 to 1.
        film: Condition each view on the other's mean feature (FiLM, Perez et al. 2018).
        attention_pool: Weigh tiles by attention; otherwise all count the same.
    """

    def __init__(
        self, *, num_features: int, hidden_ratio: float, dropout: float, film: bool, attention_pool: bool
    ) -> None:
        super().__init__()
        self.film = FeatureModulation(num_features) if film else None
        self.pool = AttentionPool(num_features) if attention_pool else None
        self.hidden = max(64, int(2 * num_features * hidden_ratio))
        self.join = nn.Sequential(
            nn.LayerNorm(2 * num_features),
            nn.Linear(2 * num_features, self.hidden),
            nn.GELU(),
            nn.Dropout(dropout),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Fuses tile features (B, 2, T, D) to (B, hidden)."""
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


class AttentionPool(nn.Module):
    """Weighted mean of tiles; the query is their plain mean.

    Args:
        num_features: Length D of a feature vector.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.query = nn.Linear(num_features, num_features)
        self.key = nn.Linear(num_features, num_features)

    def forward(self, features: Tensor) -> Tensor:
        """Pools (..., T, D) to (..., D)."""
        query = self.query(features.mean(dim=-2, keepdim=True))
        similarity = (query * self.key(features)).sum(dim=-1, keepdim=True) / features.shape[-1] ** 0.5
        pooled: Tensor = (similarity.softmax(dim=-2) * features).sum(dim=-2)
        return pooled


class StereoNetwork(nn.Module):
    """Tiles of two views to grams: backbone, fusion, head.

    Args:
        backbone: Tiles (B, 2, T, 3, S, S) to features (B, 2, T, D).
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
