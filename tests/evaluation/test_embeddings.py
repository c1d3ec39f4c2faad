"""Vectors of photos in a file, found again by name."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomass_pl.errors import DataError
from biomass_pl.evaluation.embeddings import Embeddings


def embeddings(names: str = "abc", first: float = 0.0) -> Embeddings:
    """One photo per letter, with the vectors (first, first + 1), (first + 2, first + 3), ..."""
    values = first + np.arange(2 * len(names), dtype=np.float32).reshape(-1, 2)
    return Embeddings(ids=pd.Series(list(names), name="isic_id"), values=values)


def test_a_file_gives_back_what_was_written(tmp_path):
    path = tmp_path / "new" / "oof_embeddings.npz"
    written = embeddings()
    written.write(path)
    read = Embeddings.read(path)
    assert read.ids.tolist() == ["a", "b", "c"] and read.ids.name == "isic_id"
    assert read.values.dtype == np.float32 and np.array_equal(read.values, written.values)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_file_is_a_plain_archive_of_names_and_vectors(tmp_path):
    embeddings().write(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as arrays:
        assert sorted(arrays.files) == ["embedding", "isic_id"]
        assert arrays["isic_id"].tolist() == ["a", "b", "c"]
        assert arrays["embedding"].tolist() == [[0, 1], [2, 3], [4, 5]]


@given(order=st.permutations(range(6)))
def test_vectors_follow_their_photos(order):
    found = embeddings("abcdef")
    asked = pd.Series(["abcdef"[place] for place in order], name="isic_id", index=range(10, 16))
    ordered = found.in_order(asked)
    assert ordered.ids is asked
    assert np.array_equal(ordered.values, found.values[list(order)])


def test_some_of_the_photos_can_be_asked_for():
    assert embeddings().in_order(pd.Series(["c"])).values.tolist() == [[4, 5]]


def test_a_photo_without_a_vector_is_named():
    with pytest.raises(DataError, match=r"2 photo\(s\) have no embedding, the first is x.*biomass predict"):
        embeddings().in_order(pd.Series(["a", "x", "b", "y"]))


def test_files_of_folds_are_joined_in_their_order():
    both = Embeddings.joined([embeddings("ab"), embeddings("c", first=7)])
    assert both.ids.tolist() == ["a", "b", "c"] and both.ids.index.tolist() == [0, 1, 2]
    assert both.ids.name == "isic_id"
    assert both.values.tolist() == [[0, 1], [2, 3], [7, 8]]


def test_the_mean_is_taken_photo_by_photo():
    mean = Embeddings.mean([embeddings("ab"), embeddings("ab", first=1), embeddings("ab", first=5)])
    assert mean.ids.tolist() == ["a", "b"]
    assert mean.values.tolist() == [[2, 3], [4, 5]] and mean.values.dtype == np.float32


def truncated(path):
    path.write_bytes(path.read_bytes()[:-40])


def emptied(path):
    path.write_bytes(b"")


def replaced_by_text(path):
    path.write_text("isic_id,embedding\na,1\n")


def replaced_by_a_bare_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros((3, 2)))


def without_vectors(path):
    np.savez(path, isic_id=np.array(["a"]))


def with_another_array(path):
    np.savez(path, isic_id=np.array(["a"]), embedding=np.zeros((1, 2)), more=np.zeros(1))


def with_pickled_names(path):
    np.savez(path, isic_id=np.array(["a", None], dtype=object), embedding=np.zeros((2, 2)))


@pytest.mark.parametrize(
    "spoiled",
    [
        truncated,
        emptied,
        replaced_by_text,
        replaced_by_a_bare_array,
        without_vectors,
        with_another_array,
        with_pickled_names,
    ],
)
def test_a_file_that_holds_no_embeddings_is_named(spoiled, tmp_path):
    path = tmp_path / "oof_embeddings.npz"
    embeddings().write(path)
    spoiled(path)
    with pytest.raises(DataError, match=r"oof_embeddings.npz holds no embeddings.*biomass predict"):
        Embeddings.read(path)
