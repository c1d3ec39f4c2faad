"""AdamW as contrastive image-text training uses it: defaults by the network's name, and what decays."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import Parameter

from biomass_pl.errors import ConfigError
from biomass_pl.training.optim import ParameterGroup, TrainingLength
from biomass_pl.training.step_schedule import StepSchedule


@dataclass(frozen=True, kw_only=True)
class AdamWConfig:
    """Settings of AdamW. What is left out depends on the network: vision transformers have their own (CLIP).

    Args:
        lr: Full learning rate; 5e-4 by default.
        beta1: Share that the average of gradients keeps of itself in a step; 0.9 by default.
        beta2: The same of the squares of gradients; 0.98 by default for a network named `vit`, else 0.999.
        eps: Added to the root of the average of squares; 1e-6 by default for a network named `vit`, else 1e-8.
        wd: Weight decay.

    Raises:
        ConfigError: A setting is out of range.
    """

    lr: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    eps: float | None = None
    wd: float = 0.2

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"model.optim.{name} is {value}; give 0 or more.")
        for name, share in (("beta1", self.beta1), ("beta2", self.beta2)):
            if share is not None and share >= 1:
                raise ConfigError(f"model.optim.{name} is {share}; give a share from 0 to below 1.")


torch.serialization.add_safe_globals([AdamWConfig])  # checkpoints of tasks made in Python hold one


def adamw_groups(
    parameters: Iterable[tuple[str, Parameter]],
    *,
    network_name: str,
    config: AdamWConfig,
    schedule: StepSchedule,
    length: TrainingLength,
) -> list[ParameterGroup]:
    """Two groups of what learns: `decay`, and `no_decay` of weights with fewer than two dimensions.

    Those are biases, norms and scales; tables, latents and learned queries do decay. A group without weights is left
    out, and so are weights that are frozen.

    Args:
        parameters: Weights by name, as of `named_parameters`.
        network_name: Decides on settings that are left out.
        config: Settings of AdamW.
        schedule: The rate of both groups.
        length: How long training lasts.

    Raises:
        ConfigError: All weights are frozen, or the schedule does not fit the training.
    """
    learning = [parameter for _, parameter in parameters if parameter.requires_grad]
    if not learning:
        raise ConfigError("Nothing is left to learn: all weights are frozen. Lock less of the network.")
    is_vit = "vit" in network_name.lower()
    peak = _given(config.lr, 5e-4)
    schedule.check(peak=peak, length=length)
    groups = {
        "decay": ([parameter for parameter in learning if parameter.ndim >= 2], config.wd),
        "no_decay": ([parameter for parameter in learning if parameter.ndim < 2], 0.0),
    }
    return [
        ParameterGroup(
            name=name,
            parameters=members,
            rate=partial(schedule.rate, peak=peak, length=length),
            weight_decay=weight_decay,
            betas=(_given(config.beta1, 0.9), _given(config.beta2, 0.98 if is_vit else 0.999)),
            eps=_given(config.eps, 1e-6 if is_vit else 1e-8),
        )
        for name, (members, weight_decay) in groups.items()
        if members
    ]


def _given(value: float | None, default: float) -> float:
    return default if value is None else value
