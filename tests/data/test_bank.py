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

from biomass_pl.data import bank as bank_module
from biomass_pl.data.bank import BankedFeatures, FeatureBank, photo_key, view_generator
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
def shelf(bank):
    return bank.shelf({"weights": "w"}, SHAPE)


def fill(bank, shelf, keys, *, used=None):
    bank.make_room(shelf, len(keys))
    for number, key in enumerate(keys):
        shelf.write(key, 0, features(number))
        if used is not None:
            os.utime(shelf.folder / f"{key}_0.features", (used, used + number))


def present(shelf):
    return sorted(path.name.split("_")[0] for path in shelf.folder.glob("*.features"))


def test_what_is_read_is_what_was_written(shelf):
    shelf.write("a", 3, features())
    assert np.array_equal(shelf.read("a", 3), features())
    assert shelf.read("a", 2) is None and shelf.read("b", 3) is None
    assert (shelf.folder / "a_3.features").stat().st_size == shelf.entry_bytes == ENTRY


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
def test_a_damaged_entry_counts_as_missing(shelf, damage):
    shelf.write("a", 0, features())
    shelf.write("b", 0, features())
    path = shelf.folder / "a_0.features"
    path.write_bytes(damage(path.read_bytes()))
    assert shelf.read("a", 0) is None
    assert shelf.missing({"a": [0, 1], "b": [0]}) == {"a": [0, 1]}


def test_a_shelf_belongs_to_everything_that_its_entries_depend_on(bank):
    about = {"weights": "w", "geometry": {"tile_size": 8}}
    same = bank.shelf({"geometry": {"tile_size": 8}, "weights": "w"}, SHAPE)
    others = [
        bank.shelf({**about, "weights": "v"}, SHAPE),
        bank.shelf({**about, "geometry": {"tile_size": 9}}, SHAPE),
        bank.shelf(about, (2, 4, 6)),
    ]
    folders = {bank.shelf(about, SHAPE).folder, *(other.folder for other in others)}
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


def test_writers_of_one_entry_do_not_disturb_each_other_or_readers(shelf):
    def work(number):
        for _ in range(50):
            shelf.write("a", 0, features())
            found = shelf.read("a", 0)
            assert found is not None and np.array_equal(found, features())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert [path.name for path in shelf.folder.iterdir()] == ["a_0.features"]


def test_a_full_bank_gives_up_what_was_not_used_for_longest(bank, shelf):
    fill(bank, shelf, "abc", used=YESTERDAY)
    bank.limit = 4 * ENTRY
    assert shelf.missing({"a": [0]}) == {}  # used now, and so kept
    bank.make_room(shelf, 2)
    assert present(shelf) == ["a", "c"]


def test_what_may_be_in_use_is_kept(bank, shelf):
    fill(bank, shelf, "abc")
    bank.limit = 4 * ENTRY
    with pytest.raises(ConfigError, match="bank_limit_gb"):
        bank.make_room(shelf, 2)
    assert present(shelf) == ["a", "b", "c"]


def test_more_than_the_bank_could_ever_hold_is_refused(bank, shelf):
    bank.limit = 4 * ENTRY
    bank.check_limit(shelf, 4)
    with pytest.raises(ConfigError, match="bank_limit_gb"):
        bank.check_limit(shelf, 5)


def test_a_small_disk_is_told_before_it_is_full(bank, shelf, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1000, 900, ENTRY))
    bank.make_room(shelf, 1)
    with pytest.raises(DataError, match="bank_dir"):
        bank.make_room(shelf, 2)


def test_pruning_keeps_the_last_used_within_the_size(bank, shelf):
    fill(bank, shelf, "abc", used=YESTERDAY)
    assert bank.prune(inf) == 0
    assert bank.prune(2.5 * ENTRY / 1e9) == ENTRY
    assert present(shelf) == ["b", "c"]
    assert bank.prune(0) == 2 * ENTRY
    assert bank.summary() == [] and not shelf.folder.exists()


def test_the_summary_says_what_each_shelf_is(bank, shelf):
    fill(bank, shelf, "abc", used=YESTERDAY)
    other = bank.shelf({"weights": "v"}, SHAPE)
    fill(bank, other, "a")
    first, second = bank.summary()
    assert (first.folder, second.folder) == (other.folder, shelf.folder)
    assert (second.entries, second.size, second.about["weights"]) == (3, 3 * ENTRY, "w")
    assert second.last_used == pytest.approx(YESTERDAY + 2, abs=0.01)
    assert json.loads((shelf.folder / "about.json").read_text())["shape"] == list(SHAPE)


def test_epochs_after_the_frozen_ones_read_no_features(bank, shelf):
    banked = BankedFeatures(bank=bank, views=2, epochs=3)
    assert not banked.serves(0)
    banked.shelf = shelf
    assert [banked.serves(epoch) for epoch in (0, 2, 3)] == [True, True, False]


def test_features_that_are_gone_in_mid_training_are_named(bank, shelf, tmp_path):
    photo = tmp_path / "a.jpg"
    banked = BankedFeatures(bank=bank, views=2, shelf=shelf, keys={photo: "a"})
    shelf.write("a", 1, features())
    assert np.array_equal(banked.read(photo, 1), features())
    with pytest.raises(DataError, match=r"a.jpg .*--resume"):
        banked.read(photo, 2)


def test_features_are_read_from_disk_once_as_far_as_they_fit_into_memory(bank, shelf, tmp_path, monkeypatch):
    photo = tmp_path / "a.jpg"
    monkeypatch.setattr(bank_module, "_KEPT_BYTES", features().nbytes)
    banked = BankedFeatures(bank=bank, views=2, shelf=shelf, keys={photo: "a"})
    for view in (1, 2):
        shelf.write("a", view, features() + view)
        assert np.array_equal(banked.read(photo, view), features() + view)
    shutil.rmtree(shelf.folder)
    assert np.array_equal(banked.read(photo, 1), features() + 1)
    with pytest.raises(DataError):
        banked.read(photo, 2)
    banked.use(shelf)
    with pytest.raises(DataError):
        banked.read(photo, 1)
