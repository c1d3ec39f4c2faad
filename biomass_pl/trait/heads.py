"""From the tile features of a photo to numbers in their own units."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from biomass_pl.trait.sums import Parts

_SMALLEST_SHARE = 1e-3
"""Smallest mean, as a share of the spread, that a prediction which cannot be negative starts at."""


class TraitHead(nn.Module):
    """A small network whose outputs are counted in spreads of the training fold; sums are exact.

    Args:
        num_features: Length D of the input vector.
        hidden: Length of the hidden vector.
        dropout: Dropout rate, 0 to 1.
        parts: What is predicted on its own, and how the targets follow from it.
        non_negative: Whether nothing can be below 0.
    """

    means: Tensor
    spreads: Tensor
    matrix: Tensor

    def __init__(self, *, num_features: int, hidden: int, dropout: float, parts: Parts, non_negative: bool) -> None:
        super().__init__()
        self.non_negative = non_negative
        self._rows = [row for row, contained in enumerate(parts.matrix) if contained.sum() == 1]  # those of no sum
        last = nn.Linear(hidden, len(parts.names))
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(
            nn.LayerNorm(num_features), nn.Linear(num_features, hidden), nn.GELU(), nn.Dropout(dropout), last
        )
        self.register_buffer("matrix", torch.from_numpy(parts.matrix), persistent=False)
        self.register_buffer("means", torch.zeros(len(parts.matrix)))
        self.register_buffer("spreads", torch.ones(len(parts.matrix)))

    def forward(self, pooled: Tensor) -> Tensor:
        """Predicts all targets (B, targets), float32, from vectors (B, D)."""
        return self.added_up(self.parts(pooled))

    def parts(self, pooled: Tensor) -> Tensor:
        """Predicts what is no sum, (B, parts), float32."""
        # In float32, whatever the precision of the layers: numbers may be large.
        output: Tensor = self.layers(pooled).float()
        means, spreads = self.means[self._rows], self.spreads[self._rows]
        if not self.non_negative:
            return means + spreads * output
        share = (means / spreads).clamp(min=_SMALLEST_SHARE)
        start = share + torch.log(-torch.expm1(-share))  # which softplus turns into the share
        return spreads * F.softplus(start + output)

    def added_up(self, parts: Tensor) -> Tensor:
        """All targets (B, targets) from what is no sum, in its precision."""
        # Not as a product of matrices, which a GPU rounds.
        return (parts[:, None, :] * self.matrix.to(parts)).sum(dim=-1)

    def start_at(self, values: Tensor) -> None:
        """Takes means and spreads of the training fold; predictions start near the means.

        Args:
            values: What was measured (photos, targets), NaN where it was not.
        """
        for row, column in enumerate(values.double().T):
            known = column[~column.isnan()]
            self.means[row] = known.mean()
            self.spreads[row] = known.std(correction=0)


class RegressionNetwork(nn.Module):
    """Tiles of a photo to numbers: backbone, one vector of all tiles, head.

    Args:
        backbone: Tiles (B, views, T, 3, S, S) to features (B, views, T, D).
        pool: Features (B, tiles, D) to vectors (B, D).
        head: Vectors to numbers (B, targets).
    """

    def __init__(self, *, backbone: nn.Module, pool: nn.Module, head: TraitHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = pool
        self.head = head

    def forward(self, tiles: Tensor) -> Tensor:
        """Predicts numbers (B, targets), float32, from tiles."""
        numbers: Tensor = self.head(self.pooled(self.backbone(tiles)))
        return numbers

    def pooled(self, features: Tensor) -> Tensor:
        """One vector (B, D) of the features (B, ..., D) of all tiles."""
        vectors: Tensor = self.pool(features.reshape(len(features), -1, features.shape[-1]))
        return vectors
