"""Part of a network stands still: its weights do not learn, and nothing in it is dropped out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn import Parameter

from biomass_pl.errors import ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LockedModules:
    """Modules of which all weights are locked.

    Args:
        names: Where they are in their tower; kept as names because a trainer may replace modules, such as by
            synchronised batch normalisation.
        freeze_bn_stats: Whether batch normalisation among them keeps its statistics.
    """

    names: tuple[str, ...]
    freeze_bn_stats: bool

    def set_eval(self, tower: nn.Module) -> None:
        """Puts the modules into eval mode, to be called whenever an epoch of training starts.

        Args:
            tower: The tower, which was put into training mode as a whole.
        """
        for name in self.names:
            module = tower.get_submodule(name)
            module.eval()
            if not self.freeze_bn_stats:
                for normalisation in _batch_norms(module):
                    normalisation.train()


def lock(
    tower: nn.Module,
    groups: Sequence[Sequence[nn.Module | Parameter]],
    *,
    unlocked_groups: int,
    freeze_layer_norm: bool,
    freeze_bn_stats: bool,
    setting: str,
) -> LockedModules:
    """Freezes all groups of a tower but the last ones, before there is an optimizer.

    What is in no group learns on, such as adapters.

    Args:
        tower: The network, or a part of it.
        groups: Its modules or weights, from the input on.
        unlocked_groups: Groups, from the end, that learn; 0 locks all.
        freeze_layer_norm: Whether the weights of layer normalisation in locked groups are locked as well. It has no
            statistics that could be.
        freeze_bn_stats: Whether batch normalisation in locked groups keeps its statistics; otherwise it goes on
            normalising by those of a batch in training.
        setting: Key of the number of unlocked groups, for messages.

    Returns:
        What has to run in eval mode.

    Raises:
        ConfigError: No group would be locked, or fewer than none unlocked.
    """
    if not 0 <= unlocked_groups < len(groups):
        raise ConfigError(
            f"{setting} is {unlocked_groups}, and there are {len(groups)} groups to lock. "
            f"Give 0 to {len(groups) - 1}, or lock nothing."
        )
    members = [member for group in groups[: len(groups) - unlocked_groups] for member in group]
    modules = [member for member in members if isinstance(member, nn.Module)]
    weights = [weight for module in modules for weight in module.parameters()]
    weights += [member for member in members if isinstance(member, Parameter)]
    for weight in weights:
        weight.requires_grad_(False)
    names = _outermost(tower, modules, weights)
    locked = LockedModules(names=names, freeze_bn_stats=freeze_bn_stats)
    if not freeze_layer_norm:
        _unlock_layer_norms(tower, names)
    if freeze_bn_stats and not any(_batch_norms(tower.get_submodule(name)) for name in names):
        logger.info("There is no batch normalisation in what %s locks; no statistics have to be frozen", setting)
    locked.set_eval(tower)
    return locked


def _outermost(tower: nn.Module, modules: Sequence[nn.Module], weights: Sequence[Parameter]) -> tuple[str, ...]:
    """Names of the modules given or without a weight that learns, but for those within another one."""
    given, locked = {id(module) for module in modules}, {id(weight) for weight in weights}
    names: list[str] = []
    for name, module in tower.named_modules():
        if any(outer == "" or name.startswith(f"{outer}.") for outer in names):
            continue
        own = {id(weight) for weight in module.parameters()}
        if id(module) in given or (own and own <= locked):
            names.append(name)
    return tuple(names)


def _unlock_layer_norms(tower: nn.Module, names: Sequence[str]) -> None:
    for name in names:
        for module in tower.get_submodule(name).modules():
            if isinstance(module, nn.LayerNorm):
                module.requires_grad_(True)


def _batch_norms(module: nn.Module) -> list[nn.Module]:
    return [inner for inner in module.modules() if isinstance(inner, nn.modules.batchnorm._BatchNorm)]
