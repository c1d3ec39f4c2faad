"""The order of items: every epoch's own, each once, shared out among processes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.data.sampling import EpochOrder, EpochSampler, shuffled


def order_of(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


def shares(sampler, processes, epoch=0):
    """The indices that each of several processes gets."""
    found = []
    for rank in range(processes):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(torch.distributed, "is_initialized", lambda: True)
            patched.setattr(torch.distributed, "get_world_size", lambda: processes)
            patched.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
            found.append([index for index, _ in order_of(sampler, epoch)])
            assert len(sampler) == len(found[-1])
    return found


@settings(max_examples=25, deadline=None)
@given(length=st.integers(0, 40), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 500), shuffle=st.booleans())
def test_every_epoch_hands_out_each_index_once_with_its_epoch(length, seed, epoch, shuffle):
    sampler = EpochSampler(length=length, order=shuffled(length) if shuffle else None, seed=seed)
    order = order_of(sampler, epoch)
    assert sorted(order) == [(index, epoch) for index in range(length)]
    assert len(sampler) == length
    assert list(sampler) == order


def test_without_an_order_of_its_own_it_is_that_of_the_photos_in_every_epoch():
    sampler = EpochSampler(length=5, order=None, seed=0)
    assert order_of(sampler, 0) == [(index, 0) for index in range(5)]
    assert order_of(sampler, 7) == [(index, 7) for index in range(5)]


def test_the_shuffled_order_depends_on_seed_and_epoch_alone():
    first = {epoch: order_of(EpochSampler(length=30, order=shuffled(30), seed=1), epoch) for epoch in range(4)}
    used = EpochSampler(length=30, order=shuffled(30), seed=1)
    assert {epoch: order_of(used, epoch) for epoch in (3, 1, 0, 2)} == first
    indices = [[index for index, _ in order] for order in first.values()]
    assert len({tuple(order) for order in [*indices, list(range(30))]}) == 5
    other = order_of(EpochSampler(length=30, order=shuffled(30), seed=2), 0)
    assert other != first[0]


def test_an_order_may_leave_items_out_and_take_some_twice():
    sampler = EpochSampler(length=9, order=EpochOrder(indices=lambda rng: np.array([7, 2, 7])), seed=0)
    assert order_of(sampler, 4) == [(7, 4), (2, 4), (7, 4)] and len(sampler) == 3


@settings(max_examples=40, deadline=None)
@given(length=st.integers(0, 40), processes=st.integers(1, 5))
def test_validation_photos_are_shared_out_without_a_double(length, processes):
    found = shares(EpochSampler(length=length, order=None, seed=0), processes)
    assert sorted(index for share in found for index in share) == list(range(length))
    assert max(map(len, found)) - min(map(len, found)) <= 1


@settings(max_examples=60, deadline=None)
@given(turns=st.integers(1, 8), block_size=st.integers(1, 6), processes=st.integers(1, 5), epoch=st.integers(0, 9))
def test_processes_take_turns_by_whole_blocks_in_the_order_of_one(turns, block_size, processes, epoch):
    length = turns * block_size
    order = EpochOrder(indices=lambda rng: rng.permutation(length), block_size=block_size)
    sampler = EpochSampler(length=length, order=order, seed=5)
    alone = [index for index, _ in order_of(sampler, epoch)]
    found = [np.reshape(share, (-1, block_size)).tolist() for share in shares(sampler, processes, epoch)]
    dealt = [block for turn in zip(*found, strict=True) for block in turn]
    blocks = np.reshape(alone, (-1, block_size)).tolist()
    rounds = -(-turns // processes)
    assert dealt == (blocks * processes)[: rounds * processes]  # the first ones again fill up the last turn


def test_only_what_fills_the_last_turn_is_given_twice():
    found = shares(EpochSampler(length=7, order=EpochOrder(indices=lambda rng: np.arange(7)), seed=0), 3)
    assert found == [[0, 3, 6], [1, 4, 0], [2, 5, 1]]
    by_two = EpochOrder(indices=lambda rng: np.arange(6), block_size=2)
    assert shares(EpochSampler(length=6, order=by_two, seed=0), 2) == [[0, 1, 4, 5], [2, 3, 0, 1]]


@pytest.mark.parametrize("order", [None, shuffled(6)])
def test_what_is_not_shared_every_process_has_as_a_whole(order):
    sampler = EpochSampler(length=6, order=order, seed=0, shared=False)
    alone = [index for index, _ in order_of(sampler)]
    assert shares(sampler, 2) == [alone, alone] and sorted(alone) == list(range(6))


@pytest.mark.parametrize("order", [None, shuffled(6)], ids=["as they come", "shuffled"])
def test_the_first_pass_is_of_the_epoch_that_training_begins_with(order):
    resumed, whole = (EpochSampler(length=6, order=order, seed=1, first_epoch=first) for first in (3, 0))
    assert list(resumed) == list(resumed) == order_of(whole, 3)
    assert order_of(resumed, 4) == order_of(whole, 4)


def test_a_pass_keeps_its_epoch_whatever_is_set_while_it_lasts():
    """Workers that run ahead ask for the next items when the next epoch may have been told."""
    sampler = EpochSampler(length=6, order=shuffled(6), seed=1)
    expected = order_of(sampler, 2)
    running = iter(sampler)
    found = [next(running)]
    sampler.set_epoch(5)
    assert [*found, *running] == expected
