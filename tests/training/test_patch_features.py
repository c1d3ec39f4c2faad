"""Patches of timm networks: their order, what is left out, and what is refused."""

import pytest
import timm
import torch
from torch import nn

from biomass_pl.errors import ConfigError
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.patch_features import patch_features

VIT, CNN = "test_vit.r160_in1k", "test_resnet.r160_in1k"
SIZE = 64


class Gives(nn.Module):
    """A network of which only the output matters."""

    def __init__(self, output: object, **about: object) -> None:
        super().__init__()
        self.output = output
        for name, value in about.items():
            setattr(self, name, value)

    def forward_features(self, pictures: torch.Tensor) -> object:
        return self.output


class NoAttention(nn.Module):
    def forward(self, tokens: torch.Tensor, **about: object) -> torch.Tensor:
        return torch.zeros_like(tokens)


def patches_of(network: nn.Module) -> torch.Tensor:
    return patch_features(network, torch.zeros(1, 3, 4, 4), name="net")


def test_a_feature_map_becomes_patches_in_reading_order():
    numbers = torch.arange(12.0).reshape(1, 3, 2, 2)  # channels first
    expected = torch.tensor([[[0.0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]])
    assert torch.equal(patches_of(Gives(numbers)), expected)
    assert torch.equal(patches_of(Gives(numbers.movedim(1, -1), output_fmt="NHWC")), expected)


def test_class_and_register_tokens_are_left_out():
    tokens = torch.arange(5.0)[None, :, None]
    assert torch.equal(patches_of(Gives(tokens, num_prefix_tokens=1)), tokens[:, 1:])
    assert torch.equal(patches_of(Gives(tokens[:, 1:])), tokens[:, 1:])


@pytest.mark.parametrize(
    "network",
    [
        nn.Linear(3, 3),
        Gives(torch.zeros(1, 7)),
        Gives(torch.zeros(1, 5, 3)),
        Gives([torch.zeros(1, 4, 3)]),
        Gives(torch.zeros(1, 3, 2, 3)),
    ],
    ids=["no such method", "one vector", "five tokens", "a list", "an oblong map"],
)
def test_what_is_no_square_of_patches_is_refused(network):
    with pytest.raises(ConfigError, match=r"'net' gives neither a feature map nor a square of tokens.*model\.backbone"):
        patches_of(network)


@pytest.mark.parametrize(
    ("name", "shape"),
    [(VIT, (16, 64)), (CNN, (4, 96)), ("tf_efficientnet_lite0", (4, 1280)), ("swin_tiny_patch4_window7_224", (4, 768))],
)
@torch.inference_mode()
def test_a_backbone_gives_the_patches_of_every_tile(name, shape):
    torch.manual_seed(0)
    backbone = Backbone(name=name, tile_size=SIZE, patches=True).eval()
    tiles = torch.randint(0, 256, (2, 2, 3, SIZE, SIZE), dtype=torch.uint8)
    found = backbone(tiles)
    assert found.shape == (2, 2, *shape) and backbone.feature_shape == shape and backbone.num_features == shape[1]
    torch.testing.assert_close(found[1], backbone(tiles[1]), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_patches_of_a_network_that_takes_their_mean_have_its_vector_as_mean():
    torch.manual_seed(0)
    backbone = Backbone(name="tf_efficientnet_lite0", tile_size=SIZE, patches=True).eval()
    tiles = torch.randint(0, 256, (1, 3, SIZE, SIZE), dtype=torch.uint8)
    whole = backbone.network(backbone.normalise(tiles))
    torch.testing.assert_close(backbone(tiles).mean(dim=1), whole, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_patch_lies_where_its_pixels_do():
    torch.manual_seed(0)
    backbone = Backbone(name=VIT, tile_size=SIZE, patches=True).eval()
    for block in backbone.network.blocks:  # without attention, a token knows its own pixels alone
        block.attn = NoAttention()
    tiles = torch.zeros(2, 3, SIZE, SIZE)
    tiles[1, :, 16:32, 32:48] = 255  # second row, third column of patches
    changed = (backbone(tiles[:1]) != backbone(tiles[1:])).any(dim=-1)[0]
    assert changed.nonzero().flatten().tolist() == [6]


def test_without_patches_a_backbone_gives_one_vector_as_before():
    backbone = Backbone(name=VIT, tile_size=SIZE)
    assert backbone.feature_shape == (64,) and timm.create_model(VIT, num_classes=0).num_features == 64
    assert backbone(torch.zeros(2, 2, 3, SIZE, SIZE)).shape == (2, 2, 64)


def test_a_network_without_patches_is_refused_by_name():
    with pytest.raises(ConfigError, match="'crossvit_9_240' gives neither"):
        Backbone(name="crossvit_9_240", tile_size=240, patches=True)
