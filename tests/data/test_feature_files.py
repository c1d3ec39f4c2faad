"""Features from files of others: every form is read, everything wrong is named, nothing is executed."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomass_pl.data.feature_files import FeatureFile, read_features
from biomass_pl.errors import ConfigError, DataError
from biomass_pl.evaluation.embeddings import Embeddings

IDS = np.array(["a", "b", "c"])


def features(*shape: int) -> np.ndarray:
    """0, 1, 2, ... in this shape behind the three items."""
    return np.arange(3 * np.prod(shape), dtype=np.float64).reshape(3, *shape)


def saved(path: Path, **arrays) -> Path:
    np.savez(path, **({"image_id": IDS, "features": features(2)} | arrays))
    return path


# NumPy archives


@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.uint8])
def test_an_archive_gives_names_and_features_of_every_form(shape, dtype, tmp_path):
    read = read_features(saved(tmp_path / "f.npz", features=features(*shape).astype(dtype)))
    assert read.names == ["a", "b", "c"] and read.path == tmp_path / "f.npz"
    assert read.values.dtype == np.float32 and np.array_equal(read.values, features(*shape))


def test_other_arrays_beside_the_two_do_not_matter(tmp_path):
    read = read_features(saved(tmp_path / "F.NPZ.npz", date=IDS, grams=np.zeros((3, 5))))
    assert read.names == ["a", "b", "c"] and read.values.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_own_embeddings_are_features(tmp_path):
    ids = pd.Series(list(IDS), name="isic_id")
    Embeddings(ids=ids, arrays={"embedding": features(2)}).write(tmp_path / "oof_embeddings.npz")
    read = read_features(tmp_path / "oof_embeddings.npz")
    assert read.names == ["a", "b", "c"] and read.values.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_pooling_is_the_mean_over_views_and_tiles():
    names = ["a", "b"]
    flat = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    tiles = np.array([[[0, 2], [2, 2]], [[3, 3], [3, 5]]], dtype=np.float32)
    views = np.stack([tiles - 1, tiles + 1], axis=1)
    for values in (flat, tiles, views):
        pooled = FeatureFile(path=Path("f.npz"), names=names, values=values).pooled()
        assert pooled.tolist() == flat.tolist() and pooled.dtype == np.float32


@given(order=st.permutations(range(6)), count=st.integers(1, 6))
def test_features_follow_their_items(order, count):
    values = np.arange(36, dtype=np.float32).reshape(6, 3, 2)
    read = FeatureFile(path=Path("f.npz"), names=list("abcdef"), values=values)
    asked = ["abcdef"[place] for place in order[:count]]
    ordered = read.in_order(asked)
    assert ordered.names == asked and np.array_equal(ordered.values, values[order[:count]])


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("ax", "f.npz lacks 1 of 2 items: x. Add"),
        ("xbyaz", "f.npz lacks 3 of 5 items: x, y, z. Add"),
        ("wxyz", "f.npz lacks 4 of 4 items: w, x, y, .... Add"),
    ],
)
def test_what_is_missing_is_counted_and_named(asked, told):
    read = FeatureFile(path=Path("f.npz"), names=list("abc"), values=features(2))
    with pytest.raises(DataError, match=told.replace(".", r"\.")):
        read.in_order(list(asked))


# What is refused


def nan_in_tiles() -> np.ndarray:
    values = features(2, 4)
    values[1, 1, 3], values[2, 0, 0] = np.nan, -np.inf
    return values


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"features": features()}, "features is float64 of the shape (3,), and not numbers (items, width), (items, tiles"),
        ({"features": features(1, 1, 1, 2)}, "features is float64 of the shape (3, 1, 1, 1, 2)"),
        ({"features": features(0)}, "of the shape (3, 0)"),
        ({"features": features(2).astype(str)}, "features is <U32 of the shape (3, 2)"),
        ({"features": features(2) > 1}, "features is bool"),
        ({"features": features(2)[:2]}, "features has 2 rows for 3 names"),
        ({"features": nan_in_tiles()}, "features is NaN, infinite or beyond float32 for 2 items, the first b"),
        ({"features": 1e39 * features(2)}, "beyond float32 for 3 items, the first a"),
        ({"image_id": np.array(["a", "b", "a"])}, "image_id names 1 items more than once, such as a"),
        ({"image_id": np.arange(3)}, "image_id is int64 of the shape (3,), and no list of texts"),
        ({"image_id": IDS[None]}, "image_id is <U1 of the shape (1, 3), and no list of texts"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_named_with_their_file_and_key(arrays, told, tmp_path):
    with pytest.raises(DataError) as caught:
        read_features(saved(tmp_path / "f.npz", **arrays))
    assert str(caught.value).startswith(f"{tmp_path / 'f.npz'}: ") and told in str(caught.value)
    assert "Save image_id (texts) and features (items, width)" in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"image_id": IDS, "tokens": features(2), "labels": features(2)}, "features is not there; there is image_id, tokens, labels"),
        ({"image_id": IDS}, "features is not there; there is image_id"),
        ({"features": features(2)}, "image_id is not there; there is features"),
        ({"name": IDS, "date": IDS, "features": features(2)}, "image_id is not there; there is name, date, features"),
        ({}, "image_id is not there; there is nothing"),
    ],
)  # fmt: skip
def test_a_missing_array_is_named_and_none_is_guessed(arrays, told, tmp_path):
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(DataError) as caught:
        read_features(tmp_path / "f.npz")
    assert str(caught.value).startswith(f"{tmp_path / 'f.npz'}: {told}")


@pytest.mark.parametrize("content", [b"", b"image_id,features\n", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_archive_says_so(content, tmp_path):
    (tmp_path / "f.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"f.npz cannot be read as a NumPy archive .* with numpy.savez"):
        read_features(tmp_path / "f.npz")


def test_a_truncated_archive_says_so(tmp_path):
    path = saved(tmp_path / "f.npz")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"f.npz cannot be read as a NumPy archive"):
        read_features(path)


class MakesFile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("key", ["image_id", "features", "other"])
def test_nothing_of_a_file_is_executed(key, tmp_path):
    mark = tmp_path / "executed"
    path = saved(tmp_path / "f.npz", **{key: np.array([[MakesFile(mark)]], dtype=object)})
    with pytest.raises(DataError, match="cannot be read"):
        read_features(path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["f.csv", "f.pt", "f"])
def test_files_of_another_kind_are_refused_unread(name, tmp_path):
    with pytest.raises(ConfigError, match=r"is no file of features. Give a NumPy archive \(.npz\) or a Parquet table"):
        read_features(tmp_path / name)


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_a_file_that_is_not_there_says_so(name, tmp_path):
    with pytest.raises(DataError, match=rf"Features file .*{name} does not exist"):
        read_features(tmp_path / name)


# Parquet tables


def test_parquet_without_its_reader_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "f.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        ConfigError, match=r"f.parquet needs pyarrow. Install it \(pip install pyarrow\), or save .* .npz"
    ):
        read_features(tmp_path / "f.parquet")


class TestParquet:
    """With the reader of Parquet."""

    @pytest.fixture(autouse=True)
    def reader(self) -> None:
        pytest.importorskip("pyarrow")

    def saved(self, path: Path, **columns) -> Path:
        table = {"image_id": list(IDS), "features": [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]} | columns
        pd.DataFrame({name: column for name, column in table.items() if column is not None}).to_parquet(path)
        return path

    @pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4)])
    def test_lists_are_features_of_every_form(self, shape, tmp_path):
        read = read_features(self.saved(tmp_path / "f.parquet", features=features(*shape).tolist(), State=list("xyz")))
        assert read.names == ["a", "b", "c"]
        assert read.values.dtype == np.float32 and np.array_equal(read.values, features(*shape))

    @pytest.mark.parametrize(
        ("columns", "told"),
        [
            ({"features": None}, "features is not there; there is image_id"),
            ({"image_id": None}, "image_id is not there; there is features"),
            ({"features": [[0.0], [1.0, 2.0], [3.0]]}, "features holds lists of different lengths"),
            ({"features": [[0.0], None, [3.0]]}, "features holds lists of different lengths, or none"),
            ({"features": [[0.0], [None], [3.0]]}, "features is NaN, infinite or beyond float32 for 1 items, the first b"),
            ({"features": [0.0, 1.0, 2.0]}, "features is float64 of the shape (3,)"),
            ({"features": [["x"], ["y"], ["z"]]}, "features is object of the shape (3, 1)"),
            ({"image_id": [1, 2, 3]}, "image_id holds something else than texts"),
            ({"image_id": ["a", None, "c"]}, "image_id holds something else than texts"),
            ({"image_id": ["a", "b", "b"]}, "image_id names 1 items more than once, such as b"),
        ],
    )  # fmt: skip
    def test_wrong_columns_are_named(self, columns, told, tmp_path):
        with pytest.raises(DataError) as caught:
            read_features(self.saved(tmp_path / "f.parquet", **columns))
        assert str(caught.value).startswith(f"{tmp_path / 'f.parquet'}: {told}")

    def test_a_file_that_is_no_table_says_so(self, tmp_path):
        (tmp_path / "f.parquet").write_bytes(b"PAR1 cut off")
        with pytest.raises(DataError, match=r"f.parquet cannot be read as a Parquet table"):
            read_features(tmp_path / "f.parquet")
