"""Which lesions an epoch of training sees: exact numbers in every batch, drawn anew, dealt whole to processes."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from biomass_pl.data.sampling import EpochSampler
from biomass_pl.lesion.batches import balanced_batches, resampled_negatives

TARGETS = (np.arange(70) % 5 == 0).astype(int)
"""Fourteen malignant lesions among 70."""


def epochs_of(order, count, seed=0):
    sampler = EpochSampler(length=len(TARGETS), order=order, seed=seed)
    found = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        found.append([index for index, _ in sampler])
    return found


@settings(max_examples=150, deadline=None)
@given(
    targets=st.lists(st.integers(0, 1), min_size=2, max_size=60).map(np.array),
    batch_size=st.integers(2, 16),
    ratio=st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.75, 0.9]),
    seed=st.integers(0, 2**32 - 1),
)
def test_balanced_batches_hold_exact_numbers_and_no_malignant_lesion_twice(targets, batch_size, ratio, seed):
    positives, benign = int(targets.sum()), int((targets == 0).sum())
    each = int(batch_size * ratio)
    assume(1 <= each <= positives and benign > 0)
    order = balanced_batches(targets, batch_size, ratio)
    indices = order.indices(np.random.default_rng(seed))
    batches = indices.reshape(-1, batch_size)
    assert order.block_size == batch_size and len(batches) == positives // each
    assert (targets[batches].sum(axis=1) == each).all()
    seen = np.bincount(indices, minlength=len(targets))
    assert seen[targets == 1].max() <= 1
    # Benign lesions are used up evenly: none comes again before all others came.
    assert np.ptp(seen[targets == 0]) <= 1
    if benign >= batch_size - each:
        assert all(len(set(batch)) == batch_size for batch in batches)


@pytest.mark.parametrize(
    ("batch_size", "ratio", "each"), [(32, 0.5, 16), (10, 0.39, 3), (10, 0.3, 3), (100, 0.29, 29), (50, 0.58, 29)]
)
def test_the_number_of_malignant_lesions_is_rounded_down_and_by_no_more(batch_size, ratio, each):
    targets = np.repeat([1, 0], 60)
    order = balanced_batches(targets, batch_size, ratio).indices(np.random.default_rng(0))
    assert (targets[order.reshape(-1, batch_size)].sum(axis=1) == each).all()


def test_malignant_lesions_stand_anywhere_in_a_batch_and_in_another_batch_every_epoch():
    order = balanced_batches(TARGETS, 10, 0.2)
    batches = np.array(epochs_of(order, 100)).reshape(-1, 10)
    assert len(batches) == 700
    # 1400 of 7000 places, 140 of each kind on average; the standard deviation is below 12.
    assert np.abs(TARGETS[batches].sum(axis=0) - 140).max() < 50
    pairs = {frozenset(batch[TARGETS[batch] == 1]) for batch in batches}
    assert len(pairs) > 80  # of 91 pairs of 14 lesions


@pytest.mark.parametrize("order", [balanced_batches(TARGETS, 10, 0.5), resampled_negatives(TARGETS, 2.0)])
def test_every_epoch_draws_anew_and_the_same_seed_the_same(order):
    first, again, other = (epochs_of(order, 5, seed) for seed in (1, 1, 2))
    assert first == again and all(one != two for one, two in zip(first, other, strict=True))
    assert len({tuple(indices) for indices in first}) == 5
    benign = [frozenset(index for index in indices if TARGETS[index] == 0) for indices in first]
    assert len(set(benign)) == 5


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_get_whole_balanced_batches_and_no_lesion_of_each_other(processes):
    targets = (np.arange(400) < 24).astype(int)
    order = balanced_batches(targets, 8, 0.5)
    shares = []
    for rank in range(processes):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(torch.distributed, "is_initialized", lambda: True)
            patched.setattr(torch.distributed, "get_world_size", lambda: processes)
            patched.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
            shares.append(np.array(epochs_of(order, 1)[0]))
    assert all(len(share) == 8 * 6 // processes for share in shares)
    assert all((targets[share.reshape(-1, 8)].sum(axis=1) == 4).all() for share in shares)
    dealt = np.concatenate(shares)
    assert len(set(dealt)) == len(dealt) == 48


@settings(max_examples=100, deadline=None)
@given(
    targets=st.lists(st.integers(0, 1), min_size=2, max_size=60).map(np.array),
    ratio=st.sampled_from([0.1, 0.5, 1.0, 1.5, 3.0, 1000.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_resampled_negatives_are_as_many_as_asked_for_beside_all_malignant_lesions(targets, ratio, seed):
    positives, benign = np.flatnonzero(targets == 1), np.flatnonzero(targets == 0)
    assume(len(positives) and len(benign))
    order = resampled_negatives(targets, ratio).indices(np.random.default_rng(seed))
    assert len(set(order)) == len(order)
    assert set(positives) <= set(order)
    assert (targets[order] == 0).sum() == min(len(benign), max(1, round(ratio * len(positives))))


def test_resampled_lesions_are_mixed_and_all_come_in_time():
    orders = epochs_of(resampled_negatives(TARGETS, 1.0), 40)
    assert {index for order in orders for index in order} == set(range(70))
    firsts = sum(TARGETS[order[0]] for order in orders)
    assert 8 <= firsts <= 32  # half of 40, with a standard deviation of 3
