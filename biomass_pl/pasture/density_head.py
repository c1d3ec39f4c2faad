"""From the features of patches to grams per square metre on each, and their sum."""

import torch
from torch import Tensor, nn

from biomass_pl.pasture.heads import BiomassHead, starting_means
from biomass_pl.pasture.quadrat import QUADRAT_M2
from biomass_pl.pasture.targets import CLOVER, DEAD, GREEN

MATERIALS = (GREEN, DEAD, CLOVER)
"""The targets that have a density; the other two are sums of them."""


class DensityHead(BiomassHead):
    """Density of green, dead and clover on every patch, never negative; grams are its sum over the ground.

    Each patch covers the same share of the quadrat. GDM and total are sums, exact by construction.

    Args:
        num_features: Length D of a patch's feature vector.
        hidden: Length of its hidden vector.
        dropout: Dropout rate, 0 to 1.
        log_target: Read a patch's outputs as log1p of the grams of a quadrat that is all like it.
    """

    def __init__(self, *, num_features: int, hidden: int, dropout: float, log_target: bool) -> None:
        super().__init__(log_target=log_target)
        self.hidden = nn.Sequential(
            nn.LayerNorm(num_features), nn.Linear(num_features, hidden), nn.GELU(), nn.Dropout(dropout)
        )
        self.output = nn.Linear(hidden, len(MATERIALS))

    def forward(self, features: Tensor) -> Tensor:
        """Predicts grams (B, 5), float32, from features (B, views, tiles, P, D)."""
        return self.grams(self.density(self.hidden(features)))

    def density(self, hidden: Tensor) -> Tensor:
        """Grams per square metre (..., 3), float32, of green, dead and clover from hidden vectors (..., hidden)."""
        # The scale of the outputs is that of a quadrat's grams, as in the other heads.
        return self._to_grams(self.output(hidden)) / QUADRAT_M2

    def grams(self, density: Tensor) -> Tensor:
        """Grams (B, 5) on the whole quadrat from densities (B, views, tiles, P, 3)."""
        on_patches = density.flatten(start_dim=1, end_dim=-2)
        green, dead, clover = (on_patches * (QUADRAT_M2 / on_patches.shape[1])).sum(dim=1).unbind(dim=-1)
        gdm = green + clover
        return torch.stack([green, dead, clover, gdm, gdm + dead], dim=-1)

    def start_at(self, grams: Tensor) -> None:
        """Starts at the mean densities of the training fold."""
        with torch.no_grad():
            self.output.bias.copy_(self._from_grams(starting_means(grams)[list(MATERIALS)]))


class DensityNetwork(nn.Module):
    """Tiles to grams, patch by patch: backbone and head.

    Args:
        backbone: Tiles (B, views, tiles, 3, S, S) to features of patches (B, views, tiles, P, D).
        head: Features to grams (B, 5).
    """

    def __init__(self, *, backbone: nn.Module, head: DensityHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, tiles: Tensor) -> Tensor:
        """Predicts grams (B, 5), float32, from tiles."""
        grams: Tensor = self.head(self.backbone(tiles))
        return grams


def joined_map(density: Tensor, photo_grid: tuple[int, int]) -> Tensor:
    """Puts the patches of all tiles where they lie in the photo.

    Args:
        density: What the patches have (B, views, tiles, P, channels): views from left to right, tiles and patches in
            reading order, as many rows of patches as columns.
        photo_grid: Rows and columns of tiles of the whole photo.

    Returns:
        (B, channels, rows of tiles x rows of patches, columns of tiles x columns of patches).
    """
    batch, views, _, patches, channels = density.shape
    rows, columns = photo_grid[0], photo_grid[1] // views
    side = round(patches**0.5)
    split = density.reshape(batch, views, rows, columns, side, side, channels)
    return split.permute(0, 6, 2, 4, 1, 3, 5).reshape(batch, channels, rows * side, views * columns * side)
