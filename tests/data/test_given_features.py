"""Features from a file: their shape, their rows by name, and when they are read again."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from biomass_pl.data.given_features import given_features
from biomass_pl.data.splits import Split
from biomass_pl.errors import DataError
from biomass_pl.pasture.data import PastureDataModule

NAMES = ["b", "a", "c"]


def write(path: Path, *shape: int, start: int = 0) -> np.ndarray:
    values = np.arange(start, start + np.prod((3, *shape)), dtype=np.float32).reshape(3, *shape)
    np.savez(path, image_id=np.array(NAMES), features=values)
    return values


@pytest.mark.parametrize(("shape", "expected"), [((5,), (1, 1, 5)), ((4, 5), (1, 4, 5)), ((2, 4, 5), (2, 4, 5))])
def test_what_a_file_does_not_tell_apart_counts_as_one(shape, expected, tmp_path):
    values = write(tmp_path / "f.npz", *shape)
    given = given_features(tmp_path / "f.npz")
    assert given.shape == expected and given.serve(10**6)
    for row, name in enumerate(NAMES):
        assert_array_equal(given.read(name, Path("no/such.jpg"), 0), values[row].reshape(expected))
        assert_array_equal(given.vector(name), values[row].reshape(-1, 5).mean(axis=0))


def test_missing_items_are_counted_and_the_first_named(tmp_path):
    write(tmp_path / "f.npz", 2)
    given = given_features(tmp_path / "f.npz")
    given.require(["a", "c"])
    with pytest.raises(DataError, match=r"f\.npz lacks 4 of 5 items: p, q, r, \.\.\."):
        given.require(["p", "a", "q", "r", "s"])
    with pytest.raises(DataError, match="lacks 1 of 1 items: p"):
        given.read("p", Path("p.jpg"), 0)


def test_a_file_is_read_once_until_it_changes(tmp_path):
    path = tmp_path / "f.npz"
    write(path, 2)
    first = given_features(path)
    assert given_features(path) is first
    content = first.content()
    write(path, 2, start=100)
    os.utime(path, (1, 1))
    assert given_features(path).vector("b").tolist() == [100, 101]
    assert given_features(path).content() != content
    path.unlink()
    with pytest.raises(DataError, match="does not exist"):
        given_features(path)


def test_loaders_read_them_without_workers_and_without_the_bank(rendered, tmp_path):
    names = PastureDataModule(root=rendered).names().tolist()
    np.savez(tmp_path / "f.npz", image_id=np.array(names), features=np.arange(24)[:, None] * np.ones((1, 3)))
    data = PastureDataModule(
        root=rendered, features=tmp_path / "f.npz", num_workers=2, batch_size=4, bank_views=3, mixup_prob=0.0
    )
    assert data.bank is None and data.given_width == 3 and data.view_shape() == (1, 1)
    data.use(Split(fold=0, folds=pd.Series(np.arange(24) % 2, index=names)))
    loader = data.training_loader()
    assert loader.num_workers == 0
    rows = {name: row for row, name in enumerate(names)}
    for batch in loader:
        assert batch["features"].shape == (4, 1, 1, 3) and "tiles" not in batch
        assert batch["features"][:, 0, 0, 0].tolist() == [rows[name] for name in batch["id"]]
