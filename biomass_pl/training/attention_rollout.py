"""Where a hierarchical vision transformer looks: its attention, followed from the last tokens to the patches."""

from typing import Any

import torch
from torch import Tensor

from biomass_pl.training.hvit import Grid, HierarchicalViT


@torch.no_grad()
def attention_rollout(network: HierarchicalViT, pixels: Tensor) -> Tensor:
    """How much each patch contributes to the mean of the last tokens (Abnar and Zuidema 2020, arXiv 2005.00928).

    A block mixes tokens by half of its attention, the mean of its heads, and half of the identity (its residual
    branch); a merging takes the mean of 2 x 2 tokens. All of them are multiplied, from the last to the first.

    Args:
        network: A network in evaluation mode.
        pixels: Normalised images (B, channels, H, W).

    Returns:
        Contributions (B, h, w) on the grid of the patches, not negative; those of an image sum to 1.
    """
    stages: Any = network.stages
    tokens, grid = network.embed(pixels)
    mixings: list[tuple[Grid, list[Tensor]]] = []
    for stage in stages:
        mixings.append((grid, []))
        for block in stage.blocks:
            mixings[-1][1].append(_mean_attention(block.attn, block.norm1(tokens)))
            tokens = block(tokens)
        tokens, grid = stage.merge(tokens, grid)
    share = tokens.new_full((len(tokens), *grid), 1 / (grid[0] * grid[1]))
    for grid, attentions in reversed(mixings):
        if share.shape[1:] != grid:
            share = share.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2) / 4
        row = share.flatten(1)[:, None]
        for attention in reversed(attentions):
            row = (row @ attention + row) / 2
        share = row.view(share.shape)
    return share


def _mean_attention(attention: Any, tokens: Tensor) -> Tensor:
    """Weights (B, N, N) of the mean head; a row sums to 1."""
    heads = attention.num_heads
    queries, keys, _ = attention.qkv(tokens).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    weights: Tensor = (queries * attention.scale @ keys.transpose(-2, -1)).softmax(dim=-1).mean(dim=1)
    return weights
