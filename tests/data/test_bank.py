"""Features on disk: exact, never stale, never half, within a limit."""

import json
import os
import shutil
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from math import inf

import numpy as np
import pytest

from biomass_pl.data import stored_features
from biomass_pl.data.bank import FeatureBank, photo_key, view_generator
from biomass_pl.data.stored_features import StoredFeatures
from biomass_pl.errors import ConfigError, DataError

SHAPE = (2, 4, 3)
ENTRY = 2 * 4 * 3 * 4 + 4
YESTERDAY = time.time() - 30 * 3600


def features(number=0):
    return np.random.default_rng(number).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def bank(tmp_path):
    return FeatureBank(folder=tmp_path / "bank", limit_gb=1)


@pytest.fixture
def feature_set(bank):
    return bank.feature_set({"weights": "w"}, SHAPE)


def fill(bank, feature_set, keys, *, used=None):
    bank.make_room(feature_set, len(keys))
    for number, key in enumerate(keys):
        feature_set.write(key, 0, features(number))
        if used is not None:
            os.utime(feature_set.folder / f"{key}_0.features", (used, used + number))


def present(feature_set):
    return sorted(path.name.split("_")[0] for path in feature_set.folder.glob("*.features"))


def test_what_is_read_is_what_was_written(feature_set):
    feature_set.write("a", 3, features())
    assert np.array_equal(feature_set.read("a", 3), features())
    assert feature_set.read("a", 2) is None and feature_set.read("b", 3) is None
    assert (feature_set.folder / "a_3.features").stat().st_size == feature_set.entry_bytes == ENTRY


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: content + b"0",
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    ],
    ids=["truncated", "empty", "longer", "a flipped bit", "a wrong checksum"],
)
def test_a_damaged_entry_counts_as_missing(feature_set, damage):
    feature_set.write("a", 0, features())
    feature_set.write("b", 0, features())
    path = feature_set.folder / "a_0.features"
    path.write_bytes(damage(path.read_bytes()))
    assert feature_set.read("a", 0) is None
    assert feature_set.missing({"a": [0, 1], "b": [0]}) == {"a": [0, 1]}


def test_a_feature_set_belongs_to_everything_that_its_entries_depend_on(bank):
    depends_on = {"weights": "w", "geometry": {"tile_size": 8}}
    same = bank.feature_set({"geometry": {"tile_size": 8}, "weights": "w"}, SHAPE)
    others = [
        bank.feature_set({**depends_on, "weights": "v"}, SHAPE),
        bank.feature_set({**depends_on, "geometry": {"tile_size": 9}}, SHAPE),
        bank.feature_set(depends_on, (2, 4, 6)),
    ]
    folders = {bank.feature_set(depends_on, SHAPE).folder, *(other.folder for other in others)}
    assert same.folder in folders and len(folders) == 4


def test_a_photo_is_known_by_its_bytes(tmp_path):
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"one")
    first = photo_key(photo)
    assert photo_key(shutil.copy(photo, tmp_path / "b.jpg")) == first
    photo.write_bytes(b"another")
    assert photo_key(photo) != first


def test_the_changes_of_a_view_follow_from_photo_and_view():
    keys = [("0" * 32, 1), ("0" * 32, 2), ("1" * 32, 1)]
    draws = [view_generator(*key).integers(2**62) for key in keys]
    assert draws == [view_generator(*key).integers(2**62) for key in keys] and len(set(draws)) == 3


def test_writers_of_one_entry_do_not_disturb_each_other_or_readers(feature_set):
    def work(number):
        for _ in range(50):
            feature_set.write("a", 0, features())
            found = feature_set.read("a", 0)
            assert found is not None and np.array_equal(found, features())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert [path.name for path in feature_set.folder.iterdir()] == ["a_0.features"]


def test_a_full_bank_gives_up_what_was_not_used_for_longest(bank, feature_set):
    fill(bank, feature_set, "abc", used=YESTERDAY)
    bank.limit = 4 * ENTRY
    assert feature_set.missing({"a": [0]}) == {}  # used now, and so kept
    bank.make_room(feature_set, 2)
    assert present(feature_set) == ["a", "c"]


def test_what_may_be_in_use_is_kept(bank, feature_set):
    fill(bank, feature_set, "abc")
    bank.limit = 4 * ENTRY
    with pytest.raises(ConfigError, match="bank_limit_gb"):
        bank.make_room(feature_set, 2)
    assert present(feature_set) == ["a", "b", "c"]


def test_more_than_the_bank_could_ever_hold_is_refused(bank, feature_set):
    bank.limit = 4 * ENTRY
    bank.check_limit(feature_set, 4)
    with pytest.raises(ConfigError, match="bank_limit_gb"):
        bank.check_limit(feature_set, 5)


def test_a_small_disk_is_told_before_it_is_full(bank, feature_set, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1000, 900, ENTRY))
    bank.make_room(feature_set, 1)
    with pytest.raises(DataError, match="bank_dir"):
        bank.make_room(feature_set, 2)


def test_pruning_keeps_the_last_used_within_the_size(bank, feature_set):
    fill(bank, feature_set, "abc", used=YESTERDAY)
    assert bank.prune(inf) == 0
    assert bank.prune(2.5 * ENTRY / 1e9) == ENTRY
    assert present(feature_set) == ["b", "c"]
    assert bank.prune(0) == 2 * ENTRY
    assert bank.summary() == [] and not feature_set.folder.exists()


def test_the_summary_says_what_each_feature_set_is(bank, feature_set):
    fill(bank, feature_set, "abc", used=YESTERDAY)
    other = bank.feature_set({"weights": "v"}, SHAPE)
    fill(bank, other, "a")
    first, second = bank.summary()
    assert (first.folder, second.folder) == (other.folder, feature_set.folder)
    assert (second.entries, second.size, second.description["weights"]) == (3, 3 * ENTRY, "w")
    assert second.last_used == pytest.approx(YESTERDAY + 2, abs=0.01)
    assert json.loads((feature_set.folder / "about.json").read_text())["shape"] == list(SHAPE)


def stored(feature_set, *photos, epochs=inf):
    return StoredFeatures(feature_set=feature_set, keys={path: path.stem for path in photos}, views=2, epochs=epochs)


def test_epochs_after_the_frozen_ones_read_no_features(feature_set):
    assert [stored(feature_set, epochs=3).serve(epoch) for epoch in (0, 2, 3, 4)] == [True, True, False, False]
    assert stored(feature_set).serve(10**6)


def test_features_that_are_gone_in_mid_training_are_named(feature_set, tmp_path):
    photo = tmp_path / "a.jpg"
    features_of_photo = stored(feature_set, photo)
    feature_set.write("a", 1, features())
    assert np.array_equal(features_of_photo.read(photo, 1), features())
    with pytest.raises(DataError, match=r"a.jpg .*--resume"):
        features_of_photo.read(photo, 2)


def test_features_are_read_from_disk_once_as_far_as_they_fit_into_memory(feature_set, tmp_path, monkeypatch):
    photo = tmp_path / "a.jpg"
    monkeypatch.setattr(stored_features, "_KEPT_BYTES", features().nbytes)
    first = stored(feature_set, photo)
    for view in (1, 2):
        feature_set.write("a", view, features() + view)
        assert np.array_equal(first.read(photo, view), features() + view)
    shutil.rmtree(feature_set.folder)
    assert np.array_equal(first.read(photo, 1), features() + 1)
    with pytest.raises(DataError):
        first.read(photo, 2)
    with pytest.raises(DataError):  # what one kept, another has not
        stored(feature_set, photo).read(photo, 1)
