"""One AdamW over named groups of weights, and the rate of each as a function of the step."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from timm.models import group_parameters
from torch import nn
from torch.nn import Parameter
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from biomass_pl.errors import ConfigError

WARMUP_START = 0.1
"""Share of the full rate at which a warm-up starts."""

FINAL_RATE = 1e-7
"""Rate at the end of a cosine."""

FrozenEpochs = int | Literal["all"]
"""Epochs, from the first, in which the backbone does not learn."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Rates of AdamW.

    Args:
        head_lr: Peak rate of everything but the backbone while the backbone learns.
        backbone_lr: Peak rate of the backbone.
        head_lr_frozen: Peak rate of everything but the backbone while the backbone is frozen.
        weight_decay: Weight decay of AdamW.
        warmup_epochs: Epochs of linear warm-up, from a tenth of the rate, before the cosine down to 1e-7.
        layer_decay: Rate of a layer of the backbone as a share of the next one's, above 0 to 1; the last layer learns
            at `backbone_lr` (Clark et al. 2020, ELECTRA). 1: all layers learn at the same rate.
    """

    head_lr: float = 2e-4
    backbone_lr: float = 1e-5
    head_lr_frozen: float = 1e-3
    weight_decay: float = 0.01
    warmup_epochs: int = 2
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"model.optim.layer_decay is {self.layer_decay}; give a share above 0, up to 1.")
        for name, value in vars(self).items():
            if value < 0:
                raise ConfigError(f"model.optim.{name} is {value}; give 0 or more.")


torch.serialization.add_safe_globals([OptimConfig])  # checkpoints of tasks made in Python hold one


@dataclass(frozen=True, kw_only=True)
class TrainingLength:
    """How long a training is.

    Args:
        epochs: All epochs.
        steps_per_epoch: Optimizer steps in an epoch.
        frozen_epochs: Epochs with a frozen backbone.
    """

    epochs: int
    steps_per_epoch: int
    frozen_epochs: FrozenEpochs = 0


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Weights that learn at one rate.

    Args:
        name: Logged as `rate/<name>`.
        parameters: The weights.
        rate: Learning rate at an optimizer step, from 0.
        weight_decay: Weight decay of AdamW.
        betas: Shares that AdamW's averages of gradients and of their squares keep of themselves in a step.
        eps: Added to the root of the average of squares.
    """

    name: str
    parameters: list[Parameter]
    rate: Callable[[int], float]
    weight_decay: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


def head_rate(step: int, *, config: OptimConfig, length: TrainingLength) -> float:
    """Rate of the head group at an optimizer step.

    Stage 1 (frozen): one warm-up epoch and a cosine over the stage. Stage 2, or a single stage:
    `warmup_epochs` and a cosine over what is left.
    """
    if length.frozen_epochs == "all":
        return _single_stage(step, config.head_lr_frozen, config, length)
    stage_1 = length.frozen_epochs * length.steps_per_epoch
    if step < stage_1:
        return warmup_cosine(step, peak=config.head_lr_frozen, warmup=length.steps_per_epoch, total=stage_1)
    return _stage_2(step, config.head_lr, config, length)


def backbone_rate(step: int, *, config: OptimConfig, length: TrainingLength) -> float:
    """Rate of the backbone group at an optimizer step: zero in stage 1, then as the head's."""
    if length.frozen_epochs == "all" or step < length.frozen_epochs * length.steps_per_epoch:
        return 0.0
    return _stage_2(step, config.backbone_lr, config, length)


def warmup_cosine(step: int, *, peak: float, warmup: int, total: int) -> float:
    """Linear from a tenth of `peak` over `warmup` steps, then a cosine to `FINAL_RATE` at step `total`.

    The cosine is that of SGDR (Loshchilov and Hutter 2017) without restarts.
    """
    if step < warmup:
        return peak * (WARMUP_START + (1 - WARMUP_START) * step / warmup)
    final = min(FINAL_RATE, peak)  # a peak of 0 means no learning at all
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2


