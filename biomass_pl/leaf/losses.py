"""Losses over one logit per class, for targets that may share several classes."""

import abc
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from biomass_pl.errors import ConfigError, DataError


class ClassLoss(nn.Module, abc.ABC):
    """A loss over logits and the share of each class in the target.

    Losses are linear in the target: that of a mixed pair is `lam * L(a) + (1 - lam) * L(b)`. Therefore the mean is
    over photos whatever their classes weigh; weights have a mean of 1 over the training photos. PyTorch's own
    weighted mean for class numbers divides by the weights of the batch's targets instead, and so is not linear.
    """

    @abc.abstractmethod
    def forward(self, logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean loss.

        Args:
            logits: Float32 (B, K).
            target: Shares of the classes (B, K), which sum to 1 in each row.
            weights: What each class weighs (K,); none: 1.
        """


class CrossEntropyLoss(ClassLoss):
    """Cross-entropy.

    Args:
        label_smoothing: Share of each target that is spread evenly over all classes, 0 to below 1 (Szegedy et al.
            2016). A class's weight counts for what is spread to it, too.
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        _check_smoothing("CrossEntropyLoss", label_smoothing)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(logits, target, weight=weights, label_smoothing=self.label_smoothing)


class FocalLoss(ClassLoss):
    """Cross-entropy in which what is already right counts less (Lin et al. 2017, for several classes).

    The loss of a photo is the sum over classes of `target * weight * (1 - p) ** gamma * -log(p)`.

    Args:
        gamma: Exponent that takes weight from what is already right, 1 or more; 0: takes none.
    """

    def __init__(self, *, gamma: float = 2.0) -> None:
        super().__init__()
        _check_gamma("FocalLoss", gamma)
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean focal loss."""
        log_probabilities = logits.log_softmax(dim=1)
        # 1 - p by expm1: it keeps the digits of what is almost certain.
        of_class = (-log_probabilities.expm1()) ** self.gamma * -log_probabilities
        if weights is not None:
            of_class = of_class * weights
        return (target * of_class).sum(dim=1).mean()


class CombinedLoss(ClassLoss):
    """A weighted sum of focal loss and smoothed cross-entropy.

    Args:
        focal_weight: Share of the focal loss, 0 to 1; cross-entropy has the rest.
        gamma: Exponent of the focal loss, 1 or more, or 0.
        label_smoothing: Label smoothing of the cross-entropy alone, 0 to below 1.
    """

    def __init__(self, *, focal_weight: float = 0.5, gamma: float = 2.0, label_smoothing: float = 0.1) -> None:
        super().__init__()
        if not 0 <= focal_weight <= 1:
            raise ConfigError(f"CombinedLoss.focal_weight is {focal_weight}; give a share from 0 to 1.")
        _check_gamma("CombinedLoss", gamma)
        _check_smoothing("CombinedLoss", label_smoothing)
        self.focal_weight = focal_weight
        self.focal = FocalLoss(gamma=gamma)
        self.cross_entropy = CrossEntropyLoss(label_smoothing=label_smoothing)

    def forward(self, logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean of both, weighted."""
        focal = self.focal(logits, target, weights)
        cross_entropy = self.cross_entropy(logits, target, weights)
        loss: Tensor = self.focal_weight * focal + (1 - self.focal_weight) * cross_entropy
        return loss


def class_weights(counts: Mapping[str, int]) -> Tensor:
    """What each class weighs so that all count alike: N / (K n) for n of N photos in one of K classes.

    Args:
        counts: Training photos of each class, by its name.

    Returns:
        Float32 (K,), in the order of the counts; their mean over the photos is 1.

    Raises:
        DataError: A class has no photo.
    """
    empty = [name for name, count in counts.items() if count == 0]
    if empty:
        raise DataError(
            f"No training photo is of class {', '.join(map(repr, empty))}, which class weights cannot make up for. "
            "Add photos, or train without class weights."
        )
    photos = torch.tensor(list(counts.values()), dtype=torch.float64)
    return (photos.sum() / (len(photos) * photos)).float()


def _check_gamma(loss: str, gamma: float) -> None:
    if not (gamma == 0 or 1 <= gamma < math.inf):
        # Between them the gradient of a certain prediction is not a number.
        raise ConfigError(f"{loss}.gamma is {gamma}; give 0, or 1 or more.")


def _check_smoothing(loss: str, label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 1:
        raise ConfigError(f"{loss}.label_smoothing is {label_smoothing}; give a share from 0 to below 1.")
