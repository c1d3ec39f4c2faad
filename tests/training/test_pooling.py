"""Pooling of tiles; attention is worked by hand where pasture's fusion uses it."""

import torch

from biomass_pl.training.pooling import AttentionPool, MeanPool


def test_the_mean_counts_all_tiles_the_same():
    assert MeanPool()(torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])).tolist() == [[2.0, 4.0]]


def test_attention_follows_its_weights_and_not_the_order_of_tiles():
    torch.manual_seed(0)
    pool, tiles = AttentionPool(5), torch.randn(2, 4, 5)
    torch.testing.assert_close(pool(tiles), pool(tiles.flip(1)))
    assert not torch.allclose(pool(tiles), tiles.mean(dim=1))
