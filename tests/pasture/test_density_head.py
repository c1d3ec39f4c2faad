"""Densities of patches: worked by hand, their sums, where they start, and where they lie in a photo."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from biomass_pl.pasture.density_head import DensityHead, DensityNetwork, joined_map
from biomass_pl.pasture.quadrat import QUADRAT_M2, QUADRAT_MM
from biomass_pl.pasture.targets import CLOVER, DEAD, GDM, GREEN, TOTAL

FEATURES = 6


def new_head(*, log_target: bool = False, seed: int = 0) -> DensityHead:
    torch.manual_seed(seed)
    return DensityHead(num_features=FEATURES, hidden=8, dropout=0.0, log_target=log_target).eval()


def random_features(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, FEATURES, generator=torch.Generator().manual_seed(0))


def test_the_quadrat_is_70_by_30_cm():
    assert QUADRAT_MM == (700.0, 300.0) and pytest.approx(0.21) == QUADRAT_M2


def test_grams_are_densities_times_the_ground_of_a_patch_worked_by_hand():
    """Two halves of one tile of two patches: four patches of 0.0525 square metres each."""
    density = torch.tensor([[[[[100.0, 0, 40], [200, 20, 0]]], [[[0, 0, 0], [100, 60, 0]]]]])
    assert density.shape == (1, 2, 1, 2, 3)
    found = new_head().grams(density)[0].tolist()
    assert found == pytest.approx([21.0, 4.2, 2.1, 23.1, 27.3], rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    views=st.sampled_from([1, 2]),
    tiles=st.integers(1, 4),
    patches=st.sampled_from([1, 4, 9]),
    log_target=st.booleans(),
    scale=st.sampled_from([0.1, 10.0, 1000.0]),
)
@torch.inference_mode()
def test_sums_are_exact_in_float32_and_nothing_is_below_zero(views, tiles, patches, log_target, scale):
    head = new_head(log_target=log_target)
    head.output.weight *= scale
    grams = head(random_features(3, views, tiles, patches))
    assert grams.dtype == torch.float32 and grams.isfinite().all() and (grams >= 0).all()
    assert torch.equal(grams[:, GREEN] + grams[:, CLOVER], grams[:, GDM])
    assert torch.equal(grams[:, GDM] + grams[:, DEAD], grams[:, TOTAL])


@torch.inference_mode()
def test_half_precision_leaves_the_grams_in_float32():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        grams = new_head()(random_features(2, 2, 4, 4))
    assert grams.dtype == torch.float32
    assert torch.equal(grams[:, GDM] + grams[:, DEAD], grams[:, TOTAL])


@torch.inference_mode()
def test_a_patch_counts_by_its_own_features_wherever_it_lies():
    head, features = new_head(), random_features(1, 2, 4, 9)
    order = torch.randperm(2 * 4 * 9, generator=torch.Generator().manual_seed(1))
    moved = features.reshape(1, -1, FEATURES)[:, order].reshape(features.shape)
    torch.testing.assert_close(head(moved), head(features))
    doubled = torch.cat([features, features], dim=3)  # finer patches of the same ground
    torch.testing.assert_close(head(doubled), head(features))


@pytest.mark.parametrize("log_target", [False, True])
@torch.inference_mode()
def test_it_starts_at_the_means_of_the_training_fold(log_target):
    head = new_head(log_target=log_target)
    head.output.weight.zero_()
    grams = torch.tensor([[30.0, 10, 0, 30, 40], [10, 0, 8, 18, 18]])
    head.start_at(grams)
    assert head(random_features(1, 2, 4, 4))[0].tolist() == pytest.approx([20, 5, 4, 24, 29], rel=1e-4)


@torch.inference_mode()
def test_a_network_is_its_backbone_and_its_head():
    head = new_head()
    network = DensityNetwork(backbone=nn.Flatten(start_dim=3, end_dim=-2), head=head)
    features = random_features(2, 2, 4, 3, 3)
    assert torch.equal(network(features), head(features.flatten(3, -2)))


def test_patches_are_joined_to_the_photo_as_they_lie_in_it():
    """Each patch of a photo of 2 x 3 tiles a half, 2 x 2 patches a tile, gets the number of its place."""
    rows, columns = 4, 12
    photo = torch.arange(rows * columns * 2.0).reshape(1, 2, rows, columns)
    halves = torch.stack([photo[..., :6], photo[..., 6:]], dim=1)  # (1, halves, channels, rows, columns)
    tiles = torch.stack([halves[..., r : r + 2, c : c + 2] for r in (0, 2) for c in (0, 2, 4)], dim=2)
    density = tiles.flatten(start_dim=-2).movedim(3, -1)  # (1, halves, tiles, patches, channels)
    assert density.shape == (1, 2, 6, 4, 2)
    assert torch.equal(joined_map(density, (2, 6)), photo)


def test_the_sum_of_a_map_is_the_prediction():
    head, features = new_head(), random_features(2, 2, 4, 16)
    with torch.inference_mode():
        density, grams = head.density(head.hidden(features)), head(features)
    mapped = joined_map(density, (2, 4)).double().numpy()
    area = QUADRAT_M2 / (mapped.shape[2] * mapped.shape[3])
    assert np.allclose(mapped.sum(axis=(2, 3)) * area, grams[:, [GREEN, DEAD, CLOVER]], rtol=0, atol=1e-5)
