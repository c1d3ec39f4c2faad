"""Bags are cut and changed as (seed, epoch, specimen) say, and padded without a trace."""

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from biomass_pl.data.sampling import EpochSampler
from biomass_pl.errors import ConfigError, DataError
from biomass_pl.slide.bags import (
    BagAugmentation,
    SpecimenDataset,
    augmented,
    drawn_vectors,
    padded_batch,
    parse_augmentation,
)
from biomass_pl.slide.hdf5_layout import Hdf5Bags
from biomass_pl.slide.specimens import open_specimens, specimen_table

NUMBERED = np.arange(40, dtype=np.float16).reshape(20, 2)


def rng(seed=0):
    return np.random.default_rng(seed)


def rows(vectors):
    return {tuple(row) for row in vectors.tolist()}


def test_bags_up_to_the_cutoff_stay_whole():
    assert drawn_vectors(NUMBERED, 20, rng()) is NUMBERED
    assert np.array_equal(drawn_vectors(NUMBERED, 100_000, rng()), NUMBERED)


@given(most=st.integers(1, 19), seed=st.integers(0, 999))
def test_above_the_cutoff_so_many_are_drawn_once_each_in_their_order(most, seed):
    vectors = drawn_vectors(NUMBERED, most, rng(seed))
    assert vectors.shape == (most, 2) and rows(vectors) <= rows(NUMBERED) and len(rows(vectors)) == most
    assert (np.diff(vectors[:, 0]) > 0).all() and vectors.dtype == np.float16


def test_every_vector_is_drawn_as_often():
    counts = np.zeros(20)
    for seed in range(2000):
        counts[(drawn_vectors(NUMBERED, 5, rng(seed))[:, 0] / 2).astype(int)] += 1
    assert counts.sum() == 10_000 and abs(counts - 500).max() < 5 * 20


def test_without_settings_nothing_changes():
    assert np.array_equal(augmented(NUMBERED, BagAugmentation(), rng()), NUMBERED)


def test_patches_are_dropped_at_the_asked_share_and_one_always_stays():
    kept = [len(augmented(NUMBERED, BagAugmentation(drop_patches=0.3), rng(seed))) for seed in range(400)]
    assert np.mean(kept) == pytest.approx(14, abs=0.4) and len(set(kept)) > 5
    almost_all = [augmented(NUMBERED, BagAugmentation(drop_patches=0.999), rng(seed)) for seed in range(200)]
    assert {len(vectors) for vectors in almost_all} <= {1, 2} and len({vectors[0, 0] for vectors in almost_all}) > 10


def test_noise_has_the_asked_standard_deviation_and_changes_no_stored_vector():
    stored = np.zeros((500, 40), np.float16)
    vectors = augmented(stored, BagAugmentation(noise=0.25), rng())
    assert vectors.dtype == np.float32 and vectors.std() == pytest.approx(0.25, rel=0.02)
    assert abs(vectors.mean()) < 0.01 and not stored.any()


def test_a_share_is_kept_or_one_drawn_from_a_range():
    assert len(augmented(NUMBERED, BagAugmentation(subsample=(0.5, 0.5)), rng())) == 10
    counts = [len(augmented(NUMBERED, BagAugmentation(subsample=(0.25, 0.75)), rng(seed))) for seed in range(300)]
    assert min(counts) == 5 and max(counts) == 15 and np.mean(counts) == pytest.approx(10, abs=0.6)
    assert len(augmented(NUMBERED[:2], BagAugmentation(subsample=(0.01, 0.01)), rng())) == 1