def backbone_and_head(
    *, backbone: nn.Module, head: Iterable[Parameter], config: OptimConfig, length: TrainingLength
) -> list[ParameterGroup]:
    """The groups of a training in one or two stages: those of the backbone, and `head`.

    The backbone is one group, `backbone`, or with `layer_decay` below 1 a group for each of the layers that timm
    tells apart, from the input on: `backbone_00`, `backbone_01`, ... Of L layers, layer l from 1 learns at
    `layer_decay ** (L - l)` times the rate of the backbone, at every step.

    Args:
        backbone: Network without its head; one of timm's where its layers learn at different rates.
        head: All other weights.
        config: The rates.
        length: How long training lasts.

    Raises:
        ConfigError: Layers should learn at different rates, but the network does not tell them apart.
    """
    rate = partial(backbone_rate, config=config, length=length)
    if config.layer_decay == 1:
        groups = [("backbone", list(backbone.parameters()), rate)]
    else:
        layers = _layers(backbone)
        groups = [
            (
                f"backbone_{number:02d}",
                parameters,
                partial(_scaled, rate=rate, scale=config.layer_decay ** (len(layers) - 1 - number)),
            )
            for number, parameters in enumerate(layers)
        ]
    groups.append(("head", list(head), partial(head_rate, config=config, length=length)))
    return [
        ParameterGroup(name=name, parameters=parameters, rate=rate, weight_decay=config.weight_decay)
        for name, parameters, rate in groups
    ]


def make_optimizer(groups: Sequence[ParameterGroup], *, fused: bool = False) -> tuple[AdamW, LambdaLR]:
    """AdamW over named groups, and their rates per step.

    Args:
        groups: What learns.
        fused: Whether one kernel updates all weights, which is faster where PyTorch has one.
    """
    # A group's rate is 1 times what its function gives.
    settings: list[dict[str, Any]] = [
        {
            "params": group.parameters,
            "name": group.name,
            "weight_decay": group.weight_decay,
            "betas": group.betas,
            "eps": group.eps,
        }
        for group in groups
    ]
    optimizer = AdamW(settings, lr=1.0, fused=fused)
    # Says that a step undoes the scale of the gradients itself, whereupon Lightning refuses to clip them. A fused
    # step is asked for only where nothing scales them.
    optimizer._step_supports_amp_scaling = False
    return optimizer, LambdaLR(optimizer, [group.rate for group in groups])


def _single_stage(step: int, peak: float, config: OptimConfig, length: TrainingLength) -> float:
    steps = length.steps_per_epoch
    return warmup_cosine(step, peak=peak, warmup=config.warmup_epochs * steps, total=length.epochs * steps)


def _stage_2(step: int, peak: float, config: OptimConfig, length: TrainingLength) -> float:
    steps = length.steps_per_epoch
    frozen = 0 if length.frozen_epochs == "all" else length.frozen_epochs
    return warmup_cosine(
        step - frozen * steps,
        peak=peak,
        warmup=config.warmup_epochs * steps,
        total=(length.epochs - frozen) * steps,
    )


def _layers(network: nn.Module) -> list[list[Parameter]]:
    """Weights of a network's layers, from the input on, as timm groups them; the last norm belongs to the last one."""
    matcher = getattr(network, "group_matcher", None)
    layers = {} if matcher is None else group_parameters(network, matcher(coarse=False), return_values=True)
    if len(layers) < 2:
        raise ConfigError(
            f"timm does not tell the layers of {type(network).__name__} apart, as model.optim.layer_decay needs it. "
            "Set model.optim.layer_decay: 1.0, or choose another model.backbone."
        )
    return [layers[number] for number in sorted(layers)]


def _scaled(step: int, *, rate: Callable[[int], float], scale: float) -> float:
    return scale * rate(step)
