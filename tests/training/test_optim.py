"""Rates per step, computed by hand, and the optimizer that uses them."""

import math
from itertools import pairwise

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from biomass_pl.errors import ConfigError
from biomass_pl.training.optim import (
    FINAL_RATE,
    OptimConfig,
    ParameterGroup,
    TrainingLength,
    backbone_and_head,
    backbone_rate,
    head_rate,
    make_optimizer,
    warmup_cosine,
)

CONFIG = OptimConfig(head_lr=2e-4, backbone_lr=1e-5, head_lr_frozen=1e-3, weight_decay=0.01, warmup_epochs=2)
# 40 steps in 10 epochs; warm-up over 8, a cosine over 32.
FULL = TrainingLength(epochs=10, steps_per_epoch=4, frozen_epochs=0)
HEAD_ONLY = TrainingLength(epochs=10, steps_per_epoch=4, frozen_epochs="all")
# 12 steps frozen (warm-up 4), then warm-up to step 20, a cosine to step 40.
TWO_STAGE = TrainingLength(epochs=10, steps_per_epoch=4, frozen_epochs=3)


def halfway(peak: float) -> float:
    return (peak + 1e-7) / 2


@pytest.mark.parametrize(
    ("step", "head", "backbone"),
    [
        (0, 2e-5, 1e-6),  # a tenth
        (4, 1.1e-4, 5.5e-6),  # half of the warm-up
        (8, 2e-4, 1e-5),  # the peak
        (16, 1e-7 + (2e-4 - 1e-7) * (1 + math.sqrt(0.5)) / 2, 1e-7 + (1e-5 - 1e-7) * (1 + math.sqrt(0.5)) / 2),
        (24, halfway(2e-4), halfway(1e-5)),
        (40, 1e-7, 1e-7),
    ],
)
def test_rates_of_full_training(step, head, backbone):
    assert head_rate(step, config=CONFIG, length=FULL) == pytest.approx(head, rel=1e-9)
    assert backbone_rate(step, config=CONFIG, length=FULL) == pytest.approx(backbone, rel=1e-9)


@pytest.mark.parametrize(("step", "head"), [(0, 1e-4), (4, 5.5e-4), (8, 1e-3), (24, halfway(1e-3)), (40, 1e-7)])
def test_rates_of_head_only_training(step, head):
    assert head_rate(step, config=CONFIG, length=HEAD_ONLY) == pytest.approx(head, rel=1e-9)
    assert backbone_rate(step, config=CONFIG, length=HEAD_ONLY) == 0


@pytest.mark.parametrize(
    ("step", "head", "backbone"),
    [
        (0, 1e-4, 0),
        (2, 5.5e-4, 0),
        (4, 1e-3, 0),  # one warm-up epoch
        (8, halfway(1e-3), 0),
        (11, 1e-7 + (1e-3 - 1e-7) * (1 + math.cos(math.pi * 7 / 8)) / 2, 0),
        (12, 2e-5, 1e-6),  # stage 2 warms up anew
        (16, 1.1e-4, 5.5e-6),
        (20, 2e-4, 1e-5),
        (30, halfway(2e-4), halfway(1e-5)),
        (40, 1e-7, 1e-7),
    ],
)
def test_rates_of_two_stage_training(step, head, backbone):
    assert head_rate(step, config=CONFIG, length=TWO_STAGE) == pytest.approx(head, rel=1e-9)
    assert backbone_rate(step, config=CONFIG, length=TWO_STAGE) == pytest.approx(backbone, rel=1e-9)


def test_a_warm_up_longer_than_the_stage_only_ramps():
    length = TrainingLength(epochs=2, steps_per_epoch=5, frozen_epochs=0)
    config = OptimConfig(head_lr=1.0, warmup_epochs=4)
    rates = [head_rate(step, config=config, length=length) for step in range(11)]
    assert rates == pytest.approx([0.1 + 0.9 * step / 20 for step in range(11)])


def test_a_first_stage_of_one_epoch_only_ramps():
    length = TrainingLength(epochs=4, steps_per_epoch=5, frozen_epochs=1)
    rates = [head_rate(step, config=CONFIG, length=length) for step in range(5)]
    assert rates == pytest.approx([1e-3 * (0.1 + 0.9 * step / 5) for step in range(5)])
    assert head_rate(5, config=CONFIG, length=length) == pytest.approx(2e-5)


