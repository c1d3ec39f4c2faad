"""Heads without a backbone: nothing of it learns or is saved, and no picture can be shown to it."""

import pytest
import torch

from biomass_pl.errors import ConfigError
from biomass_pl.pasture.task import HierarchicalRatio
from biomass_pl.training.callbacks.freeze import BackboneFreeze
from biomass_pl.training.given_backbone import GivenBackbone
from biomass_pl.training.optim import OptimConfig, TrainingLength


def task(**settings) -> HierarchicalRatio:
    return HierarchicalRatio(backbone="no_such_network", given_width=6, **settings)


@pytest.fixture
def built() -> HierarchicalRatio:
    built = task()
    built.configure_model()
    return built


def test_a_network_of_given_features_has_heads_alone(built):
    assert isinstance(built.backbone, GivenBackbone)
    assert not list(built.backbone.parameters()) and not [name for name in built.state_dict() if "backbone" in name]
    batch = {"id": ["a", "b"], "features": torch.randn(2, 2, 3, 6)}
    assert built.predict_step(batch).columns["Dry_Total_g_pred"].shape == (2,)


def test_it_takes_no_picture(built):
    with pytest.raises(ConfigError, match=r"trained on data\.features"):
        built.predict_step({"id": ["a"], "tiles": torch.zeros(1, 2, 1, 3, 32, 32)})


def test_heads_learn_at_the_rate_of_a_frozen_backbone_also_without_the_callback():
    """A layer decay has no layers to act on."""
    made = task(optim=OptimConfig(head_lr_frozen=3e-3, warmup_epochs=0, layer_decay=0.5))
    made.configure_model()
    assert made.frozen_epochs == "all"
    length = TrainingLength(epochs=2, steps_per_epoch=1, frozen_epochs=made.frozen_epochs)
    backbone, head = made.parameter_groups(length)
    assert backbone.parameters == [] and head.name == "head" and head.rate(0) == 3e-3


def test_a_thaw_is_refused():
    with pytest.raises(ConfigError, match=r"epochs 2 would have it learn later"):
        BackboneFreeze(epochs=2).check(trainer=None, task=task())  # type: ignore[arg-type]


def test_a_head_starts_the_same_on_a_frozen_backbone_and_on_its_features():
    """Whatever the backbone draws; one that learns later is not asked to."""
    states = []
    for given in (False, True):
        torch.manual_seed(7)
        if given:
            made = HierarchicalRatio(backbone="no_such_network", given_width=64)
        else:
            made = HierarchicalRatio(backbone="test_vit.r160_in1k", pretrained=False, tile_size=32)
            made.frozen_epochs = "all"
        made.configure_model()
        states.append({name: value for name, value in made.state_dict().items() if "backbone" not in name})
    frozen, on_features = states
    assert frozen.keys() == on_features.keys()
    assert all(torch.equal(frozen[name], on_features[name]) for name in frozen)
