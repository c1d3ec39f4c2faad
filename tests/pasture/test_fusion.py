"""Stereo fusion: FiLM by the other view, attention pooling, and the joined vector."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from biomass_pl.errors import ConfigError
from biomass_pl.pasture.fusion import FeatureModulation, StereoFusion, StereoNetwork
from biomass_pl.pasture.heads import HierarchicalRatioHead
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.pooling import AttentionPool


def fusion(*, num_features: int = 6, film: bool = True, attention_pool: bool = True) -> StereoFusion:
    return StereoFusion(
        num_features=num_features, hidden_ratio=0.5, dropout=0.2, film=film, attention_pool=attention_pool
    ).eval()


def set_weights(layer: nn.Module, weight: list[list[float]], bias: list[float]) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))


def test_film_starts_as_the_identity():
    features = 100 * torch.randn(3, 2, 4, 10)
    assert torch.equal(FeatureModulation(10)(features), features)


def test_film_scales_and_shifts_by_the_mean_of_the_other_view():
    film = FeatureModulation(2)
    first, _, last = film.mlp
    set_weights(first, [[1.0, 0.0]], [0.0])  # the mean of the first feature; GELU leaves 20 and 60 as they are
    set_weights(last, [[0.1], [0.2], [1.0], [2.0]], [0.0, 0.0, 0.0, 0.0])
    left, right = [[10.0, 1.0], [30.0, 3.0]], [[50.0, 5.0], [70.0, 7.0]]
    modulated = film(torch.tensor([[left, right]]))
    # left: gamma = (6, 12), beta = (60, 120) from the right's mean 60; right: (2, 4), (20, 40) from the left's 20
    expected = [[[130.0, 133.0], [270.0, 159.0]], [[170.0, 65.0], [230.0, 75.0]]]
    torch.testing.assert_close(modulated, torch.tensor([expected]))


def test_attention_with_a_zero_query_is_the_plain_mean():
    pool = AttentionPool(5)
    set_weights(pool.query, [[0.0] * 5] * 5, [0.0] * 5)
    features = torch.randn(2, 3, 7, 5)
    torch.testing.assert_close(pool(features), features.mean(dim=2))


def test_attention_worked_by_hand():
    pool = AttentionPool(4)
    for layer in (pool.query, pool.key):
        set_weights(layer, torch.eye(4).tolist(), [0.0] * 4)
    tiles = torch.tensor([[0.0] * 4, [1.0] * 4])
    # query = .5 in each of 4 features; similarities 0 and 4 * .5 * 1 / sqrt(4) = 1
    share = math.e / (1 + math.e)
    assert pool(tiles).tolist() == pytest.approx([share] * 4, rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), tiles=st.integers(1, 8), magnitude=st.sampled_from([0.1, 1.0, 50.0]))
def test_attention_weights_are_positive_and_sum_to_one(seed, tiles, magnitude):
    torch.manual_seed(seed)
    pool = AttentionPool(tiles)
    # One-hot tiles: what is pooled are the weights themselves, times the magnitude.
    weights = pool(magnitude * torch.eye(tiles)) / magnitude
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1.0, abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), order=st.permutations(range(5)))
def test_the_order_of_tiles_changes_nothing(seed, order):
    torch.manual_seed(seed)
    joined = fusion()
    assert joined.film is not None
    nn.init.normal_(joined.film.mlp[-1].weight)
    features = torch.randn(2, 2, 5, 6)
    torch.testing.assert_close(joined(features[:, :, list(order)]), joined(features), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("num_features", "ratio", "hidden"),
    [(64, 0.5, 64), (64, 0.25, 64), (64, 1.0, 128), (768, 0.5, 768), (100, 0.333, 66), (8, 0.01, 64)],
)
def test_the_joined_length_is_a_share_of_both_views_and_at_least_64(num_features, ratio, hidden):
    joined = StereoFusion(num_features=num_features, hidden_ratio=ratio, dropout=0.0, film=True, attention_pool=True)
    assert joined.hidden == hidden
    assert joined(torch.randn(3, 2, 4, num_features)).shape == (3, hidden)


def test_without_film_and_attention_the_plain_means_are_joined():
    joined = fusion(film=False, attention_pool=False)
    features = torch.randn(3, 2, 4, 6)
    left, right = features[:, 0].mean(dim=1), features[:, 1].mean(dim=1)
    torch.testing.assert_close(joined(features), joined.join(torch.cat([left, right], dim=1)))
    assert {name.split(".")[0] for name in joined.state_dict()} == {"join"}


def test_without_film_a_view_is_pooled_by_itself():
    joined = fusion(film=False)
    assert joined.pool is not None
    features = torch.randn(3, 2, 4, 6)
    left, right = joined.pool(features[:, 0]), joined.pool(features[:, 1])
    torch.testing.assert_close(joined(features), joined.join(torch.cat([left, right], dim=1)))


def test_without_attention_film_still_acts():
    joined = fusion(attention_pool=False)
    assert joined.film is not None
    features = torch.randn(3, 2, 4, 6)
    before = joined(features)
    nn.init.normal_(joined.film.mlp[-1].weight)
    after = joined(features)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, joined.join(joined.film(features).mean(dim=2).flatten(start_dim=1)))


def test_left_and_right_view_have_their_own_place():
    joined = fusion()
    features = torch.randn(1, 2, 4, 6)
    assert not torch.allclose(joined(features), joined(features.flip(1)))


def test_fusion_drops_out_in_training_only():
    joined = fusion()
    features = torch.randn(2, 2, 4, 6)
    assert torch.equal(joined(features), joined(features))
    joined.train()
    assert not torch.equal(joined(features), joined(features))


@pytest.fixture(scope="module")
def network() -> StereoNetwork:
    torch.manual_seed(0)
    backbone = Backbone(name="test_vit.r160_in1k", tile_size=32, pretrained=False, weights=None)
    joined = fusion(num_features=backbone.num_features)
    head = HierarchicalRatioHead(hidden=joined.hidden, dropout=0.0, log_target=False)
    return StereoNetwork(backbone=backbone, fusion=joined, head=head).eval()


def test_all_tiles_of_a_batch_pass_the_backbone_in_one_call(network):
    shapes = []
    handle = network.backbone.network.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    with torch.no_grad():
        grams = network(torch.randint(0, 256, (3, 2, 4, 3, 32, 32), dtype=torch.uint8))
    handle.remove()
    assert grams.shape == (3, 5)
    assert shapes == [(3 * 2 * 4, 3, 32, 32)]


def test_a_photo_is_predicted_the_same_alone_and_in_a_batch(network):
    tiles = torch.randint(0, 256, (3, 2, 4, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        together = network(tiles)
        alone = torch.cat([network(tiles[[photo]]) for photo in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1], rtol=1e-4)


def test_a_single_view_is_pooled_and_projected_with_nothing_to_be_conditioned_on():
    fused = StereoFusion(
        num_features=200, hidden_ratio=0.5, dropout=0.0, film=True, attention_pool=False, views=1
    ).eval()
    assert fused.film is None and fused.hidden == 100
    features = torch.randn(3, 1, 4, 200)
    torch.testing.assert_close(fused(features), fused.join(features.mean(dim=(1, 2))))


@pytest.mark.parametrize(("made_for", "given"), [(1, 2), (2, 1)])
def test_photos_with_another_number_of_views_are_refused(made_for, given):
    fused = StereoFusion(num_features=6, hidden_ratio=0.5, dropout=0.0, film=False, attention_pool=True, views=made_for)
    with pytest.raises(ConfigError, match=rf"made for {made_for} view\(s\) of a photo, and data.views gives {given}"):
        fused(torch.randn(3, given, 4, 6))