def test_changes_follow_the_generator():
    changes = BagAugmentation(drop_patches=0.2, noise=0.1, subsample=(0.5, 0.9))
    first = augmented(NUMBERED, changes, rng(1))
    assert np.array_equal(first, augmented(NUMBERED, changes, rng(1)))
    assert not np.array_equal(first, augmented(NUMBERED, changes, rng(2)))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, BagAugmentation()),
        ([], BagAugmentation()),
        ({"drop_patches": 0.1, "noise": 1}, BagAugmentation(drop_patches=0.1, noise=1.0)),
        (["drop_patches=0.1", "noise = 1e-2"], BagAugmentation(drop_patches=0.1, noise=0.01)),
        ("noise=2", BagAugmentation(noise=2.0)),
        ({"subsample": 0.5}, BagAugmentation(subsample=(0.5, 0.5))),
        ({"subsample": [0.5, 1]}, BagAugmentation(subsample=(0.5, 1.0))),
        (["subsample=(0.25, 0.75)"], BagAugmentation(subsample=(0.25, 0.75))),
        (("subsample=[0.5]",), BagAugmentation(subsample=(0.5, 0.5))),
    ],
)
def test_augmentation_is_read_from_values_or_words(settings, expected):
    assert parse_augmentation(settings) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": 0.5}, "does not know 'flip'. Choose among drop_patches, noise, subsample"),
        (["scale=(0.9,1)"], "does not know 'scale'"),
        (["noise"], "the word 'noise'. Write name=value"),
        (["noise=much"], "'much' is no value of noise"),
        (["noise=__import__('os').getcwd()"], "is no value of noise"),
        (["noise=0.1", "noise=0.2"], "gives noise twice"),
        ({"noise": "0.1"}, "noise is '0.1'. Give a number"),
        ({"noise": True}, "noise is True"),
        ({"noise": None}, "noise is None"),
        ({"noise": [0.1, 0.2]}, "noise is .0.1, 0.2."),
        ({"noise": -0.1}, "noise is -0.1; give a standard deviation"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"noise": float("inf")}, "noise is inf"),
        ({"drop_patches": 1}, "drop_patches is 1.0; give a share from 0 to below 1"),
        ({"drop_patches": -0.1}, "drop_patches is -0.1"),
        ({"subsample": 0}, "subsample is 0.0 to 0.0"),
        ({"subsample": 1.5}, "subsample is 1.5 to 1.5"),
        ({"subsample": [0.9, 0.5]}, "subsample is 0.9 to 0.5"),
        ({"subsample": [0.1, 0.2, 0.3]}, "one number, or the least and the most"),
        ({"subsample": []}, "one number, or the least and the most"),
        ({"subsample": [0.1, "b"]}, "Give a number"),
    ],
)
def test_augmentation_that_is_unknown_or_out_of_range_is_refused(settings, message):
    with pytest.raises(ConfigError, match=rf"data\.aug_cfg.*{message}"):
        parse_augmentation(settings)


class Constant:
    """Bags that are all the same."""

    def read(self, name):
        return NUMBERED[:3]


@pytest.fixture(scope="module")
def specimens(packed):
    return open_specimens(packed)


@pytest.fixture(scope="module")
def table(specimens):
    return specimen_table(specimens, sorted(specimens.patients))


@pytest.fixture
def dataset(specimens, table):
    """Makes a dataset of the rendered specimens."""

    def made(cutoff=100_000, augmentation=None, seed=0):
        names, reports = table["specimen_id"].tolist(), table["report"].tolist()
        return SpecimenDataset(
            bags=specimens.bags, names=names, reports=reports, cutoff=cutoff, augmentation=augmentation, seed=seed
        )

    return made


def test_an_item_is_the_bag_and_the_report_of_a_specimen(dataset, specimens, table):
    items = dataset()
    assert len(items) == len(table)
    for index in (0, 1, 59):
        item = items[index, 0]
        assert item["id"] == table["specimen_id"][index]
        assert np.array_equal(item["features"].numpy(), specimens.bags.read(item["id"]))
        assert item["report"] == table["report"][index]


