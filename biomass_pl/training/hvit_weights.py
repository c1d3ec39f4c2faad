"""Weights of a hierarchical ViT: the names of the published checkpoints, and positions of another image size."""

import logging
import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

logger = logging.getLogger(__name__)

_NAMES = (
    ("rgb_patch_embed.", "patch_embed."),
    ("rgb_pos_embed", "pos_embed"),
    ("rgb_stages.", "stages."),
    ("norm_rgb_final_encoder.", "norm."),
    ("classifier_head_norm.", "fc_norm."),
    ("classifier_head.", "head."),
)
"""Beginnings of the published names, and of those here."""

_UNUSED = ("contrastive_projector.", "mae_decoder_rgb.", "aux_head_rgb.")
"""Parts of published checkpoints that classification never uses."""

_SECOND_STREAM = (
    *("spectral_", "norm_spectral_final_encoder.", "mae_decoder_spectral.", "aux_head_spectral."),
    *("dfca_module.", "rgb_to_dfca_proj.", "simple_fusion_projector."),
)
"""Parts of a published network that also takes further bands."""


def adapt_state(
    network: nn.Module,
    state: dict[str, Any],
    prefix: str,
    _local_metadata: dict[str, Any],
    _strict: bool,
    _missing_keys: list[str],
    _unexpected_keys: list[str],
    error_messages: list[str],
) -> None:
    """Fits a state dict to a network before it is loaded: names, classifier and positions.

    The arguments are those of a hook of `torch.nn.Module.register_load_state_dict_pre_hook`.

    Args:
        network: A network with `pos_embed` (1, h, w, C) and `head`.
        state: What is to be loaded, changed in place.
        prefix: Beginning of the names of this network.
        error_messages: Takes the reasons why the state does not fit.
    """
    if any(key.startswith(f"{prefix}rgb_") for key in state):
        _translate_published(state, prefix, error_messages)
    if isinstance(network.head, nn.Identity):
        for part in ("weight", "bias"):
            state.pop(f"{prefix}head.{part}", None)
    positions, own = state.get(f"{prefix}pos_embed"), network.pos_embed
    if isinstance(positions, Tensor) and isinstance(own, Tensor) and positions.shape[-1] == own.shape[-1]:
        state[f"{prefix}pos_embed"] = _fit_positions(positions, (own.shape[1], own.shape[2]), error_messages)


def resize_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Positions of another grid, by bicubic interpolation; those of the same grid as they are.

    Args:
        positions: Learned positions (1, h, w, C).
        grid: Rows and columns wanted.

    Returns:
        Positions (1, rows, columns, C).
    """
    if positions.shape[1:3] == grid:
        return positions
    resized = functional.interpolate(positions.permute(0, 3, 1, 2).float(), size=grid, mode="bicubic")
    return resized.permute(0, 2, 3, 1).to(positions.dtype)


def _translate_published(state: dict[str, Any], prefix: str, error_messages: list[str]) -> None:
    second = [key for key in state if key.startswith(tuple(prefix + part for part in _SECOND_STREAM))]
    if second:
        error_messages.append(
            f"These are the weights of a network of two streams ({second[0]} and {len(second) - 1} others), "
            "which one stream alone cannot take."
        )
    for key in [key for key in state if key.startswith(prefix)]:
        name = key.removeprefix(prefix)
        value = state.pop(key)
        if key in second or name.startswith(_UNUSED):
            continue
        for published, own in _NAMES:
            if name.startswith(published):
                name = own + name.removeprefix(published).replace(".downsample_layer.", ".downsample.")
                break
        state[prefix + name] = value


def _fit_positions(positions: Tensor, grid: tuple[int, int], error_messages: list[str]) -> Tensor:
    """The positions (1, h, w, C) of a file on the grid of the network."""
    if positions.ndim == 3:  # published: (1, N, C) without the grid
        count = positions.shape[1]
        side = math.isqrt(count)
        # The published networks were trained on squares. Any other table only fits the grid it was made for.
        stored = (side, side) if side * side == count else grid
        if stored[0] * stored[1] != count:
            error_messages.append(
                f"The file holds {count} positions, of a grid that is not square and so cannot be known; "
                f"the network has {grid[0]} x {grid[1]}."
            )
            return positions
        positions = positions.reshape(1, *stored, -1)
    if positions.ndim == 4 and positions.shape[1:3] != grid:
        logger.info("Positions of %d x %d patches are interpolated to %d x %d", *positions.shape[1:3], *grid)
        return resize_positions(positions, grid)
    return positions
