"""Losses for one logit per picture."""

import abc
import math

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchvision.ops import sigmoid_focal_loss

from biomass_pl.errors import ConfigError


class BinaryLoss(nn.Module, abc.ABC):
    """A loss over logits and targets."""

    @abc.abstractmethod
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean loss.

        Args:
            logits: Float32 (B,).
            target: 0 or 1 (B,).
        """


class FocalLoss(BinaryLoss):
    """Cross-entropy in which what is already right counts less (Lin et al. 2017, equation 5).

    Args:
        alpha: Weight of positives; negatives weigh 1 - alpha. The published .25 is a third of the negatives' weight.
        gamma: Exponent that takes weight from what is already right, 1 or more; 0: takes none.
    """

    def __init__(self, *, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ConfigError(f"FocalLoss.alpha is {alpha}; give a weight from 0 to 1.")
        if not (gamma == 0 or 1 <= gamma < math.inf):
            # Between them the library's gradient of a certain prediction is not a number.
            raise ConfigError(f"FocalLoss.gamma is {gamma}; give 0, or 1 or more.")
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean focal loss."""
        loss: Tensor = sigmoid_focal_loss(logits, target, alpha=self.alpha, gamma=self.gamma, reduction="mean")
        return loss


class CrossEntropyLoss(BinaryLoss):
    """Binary cross-entropy."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.binary_cross_entropy_with_logits(logits, target)
