"""The loss over numbers of any unit, some of them not measured."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

LossName = Literal["smooth_l1", "mse"]


def standardised_loss(
    prediction: Tensor, target: Tensor, *, spreads: Tensor, weights: Tensor, name: LossName
) -> Tensor:
    """Weighted mean error over what was measured, each target in its own spread.

    Args:
        prediction: Numbers (B, targets).
        target: Numbers (B, targets), NaN where one was not measured.
        spreads: Standard deviation of each target in the training fold (targets,).
        weights: What each target counts (targets,).
        name: smooth_l1 grows linearly from one spread on; mse squares all errors.

    Returns:
        A number; 0 where nothing was measured.
    """
    known = ~target.isnan()
    errors = torch.where(known, (prediction - target) / spreads, 0.0)
    function = F.smooth_l1_loss if name == "smooth_l1" else F.mse_loss
    losses = function(errors, torch.zeros_like(errors), reduction="none")
    counted = known * weights
    total = counted.sum()
    return (losses * counted).sum() / torch.where(total > 0, total, 1.0)
