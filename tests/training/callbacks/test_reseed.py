"""The loop's own draws depend on the seed, the epoch and the rank alone."""

from types import SimpleNamespace

import torch

from biomass_pl.training.callbacks.reseed import ReseedEveryEpoch


def draw(*, seed: int = 1, epoch: int = 0, rank: int = 0, before: int = 0) -> float:
    torch.manual_seed(before)
    state = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    ReseedEveryEpoch(seed=seed).on_train_batch_start(state, None, None, 0)
    return float(torch.rand(1))


def test_draws_are_a_function_of_seed_epoch_and_rank():
    assert draw(before=5) == draw(before=6)
    assert len({draw(), draw(seed=2), draw(epoch=1), draw(rank=1)}) == 4


def test_later_batches_go_on_drawing():
    state = SimpleNamespace(current_epoch=0, global_rank=0)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    ReseedEveryEpoch(seed=1).on_train_batch_start(state, None, None, 1)
    assert torch.equal(torch.rand(1), expected)
