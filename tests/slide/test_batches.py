"""Batches hold bags of similar sizes, and other ones every epoch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.data.sampling import EpochSampler, shuffled
from biomass_pl.slide.batches import length_grouped, longest_first


def drawn(lengths, batch_size, seed=0):
    return length_grouped(np.asarray(lengths), batch_size).indices(np.random.default_rng(seed))


def padding(lengths, indices, batch_size):
    batches = lengths[indices[: len(indices) // batch_size * batch_size]].reshape(-1, batch_size)
    return 1 - batches.sum() / (batches.max(axis=1).sum() * batch_size)


@settings(deadline=None, max_examples=60)
@given(lengths=st.lists(st.integers(1, 50), max_size=90), batch_size=st.integers(1, 12), seed=st.integers(0, 99))
def test_an_epoch_is_made_of_whole_batches_without_a_bag_twice(lengths, batch_size, seed):
    indices = drawn(lengths, batch_size, seed)
    assert len(indices) == len(lengths) // batch_size * batch_size
    assert len(set(indices.tolist())) == len(indices) and set(indices.tolist()) <= set(range(len(lengths)))


def test_few_batches_are_random_and_many_are_sorted_in_parts_of_a_quarter():
    lengths = np.arange(64)
    batches = drawn(lengths, 4).reshape(-1, 4)  # 16 batches, of which 4 are sorted together
    spans = sorted(lengths[batch].max() - lengths[batch].min() for batch in batches)
    assert all((np.diff(lengths[batch]) > 0).all() for batch in batches)
    assert spans[0] >= 3 and spans[-1] < 40
    few = drawn(lengths, 16).reshape(-1, 16)
    assert all(lengths[batch].max() - lengths[batch].min() > 40 for batch in few)


def test_padding_is_a_small_part_of_that_of_random_batches():
    rng = np.random.default_rng(0)
    lengths = np.round(50 * 60 ** rng.beta(2.5, 2.0, 2000)).astype(int)
    random = padding(lengths, shuffled(2000).indices(rng), 16)
    assert random > 0.5 and padding(lengths, drawn(lengths, 16), 16) < 0.1
    assert padding(lengths, longest_first(lengths), 16) < 0.02


def test_every_epoch_has_other_batches_and_leaves_others_out():
    order = length_grouped(np.random.default_rng(1).integers(1, 100, 101), 4)
    sampler = EpochSampler(length=101, order=order, seed=3)

    def epoch(number):
        sampler.set_epoch(number)
        return [index for index, _ in sampler]

    assert len(sampler) == 100
    batches = [{frozenset(epoch(number)[start : start + 4]) for start in range(0, 100, 4)} for number in range(4)]
    assert len(set.union(*batches)) > 0.9 * 4 * 25
    assert len({(set(range(101)) - set(epoch(number))).pop() for number in range(8)}) > 3
    assert epoch(2) == epoch(2) and EpochSampler(length=101, order=order, seed=4).__iter__().__next__() != (
        epoch(0)[0],
        0,
    )


def test_batches_come_in_random_order():
    lengths = np.arange(400)
    means = lengths[drawn(lengths, 4)].reshape(-1, 4).mean(axis=1)
    assert abs(np.corrcoef(means, np.arange(100))[0, 1]) < 0.3


def test_processes_share_out_whole_batches(monkeypatch):
    lengths = np.random.default_rng(2).integers(1, 500, 96)
    order = length_grouped(lengths, 4)
    sampler = EpochSampler(length=96, order=order, seed=0)
    alone = np.array([index for index, _ in sampler]).reshape(-1, 4)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        assert np.array_equal(np.array([index for index, _ in sampler]).reshape(-1, 4), alone[rank::2])


@pytest.mark.parametrize(("lengths", "order"), [([3, 9, 1, 9, 5], [1, 3, 4, 0, 2]), ([], []), ([2], [0])])
def test_evaluation_begins_with_the_largest(lengths, order):
    assert longest_first(np.array(lengths, int)).tolist() == order
