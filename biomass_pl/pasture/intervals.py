"""Intervals of the targets: a head that guesses in which of them a photo's grams lie."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from biomass_pl.pasture.targets import TARGETS


class IntervalHead(nn.Module):
    """Guesses the interval of every target; each holds about as many photos of the training fold.

    What it needs to know of a photo's order of magnitude, few outliers can distort.

    Args:
        hidden: Length of the input vector.
        classes: Number of intervals of each target.
    """

    edges: Tensor

    def __init__(self, *, hidden: int, classes: int) -> None:
        super().__init__()
        self.output = nn.Linear(hidden, len(TARGETS) * classes)
        self.register_buffer("edges", torch.zeros(len(TARGETS), classes - 1))

    def start_at(self, grams: Tensor) -> None:
        """Sets the edges of the intervals to the quantiles of the targets (photos, 5) of the training fold."""
        inner = torch.linspace(0, 1, self.edges.shape[1] + 2)[1:-1]
        self.edges.copy_(grams.nanquantile(inner, dim=0).T)

    def intervals(self, grams: Tensor) -> Tensor:
        """Number of the interval, from 0, in which each of the grams (B, 5) lies; an edge belongs to the one below."""
        return (grams[:, :, None] > self.edges).sum(dim=-1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits (B, 5, classes), float32, from vectors (B, hidden)."""
        logits: Tensor = self.output(hidden)
        return logits.float().reshape(len(hidden), len(TARGETS), -1)

    def loss(self, logits: Tensor, grams: Tensor) -> Tensor:
        """Mean cross-entropy over the targets of a batch that are known; 0 without any.

        Args:
            logits: What `forward` gives.
            grams: Targets (B, 5); NaN where one is unknown.
        """
        known = ~grams.isnan()
        summed = F.cross_entropy(logits[known], self.intervals(grams)[known], reduction="sum")
        return summed / known.sum().clamp(min=1)
