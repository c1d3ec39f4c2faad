"""A backbone, dropout and one linear layer."""

import pytest
import timm
import torch
from timm.models import get_pretrained_cfg
from torch import nn

from biomass_pl.lesion.classifier import BACKBONES, BinaryClassifier
from biomass_pl.training.backbone import Backbone

FEATURES = 4


def tiny(dropout: float = 0.0) -> BinaryClassifier:
    """Pictures of 2 x 2 pixels, whose 12 values become four features."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, FEATURES))
    return BinaryClassifier(backbone=backbone, num_features=FEATURES, dropout=dropout)


@pytest.mark.parametrize("pictures", [1, 3])
def test_every_picture_gets_one_logit(pictures):
    assert tiny()(torch.randn(pictures, 3, 2, 2)).shape == (pictures, 1)


def test_the_logit_is_linear_in_the_features():
    network, pictures = tiny().eval(), torch.randn(5, 3, 2, 2)
    layer = network.head[1]
    expected = network.backbone(pictures) @ layer.weight.T + layer.bias
    assert layer.weight.shape == (1, FEATURES)
    assert torch.allclose(network(pictures), expected)


def test_dropout_hits_features_in_training_only():
    torch.manual_seed(1)
    network, picture = tiny(dropout=0.5), torch.randn(1, 3, 2, 2)
    features = network.backbone(picture)
    masked = torch.stack([network.head[0](features) for _ in range(200)])
    # What is kept is doubled.
    assert ((masked == 0) | torch.isclose(masked, 2 * features)).all()
    assert 0.4 < (masked == 0).float().mean() < 0.6
    assert network(picture).requires_grad
    network.eval()
    assert torch.equal(network(picture), network(picture))


def test_a_real_backbone_fits():
    backbone = Backbone(name="test_vit.r160_in1k", tile_size=32)
    network = BinaryClassifier(backbone=backbone, num_features=backbone.num_features, dropout=0.2)
    pictures = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert network(pictures).shape == (2, 1)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_short_name_stands_for_a_network_and_weights_that_timm_has(name):
    network, _, weights = BACKBONES[name].partition(".")
    assert timm.is_model(network)
    config = get_pretrained_cfg(BACKBONES[name])
    assert config is not None and config.tag == weights
    assert config.input_size == (3, 224, 224)
    assert config.hf_hub_id or config.url
