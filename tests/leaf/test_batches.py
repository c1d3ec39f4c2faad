"""Balanced draws of an epoch: how many, of which class, and what they depend on."""

import numpy as np

from biomass_pl.leaf.batches import equally_often


def test_every_class_is_drawn_equally_often_and_every_photo_of_it():
    targets = np.repeat([0, 1, 2], [900, 90, 10])
    order = equally_often(targets)
    drawn = np.concatenate([order.indices(np.random.default_rng(seed)) for seed in range(100)])
    assert len(drawn) == 100 * len(targets)
    counts = np.bincount(drawn, minlength=len(targets))
    assert np.allclose(np.bincount(targets, counts) / len(drawn), 1 / 3, atol=0.01)
    of_smallest = counts[targets == 2]
    assert of_smallest.min() > 0.9 * of_smallest.mean() and of_smallest.max() < 1.1 * of_smallest.mean()


def test_draws_depend_on_the_generator_alone():
    order = equally_often(np.array([2, 0, 0, 2, 2]))  # no photo of class 1
    one, same, other = (order.indices(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.tolist() == same.tolist() != other.tolist() and order.block_size == 1