@given(reports=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_reports_stay_as_they_are(reports):
    items = SpecimenDataset(
        bags=Constant(),
        names=[str(n) for n in range(len(reports))],
        reports=reports,
        cutoff=9,
        augmentation=None,
        seed=0,
    )
    assert [items[index, 0]["report"] for index in range(len(items))] == reports


def test_the_cutoff_draws_the_same_in_every_epoch_of_evaluation_and_others_in_training(dataset):
    evaluated, trained = dataset(cutoff=12), dataset(cutoff=12, augmentation=BagAugmentation())

    def bags(items):
        return [items[3, epoch]["features"].numpy().tobytes() for epoch in range(4)]

    assert evaluated[3, 0]["features"].shape == (12, 384)
    assert len(set(bags(evaluated))) == 1 and len(set(bags(trained))) == 4
    assert bags(trained) == bags(dataset(cutoff=12, augmentation=BagAugmentation()))
    assert bags(evaluated) != bags(dataset(cutoff=12, seed=1))


def test_items_do_not_depend_on_what_was_read_before(dataset):
    changes = BagAugmentation(drop_patches=0.3, noise=0.1)
    one, other = dataset(cutoff=15, augmentation=changes), dataset(cutoff=15, augmentation=changes)
    wanted = one[7, 2]["features"]
    for key in ((0, 2), (7, 1)):
        assert not torch.equal(other[key]["features"], wanted)
    assert torch.equal(other[7, 2]["features"], wanted)


def test_values_that_are_no_number_stop_a_training(tmp_path):
    with h5py.File(tmp_path / "s.hdf5", "w") as file:
        file["patients/P/a/uni/features"] = np.array([[1, 2], [np.nan, 3]], np.float16)
    bags = Hdf5Bags(tmp_path / "s.hdf5", feature_attribute="uni")
    items = SpecimenDataset(bags=bags, names=["a"], reports=["A."], cutoff=9, augmentation=None, seed=0)
    with pytest.raises(DataError, match=r"features of a .* no finite number"):
        items[0, 0]


def bag(*numbers, width=2, dtype=torch.float16):
    return torch.tensor(numbers, dtype=dtype)[:, None].expand(-1, width)


def test_a_batch_is_padded_with_zeros_behind_each_bag():
    items = [
        {"id": "a", "features": bag(1.0, 2.0, 3.0), "report": "A."},
        {"id": "b", "features": bag(4.0, dtype=torch.float32), "report": ""},
    ]
    batch = padded_batch(items)
    assert set(batch) == {"id", "features", "valid", "report"}
    assert batch["id"] == ["a", "b"] and batch["report"] == ["A.", ""]
    assert batch["features"].dtype == torch.float32
    assert batch["features"].tolist() == [[[1, 1], [2, 2], [3, 3]], [[4, 4], [0, 0], [0, 0]]]
    assert batch["valid"].dtype == torch.bool and batch["valid"].tolist() == [[True] * 3, [True, False, False]]


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_what_is_valid_in_a_batch_is_what_was_given(sizes):
    items = [{"id": str(size), "features": torch.randn(size, 3), "report": ""} for size in sizes]
    batch = padded_batch(items)
    assert batch["features"].shape == (*batch["valid"].shape, 3)
    for number, item in enumerate(items):
        assert torch.equal(batch["features"][number][batch["valid"][number]], item["features"])
    assert not batch["features"][~batch["valid"]].any()


def test_workers_give_the_same_batches_as_the_main_process(dataset):
    def batches(workers):
        items = dataset(cutoff=25, augmentation=BagAugmentation(noise=0.1, drop_patches=0.2))
        return list(
            DataLoader(
                items,
                batch_size=16,
                sampler=EpochSampler(length=len(items), order=None, seed=0, first_epoch=3),
                num_workers=workers,
                collate_fn=padded_batch,
            )
        )

    alone, together = batches(0), batches(2)
    assert len(alone) == len(together) == 4
    for one, other in zip(alone, together, strict=True):
        assert one["id"] == other["id"] and one["report"] == other["report"] and other["features"].is_shared()
        for name in ("features", "valid"):
            assert torch.equal(one[name], other[name])
