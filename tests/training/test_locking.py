"""What is locked neither learns nor drops out nor counts statistics; the rest does."""

import copy
import logging

import pytest
import torch
from torch import nn

from biomass_pl.errors import ConfigError
from biomass_pl.training.locking import LockedModules, lock


class Block(nn.Module):
    """A layer with every kind of normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.batch, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.LayerNorm(6)
        self.dropout = nn.Dropout(0.5)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors + self.dropout(self.norm(self.batch(self.layer(vectors))))


class Tower(nn.Module):
    """Two blocks between a learned vector with an input dropout and a projection."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.latents = nn.Parameter(torch.randn(6))
        self.input_dropout = nn.Dropout(0.5)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.projection = nn.Linear(6, 3)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        vectors = self.input_dropout(vectors + self.latents)
        for block in self.blocks:
            vectors = block(vectors)
        return self.projection(vectors)

    def groups(self) -> list[list[nn.Module | nn.Parameter]]:
        return [[self.latents, self.input_dropout], [self.blocks[0]], [self.blocks[1]], [self.projection]]

    def weight_groups(self) -> list[list[nn.Parameter]]:
        """The same groups, but for what has no weights."""
        parts = [*self.blocks, self.projection]
        return [[self.latents], *(list(part.parameters()) for part in parts)]


def locked(
    tower: Tower, unlocked: int, groups=None, *, layer_norm: bool = True, bn_stats: bool = True
) -> LockedModules:
    return lock(
        tower,
        tower.groups() if groups is None else groups,
        unlocked_groups=unlocked,
        freeze_layer_norm=layer_norm,
        freeze_bn_stats=bn_stats,
        setting="model.unlocked",
    )


def learning(tower: nn.Module) -> set[str]:
    return {name for name, weight in tower.named_parameters() if weight.requires_grad}


def train_a_step(tower: Tower, parts: LockedModules) -> dict[str, torch.Tensor]:
    """Weights and statistics after a step, of a tower that was put into training mode as a whole."""
    tower.train()
    parts.set_eval(tower)
    optimizer = torch.optim.SGD([weight for weight in tower.parameters() if weight.requires_grad], lr=0.1)
    tower(torch.randn(8, 6)).square().sum().backward()
    optimizer.step()
    return {name: value.clone() for name, value in tower.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


BLOCKS = [{f"blocks.{block}." + name for name, _ in Block().named_parameters()} for block in (0, 1)]
PROJECTION = {"projection.weight", "projection.bias"}


@pytest.mark.parametrize(
    ("unlocked", "learns", "names"),
    [
        (0, set(), ("",)),
        (1, PROJECTION, ("input_dropout", "blocks")),
        (2, PROJECTION | BLOCKS[1], ("input_dropout", "blocks.0")),
        (3, PROJECTION | BLOCKS[1] | BLOCKS[0], ("input_dropout",)),
    ],
)
def test_all_groups_but_the_last_ones_are_locked(unlocked, learns, names):
    tower = Tower()
    parts = locked(tower, unlocked)
    assert learning(tower) == learns
    assert parts.names == names


def test_groups_of_weights_lock_the_modules_that_hold_them():
    tower = Tower()
    parts = locked(tower, 2, tower.weight_groups())
    assert learning(tower) == PROJECTION | BLOCKS[1]
    assert parts.names == ("blocks.0",)


@pytest.mark.parametrize("as_weights", [False, True], ids=["modules", "weights"])
def test_a_step_changes_what_is_not_locked_and_nothing_else(as_weights):
    tower = Tower()
    parts = locked(tower, 2, tower.weight_groups() if as_weights else None)
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    statistics = {f"blocks.1.batch.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    moved = changed(before, train_a_step(tower, parts))
    assert statistics | PROJECTION < moved <= statistics | PROJECTION | BLOCKS[1]


def test_nothing_is_dropped_out_of_what_is_locked():
    tower, vectors = Tower(), torch.randn(8, 6)
    parts = locked(tower, 1)
    tower.train()
    parts.set_eval(tower)
    assert torch.equal(tower(vectors), tower(vectors))
    parts = locked(tower, 2)
    tower.train()
    parts.set_eval(tower)
    assert not torch.equal(tower(vectors), tower(vectors))


def test_locking_puts_it_into_eval_mode_at_once():
    tower = Tower().train()
    locked(tower, 2)
    assert [tower.training, tower.blocks[0].dropout.training, tower.blocks[1].training] == [True, False, True]


def test_statistics_of_batches_go_on_unless_they_are_frozen():
    tower = Tower()
    parts = locked(tower, 1, bn_stats=False)
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    assert {name for name in changed(before, train_a_step(tower, parts)) if "blocks" in name} == {
        f"blocks.{block}.batch.{name}"
        for block in (0, 1)
        for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert not tower.blocks[0].dropout.training


def test_weights_of_layer_norm_learn_on_unless_they_are_frozen():
    tower = Tower()
    parts = locked(tower, 2, layer_norm=False)
    norm = {"blocks.0.norm.weight", "blocks.0.norm.bias"}
    assert learning(tower) == PROJECTION | BLOCKS[1] | norm
    assert parts.names == ("input_dropout", "blocks.0")
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    moved = changed(before, train_a_step(tower, parts))
    assert {name for name in moved if name.startswith("blocks.0")} == norm


def test_what_is_in_no_group_learns_on():
    tower = Tower()
    tower.adapter = nn.Linear(6, 6)
    parts = locked(tower, 0)
    assert learning(tower) == {"adapter.weight", "adapter.bias"}
    tower.train()
    parts.set_eval(tower)
    assert tower.adapter.training and not tower.blocks.training and not tower.input_dropout.training


def test_modules_that_were_replaced_or_copied_stay_locked():
    tower = Tower()
    parts = locked(tower, 1)
    other = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(tower)).train()
    assert isinstance(other.blocks[0].batch, nn.SyncBatchNorm)
    parts.set_eval(other)
    assert not other.blocks[0].batch.training and other.projection.training


def test_a_tower_without_batch_normalisation_has_no_statistics_to_freeze(caplog):
    caplog.set_level(logging.INFO, logger="biomass_pl")
    tower = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    settings = {"unlocked_groups": 1, "freeze_layer_norm": True, "setting": "model.unlocked"}
    lock(tower, [[tower[0]], [tower[1]]], freeze_bn_stats=False, **settings)
    assert not caplog.messages
    lock(tower, [[tower[0]], [tower[1]]], freeze_bn_stats=True, **settings)
    assert caplog.messages == [
        "There is no batch normalisation in what model.unlocked locks; no statistics have to be frozen"
    ]


@pytest.mark.parametrize("unlocked", [-1, 4, 5])
def test_a_lock_that_locks_nothing_is_refused(unlocked):
    with pytest.raises(ConfigError, match=rf"model\.unlocked is {unlocked}, and there are 4 groups .* Give 0 to 3"):
        locked(Tower(), unlocked)