def test_without_warm_up_the_peak_comes_first():
    config = OptimConfig(head_lr=2e-4, warmup_epochs=0)
    assert head_rate(0, config=config, length=FULL) == pytest.approx(2e-4)
    assert head_rate(20, config=config, length=FULL) == pytest.approx(halfway(2e-4))


@settings(deadline=None, max_examples=100)
@given(
    peak=st.floats(1e-6, 1.0),
    warmup=st.integers(0, 50),
    total=st.integers(1, 100),
)
def test_a_rate_rises_then_falls_and_never_leaves_its_bounds(peak, warmup, total):
    rates = [warmup_cosine(step, peak=peak, warmup=warmup, total=total) for step in range(total + 5)]
    top = min(warmup, len(rates) - 1)
    assert all(first <= second * (1 + 1e-12) for first, second in pairwise(rates[: top + 1]))
    assert all(first * (1 + 1e-12) >= second for first, second in pairwise(rates[top:]))
    assert min(FINAL_RATE, 0.1 * peak) * (1 - 1e-12) <= min(rates) and max(rates) <= peak * (1 + 1e-12)


def test_a_peak_of_zero_stays_zero():
    assert {warmup_cosine(step, peak=0.0, warmup=2, total=10) for step in range(12)} == {0.0}


def new_weights(count: int) -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(1)) for _ in range(count)]


def new_backbone() -> nn.ParameterList:
    """A backbone of a single weight."""
    return nn.ParameterList(new_weights(1))


def test_the_optimizer_has_the_named_groups_and_decay():
    backbone, head = nn.Linear(2, 3), nn.Linear(3, 1)
    config = OptimConfig(weight_decay=0.03)
    optimizer, _ = make_optimizer(
        backbone_and_head(backbone=backbone, head=head.parameters(), config=config, length=FULL)
    )
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert list(groups) == ["backbone", "head"]
    assert [id(p) for p in groups["backbone"]["params"]] == [id(p) for p in backbone.parameters()]
    assert [id(p) for p in groups["head"]["params"]] == [id(p) for p in head.parameters()]
    assert {group["weight_decay"] for group in groups.values()} == {0.03}


@pytest.mark.parametrize("length", [FULL, HEAD_ONLY, TWO_STAGE], ids=["full", "head only", "two-stage"])
def test_stepping_gives_each_group_its_rate(length):
    optimizer, schedule = make_optimizer(
        backbone_and_head(backbone=new_backbone(), head=new_weights(1), config=CONFIG, length=length)
    )
    for step in range(40):
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        assert rates["backbone"] == pytest.approx(backbone_rate(step, config=CONFIG, length=length), rel=1e-12)
        assert rates["head"] == pytest.approx(head_rate(step, config=CONFIG, length=length), rel=1e-12)
        optimizer.step()
        schedule.step()


def test_stage_1_moves_the_head_alone_and_stage_2_both():
    backbone, head = new_backbone(), new_weights(1)
    weights = [*backbone, *head]
    optimizer, schedule = make_optimizer(
        backbone_and_head(backbone=backbone, head=head, config=CONFIG, length=TWO_STAGE)
    )
    history = []
    for _ in range(14):
        for weight in weights:
            weight.grad = torch.ones(1)
        optimizer.step()
        schedule.step()
        history.append([weight.item() for weight in weights])
    assert [backbone for backbone, _ in history[:12]] == [1.0] * 12  # neither gradient nor decay moves it
    assert history[12][0] < 1
    assert all(later[1] < earlier[1] for earlier, later in pairwise(history))


def test_any_groups_learn_each_at_its_own_rate_and_decay():
    """AdamW's first step is the rate, whatever the gradient; decay takes rate x decay of the weight before it."""
    weights = new_weights(3)
    rates = [lambda step: 0.5 / (step + 1), lambda step: 0.25, lambda step: 0.0]
    optimizer, schedule = make_optimizer(
        [
            ParameterGroup(name=f"part {number}", parameters=[weight], rate=rate, weight_decay=decay)
            for number, (weight, rate, decay) in enumerate(zip(weights, rates, (0.0, 0.2, 0.9), strict=True))
        ]
    )
    for weight in weights:
        weight.grad = torch.tensor([7.0])
    optimizer.step()
    assert [weight.item() for weight in weights] == pytest.approx([1 - 0.5, 1 - 0.25 * 0.2 - 0.25, 1.0], abs=1e-6)
    schedule.step()
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == {
        "part 0": 0.25,
        "part 1": 0.25,
        "part 2": 0.0,
    }


