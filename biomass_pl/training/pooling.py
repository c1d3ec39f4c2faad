"""From the features of several tiles to one vector."""

from torch import Tensor, nn


class MeanPool(nn.Module):
    """Plain mean of tiles."""

    def forward(self, features: Tensor) -> Tensor:
        """Pools (..., T, D) to (..., D)."""
        return features.mean(dim=-2)


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
