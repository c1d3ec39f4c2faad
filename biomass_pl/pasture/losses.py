"""Losses for the five targets, each over the photos of which it is known."""

import abc
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from biomass_pl.errors import ConfigError
from biomass_pl.pasture.targets import CLOVER, DEAD, GDM, GREEN, SCORE_WEIGHTS, TARGETS, TOTAL

TargetWeights = tuple[float, float, float, float, float]

EQUAL_WEIGHTS: TargetWeights = (0.2, 0.2, 0.2, 0.2, 0.2)

_SMALLEST_GRAMS = 1e-6
"""Keeps the logarithm of a share finite where a prediction is zero."""


class PastureLoss(nn.Module, abc.ABC):
    """A loss over predictions and targets in grams, told by its parts."""

    @abc.abstractmethod
    def forward(self, prediction: Tensor, target: Tensor, *, log_target: bool) -> dict[str, Tensor]:
        """Parts of the loss; what is minimised is their sum.

        Args:
            prediction: Grams (B, 5).
            target: Grams (B, 5), NaN where unknown.
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
        _check_target_weights(target_weights)
        _check_positive(huber_delta=huber_delta)
        _check_not_negative(ratio_weight=ratio_weight, constraint_weight=constraint_weight)
        self.target_weights = target_weights
        self.huber_for_dead = huber_for_dead
        self.huber_delta = huber_delta
        self.ratio_weight = ratio_weight
        self.constraint_weight = constraint_weight

    def forward(self, prediction: Tensor, target: Tensor, *, log_target: bool) -> dict[str, Tensor]:
        """Parts `regression` and, where their weights are not 0, `ratio` and `constraint`."""
        expected, share = _expected(prediction, target)
        errors = list(_squared_gaps(prediction, expected, log_target))
        if self.huber_for_dead:
            compared, dead = (_scaled(grams[:, DEAD], log_target) for grams in (prediction, expected))
            errors[DEAD] = F.huber_loss(compared, dead, delta=self.huber_delta)
        parts = {"regression": _weighted_sum(errors, share, self.target_weights)}
        if self.ratio_weight:
            parts["ratio"] = self.ratio_weight * share_divergence(prediction, target)
        if self.constraint_weight:
            parts["constraint"] = self.constraint_weight * identity_gaps(prediction, log_target=log_target)
        return parts


class FocalMSE(PastureLoss):
    """Squared error per target that counts the worse predictions of a batch more.

    The weight of an error is max(floor, (|error| / largest |error| of that target in the batch) ** gamma);
    no gradient flows through it.

    Args:
        target_weights: Weights of Green, Dead, Clover, GDM and Total.
        gamma: How much more bad errors count; 0: equal.
        floor: Smallest weight of a prediction, 0 to 1.
        constraint_weight: Weight of the squared gaps in GDM = Green + Clover and Total = GDM + Dead.
    """

    def __init__(
        self,
        *,
        target_weights: TargetWeights = EQUAL_WEIGHTS,
        gamma: float = 1.0,
        floor: float = 0.1,
        constraint_weight: float = 0.05,
    ) -> None:
        super().__init__()
        _check_target_weights(target_weights)
        _check_not_negative(gamma=gamma, constraint_weight=constraint_weight)
        if not 0 <= floor <= 1:
            raise ConfigError(f"model.loss.floor is {floor}; give 0 to 1.")
        self.target_weights = target_weights
        self.gamma = gamma
        self.floor = floor
        self.constraint_weight = constraint_weight

    def forward(self, prediction: Tensor, target: Tensor, *, log_target: bool) -> dict[str, Tensor]:
        """Parts `regression` and, where its weight is not 0, `constraint`."""
        expected, share = _expected(prediction, target)
        errors = _scaled(prediction, log_target) - _scaled(expected, log_target)
        weighted = self._weights(errors.detach().abs()) * errors.square()
        parts = {"regression": _weighted_sum(weighted.mean(dim=0), share, self.target_weights)}
        if self.constraint_weight:
            parts["constraint"] = self.constraint_weight * identity_gaps(prediction, log_target=log_target)
        return parts

    def _weights(self, sizes: Tensor) -> Tensor:
        """Weights of the errors (B, 5) of these sizes."""
        largest = sizes.amax(dim=0).clamp(min=torch.finfo(sizes.dtype).tiny)
        return (sizes / largest).pow(self.gamma).clamp(min=self.floor)


class DeadAware(PastureLoss):
    """Dead by Huber on log1p(grams), always, and held to Total - GDM; the other targets by squared error.

    Args:
        target_weights: Weights of Green, Dead, Clover, GDM and Total.
        huber_delta: Error in log1p where Huber turns linear.
        auxiliary_weight: Weight of the squared gaps of Dead to max(0, Total - GDM) and of Total to GDM + Dead.
    """

    def __init__(
        self,
        *,
        target_weights: TargetWeights = EQUAL_WEIGHTS,
        huber_delta: float = 1.0,
        auxiliary_weight: float = 0.2,
    ) -> None:
        super().__init__()
        _check_target_weights(target_weights)
        _check_positive(huber_delta=huber_delta)
        _check_not_negative(auxiliary_weight=auxiliary_weight)
        self.target_weights = target_weights
        self.huber_delta = huber_delta
        self.auxiliary_weight = auxiliary_weight

    def forward(self, prediction: Tensor, target: Tensor, *, log_target: bool) -> dict[str, Tensor]:
        """Parts `regression` and, where their weight is not 0, `dead_derived` and `constraint`."""
        expected, share = _expected(prediction, target)
        errors = list(_squared_gaps(prediction, expected, log_target))
        errors[DEAD] = F.huber_loss(prediction[:, DEAD].log1p(), expected[:, DEAD].log1p(), delta=self.huber_delta)
        parts = {"regression": _weighted_sum(errors, share, self.target_weights)}
        if self.auxiliary_weight:
            # Dead learns from the other two here; they are not pulled towards Dead.
            derived = (prediction[:, TOTAL] - prediction[:, GDM]).clamp(min=0).detach()
            parts["dead_derived"] = self.auxiliary_weight * _squared_gaps(prediction[:, DEAD], derived, log_target)
            parts["constraint"] = self.auxiliary_weight * total_gap(prediction, log_target=log_target)
        return parts


def share_divergence(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean KL(true || predicted) of the shares of green, dead and clover, over photos of which all three are known.

    Photos without any grams have no shares, and are left out too.

    Args:
        prediction: Grams (B, 5).
        target: Grams (B, 5), NaN where unknown.
    """
    components = [GREEN, DEAD, CLOVER]
    is_known = ~target[:, components].isnan().any(dim=1, keepdim=True)
    true = torch.where(is_known, target[:, components], 0.0)
    true_total = true.sum(dim=1, keepdim=True)
    predicted = prediction[:, components].clamp(min=_SMALLEST_GRAMS)
    true_shares = true / true_total.clamp(min=_SMALLEST_GRAMS)
    log_predicted = (predicted / predicted.sum(dim=1, keepdim=True)).log()
    divergence = F.kl_div(log_predicted, true_shares, reduction="none").sum(dim=1)
    has_grams = (true_total[:, 0] > 0).to(divergence.dtype)
    return (divergence * has_grams).sum() / has_grams.sum().clamp(min=1)


