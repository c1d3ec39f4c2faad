"""Where a hierarchical vision transformer looks: by hand, and as a product of whole matrices."""

import math

import pytest
import torch
from torch import Tensor

from biomass_pl.training.attention_rollout import attention_rollout
from biomass_pl.training.hvit import HierarchicalViT
from tests.training.test_hvit import pictures, plain_features, small


def test_two_patches_by_hand():
    network = HierarchicalViT(
        img_size=(2, 4), patch_size=2, in_chans=1, embed_dim=2, depths=[1], num_heads=[1], num_classes=0
    )
    with torch.no_grad():
        network.pos_embed.zero_()
        network.patch_embed.proj.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2))
        qkv = network.stages[0].blocks[0].attn.qkv
        qkv.weight.zero_()
        qkv.bias.copy_(torch.tensor([1.0, 0, 0, 0, 0, 0]))  # every query is (1, 0)
        qkv.weight[2, 0] = math.log(3) / math.sqrt(2)  # a key is its token's first number times this
    bright_and_dark = torch.cat([torch.ones(1, 1, 2, 2), -torch.ones(1, 1, 2, 2)], dim=3)
    # The norms make tokens (1, -1) and (-1, 1). Scores are ln(3) / 2 and -ln(3) / 2: both tokens attend by .75 and .25.
    # Half of it and half of the identity: [[.875, .125], [.375, .625]]; the mean of both rows is what is wanted.
    torch.testing.assert_close(
        attention_rollout(network.eval(), bright_and_dark), torch.tensor([[[0.625, 0.375]]]), rtol=1e-4, atol=1e-4
    )


def averaging(height: int, width: int) -> Tensor:
    """The matrix (h w / 4, h w) that takes the mean of 2 x 2 tokens."""
    matrix = torch.zeros(height // 2, width // 2, height, width)
    for row in range(height):
        for column in range(width):
            matrix[row // 2, column // 2, row, column] = 0.25
    return matrix.flatten(2).flatten(0, 1)


@pytest.mark.parametrize("sides", [(32, 32), (32, 64), (48, 16)])
def test_it_is_the_product_of_all_mixings(sides):
    network, images = small(), pictures(*sides)
    found = attention_rollout(network, images)
    assert found.shape == (2, sides[0] // 4, sides[1] // 4)
    for image, contributions in zip(images, found, strict=True):
        height, width = contributions.shape
        product = torch.eye(height * width)
        for number, attentions in enumerate(plain_features(network, image)[1]):
            if number:
                product = averaging(height, width) @ product
                height, width = height // 2, width // 2
            for attention in attentions:
                product = (attention + torch.eye(len(attention))) / 2 @ product
        torch.testing.assert_close(contributions.flatten(), product.mean(dim=0), rtol=1e-4, atol=1e-6)


def test_contributions_are_shares_and_leave_no_gradient():
    network = small(patch_size=2)
    found = attention_rollout(network, pictures(32, 32, count=3))
    torch.testing.assert_close(found.sum(dim=(1, 2)), torch.ones(3))
    assert (found > 0).all() and not found.requires_grad
    assert found.std(dim=(1, 2)).min() > 0


def test_uniform_attention_looks_everywhere_alike():
    network = small()
    with torch.no_grad():
        for stage in network.stages:
            for block in stage.blocks:
                block.attn.qkv.weight.zero_()
                block.attn.qkv.bias.zero_()
    torch.testing.assert_close(attention_rollout(network, pictures(32, 48)), torch.full((2, 8, 12), 1 / 96))
