"""The classifier's network: counts, agreement with timm's own, dropout, what it is initialised to."""

import pytest
import timm
import torch

from biomass_pl.errors import ConfigError
from biomass_pl.leaf.classifier import ClassifierNetwork
from biomass_pl.leaf.two_streams import BandStream
from biomass_pl.training.backbone import Backbone

TINY = {"embed_dim": 12, "depths": [1, 1], "num_heads": [1, 2]}


def tiny_backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone(name="hvit_tiny", tile_size=32, args=TINY)


def tiles(count: int = 2) -> torch.Tensor:
    return torch.randint(256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_the_published_network_has_its_number_of_parameters():
    made = ClassifierNetwork(backbone=Backbone(name="hvit_small", tile_size=256), classes=7, dropout=0.0)
    assert sum(parameter.numel() for parameter in made.parameters()) == 27_596_647


def test_it_is_the_network_of_timm_with_a_classifier_on_normalised_pixels():
    made = ClassifierNetwork(backbone=tiny_backbone(), classes=3, dropout=0.0).eval()
    reference = timm.create_model("hvit_tiny", num_classes=3, img_size=32, **TINY).eval()
    head = {f"head.{name}": value for name, value in made.head[1].state_dict().items()}
    reference.load_state_dict(made.backbone.network.state_dict() | head)
    mean, std = (torch.tensor(reference.default_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        expected = reference((tiles() / 255 - mean) / std)
        torch.testing.assert_close(made(tiles()), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(made.head(made.features(tiles(), None)), expected, atol=1e-5, rtol=1e-5)


def test_the_last_layer_begins_small_and_without_favourites():
    made = ClassifierNetwork(backbone=tiny_backbone(), classes=500, dropout=0.0)
    assert made.head[1].weight.shape == (500, 24) and not made.head[1].bias.any()
    assert abs(made.head[1].weight.std().item() - 0.02) < 1e-3


def test_dropout_is_that_of_what_the_last_layer_sees_and_of_training_alone():
    made = ClassifierNetwork(backbone=tiny_backbone(), classes=3, dropout=0.999)
    with torch.no_grad():
        made.head[1].bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        logits = [made.train()(tiles(8)) for _ in range(2)]
        assert (logits[0] == torch.tensor([1.0, 2.0, 3.0])).all(dim=1).float().mean() > 0.5  # all features dropped
        assert torch.equal(made.eval()(tiles(8)), made(tiles(8)))
        assert not (made(tiles(8)) == torch.tensor([1.0, 2.0, 3.0])).any()


def with_bands(channels: int) -> ClassifierNetwork:
    backbone = tiny_backbone()
    bands = BandStream(backbone=backbone, channels=channels, by_attention=True, grad_checkpointing=False)
    return ClassifierNetwork(backbone=backbone, classes=3, dropout=0.0, bands=bands).eval()


def test_bands_count_for_the_photo_they_are_of():
    made, shown = with_bands(2), torch.rand(2, 2, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        logits = made(tiles(), shown)
        assert logits.shape == (2, 3)
        torch.testing.assert_close(made(tiles().flip(0), shown.flip(0)), logits.flip(0))
        assert not torch.allclose(made(tiles(), shown.flip(0)), logits, atol=1e-6)


@pytest.mark.parametrize(("built", "given"), [(2, 0), (2, 3), (0, 2)])
def test_another_number_of_bands_than_it_was_built_for_is_no_prediction(built, given):
    made = with_bands(built) if built else ClassifierNetwork(backbone=tiny_backbone(), classes=3, dropout=0.0)
    shown = torch.rand(2, given, 32, 32) if given else None
    with pytest.raises(ConfigError, match=f"The photos have {given} further bands, and the network takes {built}"):
        made(tiles(), shown)