def identity_gaps(prediction: Tensor, *, log_target: bool) -> Tensor:
    """Mean squared gaps of predictions (B, 5) in the two identities, on the scale of the loss."""
    green_and_clover = prediction[:, GREEN] + prediction[:, CLOVER]
    gdm_gap = _squared_gaps(prediction[:, GDM], green_and_clover, log_target)
    return gdm_gap + total_gap(prediction, log_target=log_target)


def total_gap(prediction: Tensor, *, log_target: bool) -> Tensor:
    """Mean squared gap of predictions (B, 5) in Total = GDM + Dead, on the scale of the loss."""
    return _squared_gaps(prediction[:, TOTAL], prediction[:, GDM] + prediction[:, DEAD], log_target)


def _squared_gaps(grams: Tensor, others: Tensor, log_target: bool) -> Tensor:
    """Mean squared differences over the photos, one per column."""
    return (_scaled(grams, log_target) - _scaled(others, log_target)).square().mean(dim=0)


def _expected(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Targets (B, 5) without errors where they are unknown, and by what their mean errors (5,) are then too small."""
    is_known = ~target.isnan()
    share = len(target) / is_known.sum(dim=0).clamp(min=1)
    # A factor of exactly 1 where all is known: nothing changes in the last digit.
    return torch.where(is_known, target, prediction.detach()), share


def _scaled(grams: Tensor, log_target: bool) -> Tensor:
    return torch.log1p(grams) if log_target else grams


def _weighted_sum(errors: Iterable[Tensor], share: Tensor, weights: TargetWeights) -> Tensor:
    """Sum of the errors of the targets, each enlarged by its `share` of `_expected`, and weighted."""
    return (torch.stack([weight * error for weight, error in zip(weights, errors, strict=True)]) * share).sum()


def _check_target_weights(weights: TargetWeights) -> None:
    if len(weights) != len(TARGETS) or min(weights) < 0 or sum(weights) <= 0:
        raise ConfigError(f"model.loss.target_weights is {list(weights)}; give five weights, none below 0, not all 0.")


def _check_positive(**settings: float) -> None:
    for name, value in settings.items():
        if value <= 0:
            raise ConfigError(f"model.loss.{name} is {value}; give more than 0.")


def _check_not_negative(**settings: float) -> None:
    for name, value in settings.items():
        if value < 0:
            raise ConfigError(f"model.loss.{name} is {value}; give 0 or more.")
