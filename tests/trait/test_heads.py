"""The head: where it starts, its units, sums that are exact, nothing below zero."""

import math

import pytest
import torch

from biomass_pl.training.pooling import AttentionPool, MeanPool
from biomass_pl.trait.heads import RegressionNetwork, TraitHead
from biomass_pl.trait.sums import parts_of

TARGETS = ("green", "total", "dead")
SUMS = {"total": ["green", "dead"]}
VALUES = torch.tensor([[1000.0, 1003.0, 3.0], [2000.0, math.nan, 1.0], [math.nan, 2002.0, 2.0]])


def head(*, sums=SUMS, non_negative=False, seed=0):
    torch.manual_seed(seed)
    made = TraitHead(num_features=6, hidden=8, dropout=0.5, parts=parts_of(TARGETS, sums), non_negative=non_negative)
    made.start_at(VALUES)
    return made.eval()


@pytest.mark.parametrize("non_negative", [False, True])
def test_a_head_starts_at_the_means_of_what_was_measured(non_negative):
    made = head(non_negative=non_negative)
    torch.nn.init.zeros_(made.layers[-1].weight)
    torch.testing.assert_close(made(torch.randn(4, 6)), torch.tensor([[1500.0, 1502.0, 2.0]] * 4), rtol=1e-4, atol=1e-3)


def test_an_output_of_one_is_a_spread():
    made = head()
    torch.nn.init.zeros_(made.layers[-1].weight)
    torch.nn.init.ones_(made.layers[-1].bias)
    spread = math.sqrt(2 / 3)
    torch.testing.assert_close(made(torch.randn(1, 6)), torch.tensor([[2000.0, 2002 + spread, 2 + spread]]))
    assert made.spreads.tolist() == pytest.approx([500.0, 499.5, spread])


@pytest.mark.parametrize("non_negative", [False, True])
def test_sums_are_exact_and_without_them_every_target_is_on_its_own(non_negative):
    features = 100 * torch.randn(50, 6)
    green, total, dead = head(non_negative=non_negative)(features).unbind(dim=1)
    assert torch.equal(total, green + dead)
    green, total, dead = head(sums={}, non_negative=non_negative)(features).unbind(dim=1)
    assert not torch.allclose(total, green + dead)


@pytest.mark.parametrize("non_negative", [False, True])
def test_nothing_is_below_zero_where_that_is_asked_for(non_negative):
    made = head(non_negative=non_negative)
    with torch.no_grad():
        made.layers[-1].weight.mul_(100)
    assert bool((made(torch.randn(200, 6)) >= 0).all()) is non_negative


@pytest.mark.parametrize("pool", [MeanPool(), AttentionPool(6)])
def test_tiles_of_all_views_are_pooled_together_in_any_number(pool):
    network = RegressionNetwork(backbone=torch.nn.Identity(), pool=pool, head=head())
    features = torch.randn(3, 2, 4, 6)
    pooled = network.pooled(features)
    assert pooled.shape == (3, 6)
    torch.testing.assert_close(network.pooled(features.reshape(3, 1, 8, 6)), pooled)
    torch.testing.assert_close(network(features), network.head(pooled))
    if isinstance(pool, MeanPool):
        torch.testing.assert_close(pooled, features.mean(dim=(1, 2)))
