"""Where a network looked in a photo."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from biomass_pl.training.attention_rollout import attention_rollout
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.hvit import HierarchicalViT

_CELLS = 16
"""Rows and columns of a map of gradients: single pixels would be noise to the eye."""


def where_it_looked(backbone: Backbone, tiles: Tensor, logits_of: Callable[[Tensor], Tensor]) -> np.ndarray:
    """How much each part of a photo counted.

    For a hierarchical ViT, the rollout of its attention; for other networks, how fast the largest logit changes with
    the pixels (Simonyan et al. 2014, arXiv 1312.6034), the mean over cells.

    Args:
        backbone: The encoder of the photo, in evaluation mode.
        tiles: One photo (1, 3, S, S), values 0 to 255.
        logits_of: Gives the logits (1, K) of such a photo.

    Returns:
        Shares (rows, columns), not negative; their sum is 1 unless nothing counts.
    """
    network: Any = backbone.network
    if isinstance(network, HierarchicalViT):
        return attention_rollout(network, backbone.normalise(tiles))[0].float().cpu().numpy()
    with torch.enable_grad():
        pixels = tiles.float().requires_grad_()
        (slopes,) = torch.autograd.grad(logits_of(pixels).max(), pixels)
    steepest = slopes.abs().amax(dim=1, keepdim=True)
    cells = F.adaptive_avg_pool2d(steepest, _CELLS)[0, 0]
    share: np.ndarray = (cells / cells.sum().clamp(min=torch.finfo(cells.dtype).tiny)).cpu().numpy()
    return share
