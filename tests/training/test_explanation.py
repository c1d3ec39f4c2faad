"""Where a network looked: shares of a photo on the right grid, in the place that counted."""

import numpy as np
import pytest
import torch
from torch import nn

from biomass_pl.training.attention_rollout import attention_rollout
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.explanation import where_it_looked

SIDE = 64


def photo(seed: int = 0, side: int = SIDE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (1, 3, side, side), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def convolutions() -> Backbone:
    """A small convolutional network. Not to be changed."""
    torch.manual_seed(0)
    return Backbone(name="test_resnet", tile_size=SIDE).eval()


@pytest.fixture(scope="module")
def transformer() -> Backbone:
    """Two stages of global attention over 8 x 8, then 4 x 4 tokens. Not to be changed."""
    torch.manual_seed(0)
    small = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "patch_size": 8}
    return Backbone(name="hvit_tiny", tile_size=SIDE, args=small).eval()


def first_logit_of(backbone: Backbone) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(backbone, nn.Linear(backbone.num_features, 3))


def test_attention_is_followed_to_the_patches_of_the_normalised_photo(transformer):
    shares = where_it_looked(transformer, photo(), transformer)
    assert shares.shape == (8, 8) and shares.dtype == np.float32
    assert shares.min() >= 0 and shares.sum() == pytest.approx(1, abs=1e-6)
    expected = attention_rollout(transformer.network, transformer.normalise(photo()))[0]
    np.testing.assert_array_equal(shares, expected.numpy())


def test_a_map_of_gradients_is_of_shares_in_16_by_16_cells(convolutions):
    logits_of = first_logit_of(convolutions)
    shares = where_it_looked(convolutions, photo(), logits_of)
    assert shares.shape == (16, 16)
    assert shares.min() >= 0 and shares.sum() == pytest.approx(1, abs=1e-6) and shares.std() > 0
    assert not np.allclose(shares, where_it_looked(convolutions, photo(1), logits_of), atol=1e-3)


@pytest.mark.parametrize("corner", [(0, 0), (0, 48), (48, 0), (48, 48)])
def test_a_network_that_sees_one_corner_looked_there(corner, convolutions):
    row, column = corner
    head = first_logit_of(convolutions)

    def logits_of(pixels: torch.Tensor) -> torch.Tensor:
        seen = torch.zeros_like(pixels)
        seen[..., row : row + 16, column : column + 16] = pixels[..., row : row + 16, column : column + 16]
        return head(seen)

    shares = where_it_looked(convolutions, photo(), logits_of)
    cells = slice(row // 4, row // 4 + 4), slice(column // 4, column // 4 + 4)
    assert shares[cells].sum() == pytest.approx(1, abs=1e-6)
    assert (shares[cells] > 0).all()


def test_a_cell_has_the_mean_of_the_steepest_channel_of_the_largest_logit(convolutions):
    """Two logits that are weighted sums of the pixels: a pixel's slope is its weight."""
    weights = torch.zeros(2, 3, SIDE, SIDE)
    weights[1, 0, :4, :4] = 3  # cell (0, 0): 3 of each pixel
    weights[1, 1, :4, :4] = -1  # less steep than the first channel
    weights[1, 2, 60:, 62:] = -2  # cell (15, 15): 2 of half of its pixels
    weights[0, :, 32:, :] = -5  # of the smaller logit

    def logits_of(pixels: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bchw,kchw->bk", pixels, weights) + torch.tensor([0.0, 1e7])

    shares = where_it_looked(convolutions, photo(), logits_of)
    expected = np.zeros((16, 16))
    expected[0, 0], expected[15, 15] = 3 / 4, 1 / 4
    np.testing.assert_allclose(shares, expected, atol=1e-6)


def test_a_network_for_which_nothing_counts_has_an_empty_map(convolutions):
    shares = where_it_looked(convolutions, photo(), lambda pixels: 0 * pixels.sum().expand(1, 2))
    assert shares.shape == (16, 16) and not shares.any()


def test_nothing_is_left_behind_for_a_training(convolutions):
    tiles = photo()
    with torch.no_grad():
        where_it_looked(convolutions, tiles, first_logit_of(convolutions))
    assert all(parameter.grad is None for parameter in convolutions.parameters())
    assert not tiles.requires_grad and tiles.dtype == torch.uint8
