"""Files of ids, however they are separated, and what may not be in two splits."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biomass_pl.errors import DataError, FoldError
from biomass_pl.slide.split_files import SplitFiles, read_split_files, require_one_fold_per_patient

PATIENTS = {"a1": "A", "a2": "A", "b1": "B", "c 1": "C", "d1": "D"}


@pytest.fixture
def write(tmp_path):
    def written(text: str, name: str = "ids") -> Path:
        path = tmp_path / f"{name}.txt"
        path.write_bytes(text.encode())
        return path

    return written


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a1", ["a1"]),
        ("a1\n", ["a1"]),
        ("a1,b1,c 1\n", ["a1", "b1", "c 1"]),
        ("b1\na1\n\n", ["b1", "a1"]),
        (" a1 , b1 ,\r\n,c 1\t,\n", ["a1", "b1", "c 1"]),
        ("\ufeffa1\rd1", ["a1", "d1"]),
    ],
)
def test_ids_are_separated_by_commas_or_lines(text, ids, write):
    assert read_split_files(SplitFiles(train=(write(text),)), patients=PATIENTS) == {"train": ids}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    ids=st.lists(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9 _-]*[A-Za-z0-9])?", fullmatch=True), min_size=1, unique=True),
    data=st.data(),
)
def test_any_mixture_of_separators_gives_the_same_ids(ids, data, write):
    separators = st.sampled_from([",", "\n", " , ", "\r\n", ",\n", "\n\n", ", "])
    text = "".join(data.draw(separators) + name for name in ids) + data.draw(separators)
    found = read_split_files(SplitFiles(train=(write(text),)), patients=dict.fromkeys(ids, "P"))
    assert found == {"train": ids}


def test_a_split_may_have_several_files_and_keeps_their_order(write):
    files = SplitFiles(
        train=(write("d1", "one"), write("a1\na2", "two")), val=(write("b1", "three"),), test=(write("c 1", "four"),)
    )
    found = read_split_files(files, patients=PATIENTS)
    assert list(found.items()) == [("train", ["d1", "a1", "a2"]), ("val", ["b1"]), ("test", ["c 1"])]


def test_what_no_file_names_is_learned_from_if_no_file_says_what_is(write):
    assert read_split_files(SplitFiles(), patients=PATIENTS) == {"train": list(PATIENTS)}
    files = SplitFiles(val=(write("d1,b1", "one"),), test=(write("c 1", "two"),))
    found = read_split_files(files, patients=PATIENTS)
    assert list(found.items()) == [("train", ["a1", "a2"]), ("val", ["d1", "b1"]), ("test", ["c 1"])]
    with pytest.raises(FoldError, match=r"A: train \(a1\), val \(a2\)"):
        read_split_files(SplitFiles(val=(write("a2"),)), patients=PATIENTS)
    with pytest.raises(FoldError, match="name all specimens"):
        read_split_files(SplitFiles(val=(write(",".join(PATIENTS)),)), patients=PATIENTS)


def test_given_folds_hold_out_whole_patients():
    folds = pd.Series({"a1": 0, "a2": 0, "b1": 1, "c 1": 0, "d1": -1})
    require_one_fold_per_patient(folds, PATIENTS)
    folds["a2"] = -1
    with pytest.raises(FoldError) as caught:
        require_one_fold_per_patient(folds, PATIENTS)
    assert "data.fold_csv puts specimens of 1 patient(s) into several folds" in str(caught.value)
    assert str(caught.value).endswith("\n  A: a1 (fold 0), a2 (fold -1)")


def test_the_splits_of_the_sample_are_read(packed, specimen_folders):
    from biomass_pl.slide.specimens import open_specimens

    folder = specimen_folders / "hdf5" / "splits"
    files = SplitFiles(**{name: (folder / f"{name}.txt",) for name in ("train", "val", "test")})
    found = read_split_files(files, patients=open_specimens(packed).patients)
    assert sum(map(len, found.values())) == 60


@pytest.mark.parametrize(
    ("splits", "kind", "message"),
    [
        (
            {"train": ["a1,x9,y"]},
            DataError,
            r"data\.train_split names 2 specimen\(s\) that have neither.*:\n  x9\n  y$",
        ),
        ({"val": ["A"]}, DataError, r"data\.val_split names 1 .*not of patients"),
        ({"val": ["a1,b1,a1"]}, DataError, r"data\.val_split names 1 specimen\(s\) twice.*:\n  a1$"),
        ({"val": ["a1,b1", "a1"]}, DataError, r"twice"),
        ({"test": [" \n,\n"]}, DataError, r"test0\.txt of data\.test_split names no specimen"),
        ({"train": ["a1", ""]}, DataError, r"train1\.txt of data\.train_split names no specimen"),
        (
            {"train": ["b1,d1"], "val": ["d1"]},
            FoldError,
            r"1 specimen\(s\) are in several splits.*:\n  d1: train, val$",
        ),
        ({"train": ["b1"], "val": ["d1"], "test": ["b1"]}, FoldError, r"\n  b1: train, test$"),
        (
            {"train": ["a1,b1"], "val": ["a2"]},
            FoldError,
            r"1 patient\(s\) are in several splits.*data\.allow_shared_patients: true.*:\n  A: train \(a1\), val \(a2\)$",
        ),
        ({"train": ["a1"], "test": ["a2"]}, FoldError, r"A: train \(a1\), test \(a2\)"),
    ],
)
def test_ids_that_cannot_be_used_are_refused(splits, kind, message, write):
    files = {
        name: tuple(write(text, f"{name}{number}") for number, text in enumerate(texts))
        for name, texts in splits.items()
    }
    with pytest.raises(kind, match=message):
        read_split_files(SplitFiles(**files), patients=PATIENTS)


def test_patients_may_be_shared_if_allowed_but_specimens_never(write):
    files = SplitFiles(train=(write("a1,b1", "one"),), val=(write("a2", "two"),))
    found = read_split_files(files, patients=PATIENTS, allow_shared_patients=True)
    assert found == {"train": ["a1", "b1"], "val": ["a2"]}
    with pytest.raises(FoldError, match="specimen"):
        read_split_files(SplitFiles(train=files.train, val=files.train), patients=PATIENTS, allow_shared_patients=True)


def test_files_that_cannot_be_read_are_named(tmp_path):
    for path, message in ((tmp_path / "absent.txt", "does not exist"), (tmp_path / "latin.txt", "no text in UTF-8")):
        (tmp_path / "latin.txt").write_bytes(b"a1,\xff")
        with pytest.raises(DataError, match=rf"{path.name}.*{message}|{message}"):
            read_split_files(SplitFiles(val=(path,)), patients=PATIENTS)