@pytest.mark.parametrize("name", ["head_lr", "backbone_lr", "head_lr_frozen", "weight_decay", "warmup_epochs"])
def test_a_negative_setting_is_named(name):
    with pytest.raises(ConfigError, match=rf"model\.optim\.{name} is -1; give 0 or more"):
        OptimConfig(**{name: -1})


@pytest.mark.parametrize("share", [0, -0.5, 1.5, math.nan])
def test_a_decay_over_layers_out_of_range_is_named(share):
    with pytest.raises(ConfigError, match=rf"model\.optim\.layer_decay is {share}; give a share above 0, up to 1"):
        OptimConfig(layer_decay=share)


def layered(network: nn.Module, share: float, length: TrainingLength = FULL) -> list[ParameterGroup]:
    config = OptimConfig(head_lr=1e-2, backbone_lr=1e-3, weight_decay=0.03, warmup_epochs=0, layer_decay=share)
    return backbone_and_head(backbone=network, head=new_weights(2), config=config, length=length)


@pytest.mark.parametrize(
    ("name", "firsts"),
    [
        (
            "test_vit.r160_in1k",
            ["cls_token", *(f"blocks.{number}.norm1.weight" for number in range(6))],  # the last norm is of block 5
        ),
        ("test_resnet", ["conv1.0.weight", *(f"layer{number}.0.conv1.weight" for number in (1, 2, 3, 4))]),
        (
            "test_convnext",  # every block of a stage is a layer of its own, a later stage's first with what leads to it
            [
                "stem.0.weight",
                *("stages.0.blocks.0.gamma", "stages.1.downsample.0.weight", "stages.1.blocks.1.gamma"),
                *("stages.2.downsample.0.weight", *(f"stages.2.blocks.{number}.gamma" for number in (1, 2, 3))),
                *("stages.3.downsample.0.weight", "stages.3.blocks.1.gamma", "head.norm.weight"),
            ],
        ),
    ],
)
def test_each_layer_of_the_backbone_is_a_group_with_a_share_of_the_next_ones_rate(name, firsts):
    network = timm.create_model(name, num_classes=0)
    *layers, head = layered(network, 0.5)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert [names[id(group.parameters[0])] for group in layers] == firsts
    assert [group.name for group in layers] == [f"backbone_{number:02d}" for number in range(len(firsts))]
    assert [group.rate(0) for group in layers] == [1e-3 / 2**above for above in reversed(range(len(firsts)))]
    assert (head.name, len(head.parameters), head.rate(0)) == ("head", 2, 1e-2)
    assert {group.weight_decay for group in layers} == {0.03}


def test_layers_hold_every_weight_of_the_backbone_once():
    network = timm.create_model("test_vit", num_classes=0)
    *layers, _ = layered(network, 0.65)
    assert sorted(id(parameter) for group in layers for parameter in group.parameters) == sorted(
        map(id, network.parameters())
    )


def test_layers_learn_at_rates_in_one_proportion_at_every_step_of_two_stages():
    """Shares .25, .5, 1 are exact in binary."""
    network = timm.create_model("test_resnet", num_classes=0)
    *layers, head = layered(network, 0.5, TWO_STAGE)
    whole, _ = layered(network, 1.0, TWO_STAGE)
    for step in range(41):
        assert [group.rate(step) for group in layers] == [whole.rate(step) / 2**above for above in (4, 3, 2, 1, 0)]
    assert layers[0].rate(11) == layers[-1].rate(11) == 0 and head.rate(11) > 0


def test_without_decay_over_layers_the_backbone_is_one_group_in_its_own_order():
    network = timm.create_model("test_vit", num_classes=0)
    backbone, head = layered(network, 1.0)
    assert (backbone.name, head.name) == ("backbone", "head")
    assert [id(parameter) for parameter in backbone.parameters] == [id(parameter) for parameter in network.parameters()]


class OneLayer(nn.Linear):
    """A network whose weights are all of one layer to timm."""

    def group_matcher(self, coarse: bool) -> dict[str, str]:
        return {"stem": r"^weight|bias"}


@pytest.mark.parametrize("network", [nn.Linear(2, 2), OneLayer(2, 2)], ids=["no layers", "one layer"])
def test_a_backbone_whose_layers_are_not_told_apart_is_refused(network):
    with pytest.raises(ConfigError, match=r"layers of \w+ apart, as .*\. Set model\.optim\.layer_decay: 1\.0"):
        layered(network, 0.9)
