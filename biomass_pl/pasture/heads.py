"""Heads: from a photo's vector to five targets in grams, never negative.

Order of the targets everywhere: Green, Dead, Clover, GDM, Total.
"""

import abc

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from biomass_pl.pasture.sums import with_sums
from biomass_pl.pasture.targets import CLOVER, DEAD, GDM, GREEN, TARGETS, TOTAL

LARGEST_LOG_GRAMS = 20.0
"""Cap of log1p(grams), half a tonne per quadrat: far above any grass, far below overflow."""

_SMALLEST_SHARE = 1e-3
"""Initial shares keep this distance from 0 and 1, where a logit is infinite."""


class BiomassHead(nn.Module, abc.ABC):
    """A head whose output layers can start at the means of the training fold.

    Args:
        log_target: Read a softplus output as log1p(grams) instead of grams.
    """

    def __init__(self, *, log_target: bool) -> None:
        super().__init__()
        self.log_target = log_target

    @abc.abstractmethod
    def forward(self, hidden: Tensor) -> Tensor:
        """Predicts grams (B, 5), float32, from vectors (B, hidden)."""

    @abc.abstractmethod
    def start_at(self, grams: Tensor) -> None:
        """Sets the biases of the output layers so that predictions start near the mean.

        Args:
            grams: Targets (photos, 5) of the training fold, NaN where unknown.
        """

    def _to_grams(self, output: Tensor) -> Tensor:
        # In float32, whatever the precision of the layers: grams must add up.
        positive = F.softplus(output.float())
        return torch.expm1(positive.clamp(max=LARGEST_LOG_GRAMS)) if self.log_target else positive

    def _from_grams(self, grams: Tensor) -> Tensor:
        """The output that `_to_grams` turns into these grams."""
        positive = (torch.log1p(grams) if self.log_target else grams).clamp(min=_SMALLEST_SHARE)
        return positive + torch.log(-torch.expm1(-positive))


def starting_means(grams: Tensor) -> Tensor:
    """Means (5,) of the targets to start from, each over the photos of which it is known.

    A target known of no photo gets what the sums leave for it; where they leave it open, green, dead and clover are
    taken as equal.

    Args:
        grams: Targets (photos, 5), NaN where unknown; at least one is known.
    """
    if not grams.isnan().any():
        return grams.mean(dim=0)
    means = with_sums(grams.nanmean(dim=0)[None].double().numpy())
    parts = {GREEN: 1, DEAD: 1, CLOVER: 1, GDM: 2, TOTAL: 3}
    known = [target for target in parts if not np.isnan(means[0, target])]
    # The wholes first, of which the parts are shares.
    for target, source in ((TOTAL, known[-1]), (GDM, TOTAL), (GREEN, GDM)):
        if np.isnan(means[0, target]):
            means[0, target] = means[0, source] * parts[target] / parts[source]
            means = with_sums(means)
    return torch.tensor(means[0].clip(min=0), dtype=grams.dtype)


class SoftmaxRatioHead(BiomassHead):
    """Total, and the shares of green, dead and clover in it by softmax; the sums are exact.

    Args:
        hidden: Length of the input vector.
        dropout: Dropout rate, 0 to 1.
        log_target: Read the total's output as log1p(grams).
        temperature: Divides the logits of the shares; above 1 evens them out.
    """

    def __init__(self, *, hidden: int, dropout: float, log_target: bool, temperature: float) -> None:
        super().__init__(log_target=log_target)
        self.temperature = temperature
        self.total = _output_layers(hidden, 1, dropout)
        self.shares = _output_layers(hidden, 3, dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Predicts grams (B, 5), float32, from vectors (B, hidden)."""
        total = self._to_grams(self.total(hidden))
        parts = total * (self.shares(hidden).float() / self.temperature).softmax(dim=-1)
        green, dead, clover = parts.split(1, dim=-1)
        return torch.cat([green, dead, clover, green + clover, total], dim=-1)

    def start_at(self, grams: Tensor) -> None:
        """Starts at the mean total and the mean shares of the training fold."""
        mean = starting_means(grams)
        _set_bias(self.total, self._from_grams(mean[[TOTAL]]))
        shares = mean[[GREEN, DEAD, CLOVER]] / mean[TOTAL].clamp(min=_SMALLEST_SHARE)
        _set_bias(self.shares, self.temperature * shares.clamp(min=_SMALLEST_SHARE).log())


class HierarchicalRatioHead(BiomassHead):
    """Total, the share of GDM in it, and the share of green in GDM; all parts >= 0, the sums exact.

    Args:
        hidden: Length of the input vector.
        dropout: Dropout rate, 0 to 1.
        log_target: Read the total's output as log1p(grams).
    """

    def __init__(self, *, hidden: int, dropout: float, log_target: bool) -> None:
        super().__init__(log_target=log_target)
        self.total = _output_layers(hidden, 1, dropout)
        self.gdm_share = _output_layers(hidden, 1, dropout)
        self.green_share = _output_layers(hidden, 1, dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Predicts grams (B, 5), float32, from vectors (B, hidden)."""
        total = self._to_grams(self.total(hidden))
        gdm = total * self.gdm_share(hidden).float().sigmoid()
        green = gdm * self.green_share(hidden).float().sigmoid()
        return torch.cat([green, total - gdm, gdm - green, gdm, total], dim=-1)

    def start_at(self, grams: Tensor) -> None:
        """Starts at the mean total and the mean shares of the training fold."""
        mean = starting_means(grams)
        _set_bias(self.total, self._from_grams(mean[[TOTAL]]))
        for layers, part, whole in ((self.gdm_share, GDM, TOTAL), (self.green_share, GREEN, GDM)):
            share = mean[[part]] / mean[whole].clamp(min=_SMALLEST_SHARE)
            _set_bias(layers, torch.logit(share, eps=_SMALLEST_SHARE))


class FiveHeads(BiomassHead):
    """Five independent outputs; sums are only encouraged by the loss.

    Args:
        hidden: Length of the input vector.
        dropout: Dropout rate, 0 to 1.
        log_target: Read the outputs as log1p(grams).
    """

    def __init__(self, *, hidden: int, dropout: float, log_target: bool) -> None:
        super().__init__(log_target=log_target)
        self.heads = nn.ModuleList(_output_layers(hidden, 1, dropout) for _ in TARGETS)

    def forward(self, hidden: Tensor) -> Tensor:
        """Predicts grams (B, 5), float32, from vectors (B, hidden)."""
        return self._to_grams(torch.cat([head(hidden) for head in self.heads], dim=-1))

    def start_at(self, grams: Tensor) -> None:
        """Starts at the mean of every target in the training fold."""
        outputs = self._from_grams(starting_means(grams))
        for head, output in zip(self.heads, outputs, strict=True):
            _set_bias(head, output)


def _output_layers(hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout / 2), nn.Linear(hidden, outputs))


def _set_bias(layers: nn.Module, value: Tensor) -> None:
    last = list(layers.children())[-1]
    if isinstance(last, nn.Linear):
        with torch.no_grad():
            last.bias.copy_(value)
