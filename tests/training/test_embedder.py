"""Vectors of chosen layers and poolings: those of the network itself, and each pooling by hand."""

import pytest
import torch
from torch.testing import assert_close

from biomass_pl.errors import ConfigError
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.embedder import POOLINGS, Embedder

VIT, CNN = "test_vit.r160_in1k", "test_efficientnet.r160_in1k"


@pytest.fixture(scope="module", params=[VIT, CNN])
def backbone(request) -> Backbone:
    return Backbone(name=request.param, tile_size=32).eval()


@pytest.fixture(scope="module")
def vit() -> Backbone:
    return Backbone(name=VIT, tile_size=32).eval()


@pytest.fixture(scope="module")
def tiles() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 2, 3, 32, 32), dtype=torch.uint8, generator=generator)


def vectors(backbone: Backbone, tiles: torch.Tensor, **chosen) -> torch.Tensor:
    embedder = Embedder(backbone=backbone, **chosen)
    with torch.inference_mode():
        found = embedder(tiles)
    assert found.shape == (*tiles.shape[:-3], embedder.num_features)
    return found


def last_map(backbone: Backbone, tiles: torch.Tensor) -> torch.Tensor:
    """Patches of the last layer (B, P, D)."""
    with torch.inference_mode():
        found = backbone.network.forward_features(backbone.normalise(tiles.flatten(end_dim=1)))
    return found.flatten(2).transpose(1, 2) if found.ndim == 4 else found[:, backbone.network.num_prefix_tokens :]


def test_poolings_are_those_of_the_patches_one_after_another(backbone, tiles):
    patches = last_map(backbone, tiles)
    cubes = patches.clamp(min=1e-6) ** 3
    expected = torch.cat([patches.mean(1), patches.amax(1), cubes.mean(1) ** (1 / 3)], dim=1).reshape(3, 2, -1)
    assert_close(vectors(backbone, tiles, poolings=["mean", "max", "gem"]), expected)


def test_what_the_network_pools_itself_is_one_of_the_poolings(backbone, tiles):
    with torch.inference_mode():
        own = backbone(tiles)
    pooling = "class_token" if backbone.name == VIT else "mean"
    assert_close(vectors(backbone, tiles, poolings=[pooling]), own)


def test_the_last_layer_of_a_vit_is_what_it_ends_with_and_others_differ(vit, tiles):
    for pooling in POOLINGS:
        last = vectors(vit, tiles, poolings=[pooling])
        width = last.shape[-1]
        two = vectors(vit, tiles, layers=[-1, -2], poolings=[pooling])
        assert_close(two[..., width:], last)  # in the order of the network, whatever was asked for first
        assert two.shape[-1] == 2 * width and not torch.allclose(two[..., :width], last, atol=1e-3)
        assert_close(vectors(vit, tiles, layers=[-2, -1], poolings=[pooling]), two)


def test_layers_without_a_pooling_are_averaged(backbone, tiles):
    assert_close(vectors(backbone, tiles, layers=[-2]), vectors(backbone, tiles, layers=[-2], poolings=["mean"]))


def test_tiles_that_go_through_one_by_one_give_the_same(tiles):
    """Few at a time, for small memories."""
    torch.manual_seed(0)
    alone = Backbone(name=VIT, tile_size=32, tile_batch=1).eval()
    together = Backbone(name=VIT, tile_size=32).eval()
    together.load_state_dict(alone.state_dict())
    assert_close(vectors(alone, tiles, layers=[-1]), vectors(together, tiles, layers=[-1]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        (CNN, {"poolings": ["class_token"]}, "has no class token"),
        (VIT, {"layers": [-99]}, "has no such --layers"),
        ("hvit_tiny", {"layers": [-1]}, "gives no layer but its last"),
    ],
)
def test_what_a_network_does_not_have_is_refused(name, chosen, message):
    small = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]} if name == "hvit_tiny" else {}
    with pytest.raises(ConfigError, match=message):
        Embedder(backbone=Backbone(name=name, tile_size=32, args=small), **chosen)
