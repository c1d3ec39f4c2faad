"""Losses for the five targets."""

import abc

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from biomass_pl.errors import ConfigError
from biomass_pl.targets import CLOVER, DEAD, GDM, GREEN, SCORE_WEIGHTS, TARGETS, TOTAL

TargetWeights = tuple[float, float, float, float, float]

_SMALLEST_GRAMS = 1e-6
"""Keeps the logarithm of a share finite where a prediction is zero."""


class PastureLoss(nn.Module, abc.ABC):
    """A loss over predictions and targets in grams, told by its parts."""

    @abc.abstractmethod
    def forward(self, prediction: Tensor, target: Tensor, *, log_target: bool) -> dict[str, Tensor]:
        """Parts of the loss; what is minimised is their sum.

        Args:
            prediction: Grams (B, 5).
            target: Grams (B, 5).
            log_target: Compare log1p(grams) instead of grams.
        """


class WeightedLoss(PastureLoss):
    """Squared error per target, weighted; Huber for Dead, whose labels have outliers.

    Args:
        target_weights: Weights of Green, Dead, Clover, GDM and Total; by default those of the score.
        huber_for_dead: Use Huber instead of the squared error for Dead.
        huber_delta: Error of Dead from which Huber grows linearly, in grams (or their log1p with log targets).
        ratio_weight: Weight of KL(true shares || predicted shares) of green, dead and clover in the total.
        constraint_weight: Weight of the squared gaps in GDM = Green + Clover and Total = GDM + Dead.
    """

    def __init__(
        self,
        *,
        target_weights: TargetWeights = (
            SCORE_WEIGHTS["Dry_Green_g"],
            SCORE_WEIGHTS["Dry_Dead_g"],
            SCORE_WEIGHTS["Dry_Clover_g"],
            SCORE_WEIGHTS["GDM_g"],
            SCORE_WEIGHTS["Dry_Total_g"],
        ),
        huber_for_dead: bool = True,
        huber_delta: float = 5.0,
        ratio_weight: float = 0.0,
        constraint_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if len(target_weights) != len(TARGETS) or min(target_weights) < 0 or sum(target_weights) <= 0:
            raise ConfigError(
                f"model.loss.target_weights is {list(target_weights)}; give five weights, none below 0, not all 0."
            )
        if huber_delta <= 0:
            raise ConfigError(f"model.loss.huber_delta is {huber_delta}; give more than 0.")
        for name, weight in (("ratio_weight", ratio_weight), ("constraint_weight", constraint_weight)):
            if weight < 0:
                raise ConfigError(f"model.loss.{name} is {weight}; give 0 or more.")
        self.target_weights = target_weights
        self.huber_for_dead = huber_for_dead
        self.huber_delta = huber_delta
        self.ratio_weight = ratio_weight
        self.constraint_weight = constraint_weight

    def forward(self, prediction: Tensor, target: Tensor, *, log_target: bool) -> dict[str, Tensor]:
        """Parts `regression` and, where their weights are not 0, `ratio` and `constraint`."""
        compared, expected = (_scaled(grams, log_target) for grams in (prediction, target))
        errors = list(F.mse_loss(compared, expected, reduction="none").mean(dim=0))
        if self.huber_for_dead:
            errors[DEAD] = F.huber_loss(compared[:, DEAD], expected[:, DEAD], delta=self.huber_delta)
        weighted = [weight * error for weight, error in zip(self.target_weights, errors, strict=True)]
        parts = {"regression": torch.stack(weighted).sum()}
        if self.ratio_weight:
            parts["ratio"] = self.ratio_weight * share_divergence(prediction, target)
        if self.constraint_weight:
            parts["constraint"] = self.constraint_weight * identity_gaps(prediction, log_target=log_target)
        return parts


def share_divergence(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean KL(true || predicted) of the shares of green, dead and clover, over photos with any grams.

    Args:
        prediction: Grams (B, 5).
        target: Grams (B, 5).
    """
    components = [GREEN, DEAD, CLOVER]
    true_total = target[:, components].sum(dim=1, keepdim=True)
    predicted = prediction[:, components].clamp(min=_SMALLEST_GRAMS)
    true_shares = target[:, components] / true_total.clamp(min=_SMALLEST_GRAMS)
    log_predicted = (predicted / predicted.sum(dim=1, keepdim=True)).log()
    divergence = F.kl_div(log_predicted, true_shares, reduction="none").sum(dim=1)
    has_grams = (true_total[:, 0] > 0).to(divergence.dtype)
    return (divergence * has_grams).sum() / has_grams.sum().clamp(min=1)


def identity_gaps(prediction: Tensor, *, log_target: bool) -> Tensor:
    """Mean squared gaps of predictions (B, 5) in the two identities, on the scale of the loss."""
    sums = torch.stack([prediction[:, GREEN] + prediction[:, CLOVER], prediction[:, GDM] + prediction[:, DEAD]], dim=1)
    gaps = _scaled(prediction[:, [GDM, TOTAL]], log_target) - _scaled(sums, log_target)
    return gaps.square().mean(dim=0).sum()


def _scaled(grams: Tensor, log_target: bool) -> Tensor:
    return torch.log1p(grams) if log_target else grams
