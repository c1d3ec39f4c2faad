"""Colours and bands brought together: counts, the published fusion step by step, what reaches which weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from biomass_pl.errors import ConfigError
from biomass_pl.leaf.classifier import ClassifierNetwork
from biomass_pl.leaf.two_streams import BandStream, ConcatenationFusion, CrossAttentionFusion
from biomass_pl.training.backbone import Backbone

SMALL = {"embed_dim": 12, "depths": [1, 1], "num_heads": [1, 2]}


def network(*, channels=2, by_attention=True, backbone="hvit_small", side=64, args=SMALL) -> ClassifierNetwork:
    encoder = Backbone(name=backbone, tile_size=side, args=args)
    bands = BandStream(backbone=encoder, channels=channels, by_attention=by_attention, grad_checkpointing=False)
    return ClassifierNetwork(backbone=encoder, classes=7, dropout=0.0, bands=bands)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("by_attention", "count"), [(True, 62_299_591), (False, 56_391_367)])
def test_two_streams_have_the_published_numbers_of_parameters(by_attention, count):
    made = network(channels=4, by_attention=by_attention, side=256, args={})
    assert parameters(made) == count
    assert parameters(made.bands.encoder) == 27_614_304


def test_cross_attention_is_the_published_formula():
    torch.manual_seed(0)
    fusion = CrossAttentionFusion(width=24).eval()
    nn.init.normal_(fusion.mask)
    colours, bands = torch.randn(2, 5, 24), torch.randn(2, 3, 24)
    known = bands + fusion.mask
    weights, biases = fusion.attention.in_proj_weight.chunk(3), fusion.attention.in_proj_bias.chunk(3)
    queries, keys, values = (
        (tokens @ weight.T + bias).unflatten(-1, (12, 2)).transpose(1, 2)
        for tokens, weight, bias in zip((colours, known, known), weights, biases, strict=True)
    )
    attention = (queries @ keys.transpose(-2, -1) / 2**0.5).softmax(dim=-1)
    attended = fusion.attention.out_proj((attention @ values).transpose(1, 2).flatten(2))
    tokens = fusion.norm1(colours + attended)
    hidden = functional.gelu(fusion.mlp[0](tokens))
    torch.testing.assert_close(fusion(colours, bands), fusion.norm2(tokens + fusion.mlp[3](hidden)))


def test_concatenation_projects_both():
    fusion = ConcatenationFusion(width=2)
    with torch.no_grad():
        fusion.projection.weight.copy_(torch.tensor([[1.0, 0, 10, 0], [0, 1, 0, 10]]))
        fusion.projection.bias.zero_()
    assert fusion(torch.tensor([[[1.0, 2]]]), torch.tensor([[[3.0, 4]]])).tolist() == [[[31, 42]]]


@pytest.mark.parametrize("by_attention", [True, False])
def test_every_weight_of_both_streams_learns(by_attention):
    made = network(by_attention=by_attention)
    made(torch.randint(256, (2, 3, 64, 64)), torch.randn(2, 2, 64, 64))[:, 0].sum().backward()
    still = [name for name, weight in made.named_parameters() if weight.grad is None]
    assert still == []


def test_bands_are_standardised_and_count():
    made = network().eval()
    tiles, bands = torch.randint(256, (1, 3, 64, 64)), torch.rand(1, 2, 64, 64)
    before = made(tiles, bands)
    made.bands.standardise_by(torch.tensor([0.5, 0.2]), torch.tensor([2.0, 0.0]))
    assert made.bands.std.flatten().tolist() == [2, 1]
    assert not torch.allclose(made(tiles, bands), before)
    scaled = torch.stack([2 * bands[:, 0] + 0.5, bands[:, 1] + 0.2], dim=1)
    torch.testing.assert_close(made(tiles, scaled), before)


def test_a_network_without_tokens_or_with_an_odd_width_is_refused():
    with pytest.raises(ConfigError, match=r"'test_resnet' gives no tokens"):
        network(backbone="test_resnet", args={})
    with pytest.raises(ConfigError, match="multiple of 12"):
        network(args={"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]})
