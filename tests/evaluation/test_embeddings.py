"""Vectors of photos in a file, found again by name."""

from pathlib import Path

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
    return Embeddings(ids=pd.Series(list(names), name="isic_id"), arrays={"embedding": values})


def slides(names: str = "abc", first: float = 0.0) -> Embeddings:
    """One slide per letter: its picture two numbers wide, its text one number, a hundred more than the first."""
    found = embeddings(names, first).arrays["embedding"]
    return Embeddings(
        ids=pd.Series(list(names), name="slide_id"), arrays={"picture": found, "text": 100 + found[:, :1].astype(float)}
    )


def test_a_file_gives_back_what_was_written(tmp_path):
    path = tmp_path / "new" / "oof_embeddings.npz"
    written = embeddings()
    written.write(path)
    read = Embeddings.read(path)
    assert read.ids.tolist() == ["a", "b", "c"] and read.ids.name == "isic_id"
    assert list(read.arrays) == ["embedding"]
    values = read.arrays["embedding"]
    assert values.dtype == np.float32 and np.array_equal(values, written.arrays["embedding"])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_file_is_a_plain_archive_of_names_and_vectors(tmp_path):
    embeddings().write(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as arrays:
        assert arrays.files == ["isic_id", "embedding"]
        assert arrays["isic_id"].tolist() == ["a", "b", "c"]
        assert arrays["embedding"].tolist() == [[0, 1], [2, 3], [4, 5]]
        assert arrays["embedding"].dtype == np.float32


def test_several_arrays_are_kept_each_under_its_name(tmp_path):
    slides().write(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as arrays:
        assert arrays.files == ["slide_id", "picture", "text"]
    read = Embeddings.read(tmp_path / "e.npz")
    assert read.ids.tolist() == ["a", "b", "c"] and read.ids.name == "slide_id"
    assert list(read.arrays) == ["picture", "text"]
    assert read.arrays["picture"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert read.arrays["text"].tolist() == [[100], [102], [104]]


def test_the_names_are_the_text_wherever_they_stand(tmp_path):
    np.savez(tmp_path / "e.npz", embedding=np.eye(2), photo=np.array(["x", "y"]))
    read = Embeddings.read(tmp_path / "e.npz")
    assert read.ids.name == "photo" and read.ids.tolist() == ["x", "y"] and list(read.arrays) == ["embedding"]


def test_the_matrix_has_all_arrays_side_by_side():
    matrix = slides("ab").matrix()
    assert matrix.tolist() == [[0, 1, 100], [2, 3, 102]] and matrix.dtype == np.float32


@given(order=st.permutations(range(6)))
def test_vectors_follow_their_photos(order):
    found = embeddings("abcdef")
    asked = pd.Series(["abcdef"[place] for place in order], name="isic_id", index=range(10, 16))
    ordered = found.in_order(asked)
    assert ordered.ids is asked
    assert np.array_equal(ordered.arrays["embedding"], found.arrays["embedding"][list(order)])


def test_some_of_the_photos_can_be_asked_for():
    asked = slides().in_order(pd.Series(["c"])).arrays
    assert asked["picture"].tolist() == [[4, 5]] and asked["text"].tolist() == [[104]]


def test_a_photo_without_a_vector_is_named():
    with pytest.raises(DataError, match=r"2 photo\(s\) have no embedding, the first is x.*biomass predict"):
        embeddings().in_order(pd.Series(["a", "x", "b", "y"]))


def test_files_of_folds_are_joined_in_their_order():
    both = Embeddings.joined([slides("ab"), slides("c", first=7)])
    assert both.ids.tolist() == ["a", "b", "c"] and both.ids.index.tolist() == [0, 1, 2]
    assert both.ids.name == "slide_id"
    assert both.arrays["picture"].tolist() == [[0, 1], [2, 3], [7, 8]]
    assert both.arrays["text"].tolist() == [[100], [102], [107]]


def test_the_mean_is_taken_photo_by_photo():
    mean = Embeddings.mean([slides("ab"), slides("ab", first=1), slides("ab", first=5)])
    assert mean.ids.tolist() == ["a", "b"]
    assert mean.arrays["picture"].tolist() == [[2, 3], [4, 5]] and mean.arrays["picture"].dtype == np.float32
    assert mean.arrays["text"].tolist() == [[102], [104]]


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


def without_names(path):
    np.savez(path, embedding=np.zeros((1, 2)))


def with_names_twice(path):
    np.savez(path, isic_id=np.array(["a"]), patient_id=np.array(["b"]), embedding=np.zeros((1, 2)))


def with_an_array_of_another_shape(path):
    np.savez(path, isic_id=np.array(["a"]), embedding=np.zeros((1, 2)), more=np.zeros(1))


def with_a_vector_too_many(path):
    np.savez(path, isic_id=np.array(["a"]), embedding=np.zeros((2, 2)))


def with_pickled_names(path):
    np.savez(path, isic_id=np.array(["a", None], dtype=object), embedding=np.zeros((2, 2)))


def with_pickled_vectors(path):
    np.savez(path, isic_id=np.array(["a"]), embedding=np.array([[[1, 2]]], dtype=object)[0])


def compressed_and_damaged(path):
    np.savez_compressed(path, isic_id=np.array(["a"]), embedding=np.zeros((1, 500)))
    content = bytearray(path.read_bytes())
    content[content.index(b"isic_id.npy") + 40] ^= 255
    path.write_bytes(content)


def encrypted(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the directory at the end
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoiled",
    [
        truncated,
        emptied,
        replaced_by_text,
        replaced_by_a_bare_array,
        without_vectors,
        without_names,
        with_names_twice,
        with_an_array_of_another_shape,
        with_a_vector_too_many,
        with_pickled_names,
        with_pickled_vectors,
        compressed_and_damaged,
        encrypted,
    ],
)
def test_a_file_that_holds_no_embeddings_is_named(spoiled, tmp_path):
    path = tmp_path / "oof_embeddings.npz"
    embeddings().write(path)
    spoiled(path)
    with pytest.raises(DataError, match=r"oof_embeddings.npz holds no embeddings.*biomass predict"):
        Embeddings.read(path)


class MakesFile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("spoiled", ["isic_id", "embedding"])
def test_nothing_of_a_file_is_executed(spoiled, tmp_path):
    mark = tmp_path / "executed"
    hostile = np.array([[MakesFile(mark)]], dtype=object)
    np.savez(tmp_path / "e.npz", **{"isic_id": np.array(["a"]), "embedding": np.zeros((1, 1)), spoiled: hostile})
    with pytest.raises(DataError, match="holds no embeddings"):
        Embeddings.read(tmp_path / "e.npz")
    assert not mark.exists()
