"""Which weights decay, and the settings of AdamW that a network's name decides."""

import math

import pytest
import torch
from torch import nn

from biomass_pl.errors import ConfigError
from biomass_pl.training.adamw import AdamWConfig, adamw_groups
from biomass_pl.training.optim import ParameterGroup, TrainingLength, make_optimizer
from biomass_pl.training.step_schedule import StepSchedule

LENGTH = TrainingLength(epochs=2, steps_per_epoch=10)


class Network(nn.Module):
    """Every kind of weight, and one that does not learn."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.layer, self.norm = nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4)
        self.latents = nn.Parameter(torch.ones(3, 4))
        self.logit_scale = nn.Parameter(torch.tensor(1.0))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def groups_of(network: nn.Module, name: str = "coca", **settings: float) -> list[ParameterGroup]:
    return adamw_groups(
        network.named_parameters(),
        network_name=name,
        config=AdamWConfig(**settings),
        schedule=StepSchedule(warmup=10),
        length=LENGTH,
    )


def test_weights_of_fewer_than_two_dimensions_do_not_decay():
    network = Network()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decay, no_decay = groups_of(network, wd=0.3)
    assert [names[id(parameter)] for parameter in decay.parameters] == ["latents", "tokens.weight", "layer.weight"]
    assert {names[id(parameter)] for parameter in no_decay.parameters} == {
        *("logit_scale", "layer.bias", "norm.weight", "norm.bias"),
    }
    assert [(group.name, group.weight_decay) for group in (decay, no_decay)] == [("decay", 0.3), ("no_decay", 0.0)]


def test_a_group_without_weights_is_left_out():
    assert [group.name for group in groups_of(nn.Linear(2, 2, bias=False))] == ["decay"]
    assert [group.name for group in groups_of(nn.LayerNorm(2))] == ["no_decay"]


def test_a_network_that_does_not_learn_at_all_is_refused():
    with pytest.raises(ConfigError, match="all weights are frozen"):
        groups_of(nn.Linear(2, 2).requires_grad_(False))


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("coca_stage_1", {}, (5e-4, 0.9, 0.999, 1e-8)),
        ("coca_ViT_small", {}, (5e-4, 0.9, 0.98, 1e-6)),
        ("coca_vit", {"beta2": 0.95}, (5e-4, 0.9, 0.95, 1e-6)),
        ("coca_vit", {"eps": 0.0, "lr": 0.0}, (0.0, 0.9, 0.98, 0.0)),
        ("lm", {"lr": 1e-3, "beta1": 0.8, "eps": 1e-5}, (1e-3, 0.8, 0.999, 1e-5)),
    ],
)
def test_what_is_not_given_depends_on_the_name_one_by_one(name, settings, expected):
    optimizer, _ = make_optimizer(groups_of(nn.Linear(2, 2), name, **settings))
    optimizer.step()
    for group in groups_of(nn.Linear(2, 2), name, **settings):
        assert (group.rate(9), *group.betas, group.eps) == expected
    assert {(*group["betas"], group["eps"]) for group in optimizer.param_groups} == {expected[1:]}


def test_the_optimizer_follows_the_schedule_and_decays_what_decays():
    network = Network()
    optimizer, schedule = make_optimizer(groups_of(network, lr=0.5, wd=0.1))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for step in range(20):
        rate = StepSchedule(warmup=10).rate(step, peak=0.5, length=LENGTH)
        before = network.latents[0, 0].item()
        assert [group["lr"] for group in optimizer.param_groups] == [rate, rate]
        optimizer.step()
        schedule.step()
        assert network.latents[0, 0].item() == pytest.approx(before * (1 - rate * 0.1))
    assert network.logit_scale.item() == network.norm.weight[0].item() == 1.0


def test_the_moments_are_those_of_the_settings():
    """Of a gradient of 1 after one of 0: the average 1 - beta1 over its share 1 - beta1 ** 2, and of squares alike."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer, _ = make_optimizer(groups_of(layer, lr=1.0, beta1=0.5, beta2=0.75, eps=0.1, wd=0.0))
    rate = optimizer.param_groups[0]["lr"]
    for gradient in (0.0, 1.0):
        layer.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
    expected = -rate * (0.5 / 0.75) / (math.sqrt(0.25 / (1 - 0.75**2)) + 0.1)
    assert layer.weight.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["lr", "beta1", "beta2", "eps", "wd"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_setting_out_of_range_is_named(name, value):
    with pytest.raises(ConfigError, match=rf"model\.optim\.{name} is {value}; give 0 or more"):
        AdamWConfig(**{name: value})


@pytest.mark.parametrize("name", ["beta1", "beta2"])
def test_a_moment_that_forgets_nothing_is_refused(name):
    with pytest.raises(ConfigError, match=rf"model\.optim\.{name} is 1\.0; give a share from 0 to below 1"):
        AdamWConfig(**{name: 1.0})


def test_a_schedule_that_does_not_fit_is_refused():
    schedule = StepSchedule(name="const-cooldown", epochs_cooldown=3)
    with pytest.raises(ConfigError, match=r"epochs_cooldown 3 is more than trainer\.max_epochs 2"):
        adamw_groups(
            nn.Linear(2, 2).named_parameters(),
            network_name="",
            config=AdamWConfig(),
            schedule=schedule,
            length=LENGTH,
        )
