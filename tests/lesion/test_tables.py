"""Metadata of lesions: what is read from them, and what is refused with its line."""

import numpy as np
import pandas as pd
import pytest

from biomass_pl.errors import DataError, FoldError
from biomass_pl.lesion.tables import (
    columns_of,
    metadata_path,
    read_lesions,
    read_metadata,
    require_one_fold_per_patient,
)

HEADER = "isic_id,patient_id,target\n"


def written(root, text, split="train"):
    metadata_path(root, split).write_text(text, encoding="utf-8")
    return root


def refused(root, split="train"):
    with pytest.raises(DataError) as caught:
        read_lesions(root, split)
    message = str(caught.value)
    assert str(metadata_path(root, split)) in message
    return message


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lesions_come_in_the_order_of_the_file_without_the_other_columns(tmp_path, mark):
    text = f"{mark}target,sex,isic_id,age_approx,patient_id\n1,NA,b,60,p\n0,male,a,,q\n"
    lesions = read_lesions(written(tmp_path, text), "train")
    assert list(lesions.columns) == ["isic_id", "patient_id", "target"]
    assert lesions.to_numpy().tolist() == [["b", "p", 1], ["a", "q", 0]]
    assert lesions["target"].dtype == int


def test_targets_written_as_decimals_are_whole_numbers(tmp_path):
    lesions = read_lesions(written(tmp_path, f"{HEADER}a,p,1.0\nb,p,0.0\n"), "train")
    assert lesions["target"].tolist() == [1, 0] and lesions["target"].dtype == int


def test_names_of_digits_stay_as_they_are_written(tmp_path):
    lesions = read_lesions(written(tmp_path, f"{HEADER}0015657,007,1\n0015729,8,0\n"), "train")
    assert lesions["isic_id"].tolist() == ["0015657", "0015729"] and lesions["patient_id"].tolist() == ["007", "8"]


def test_a_target_of_test_lesions_is_never_read(tmp_path):
    for text in ("isic_id,patient_id\na,p\n", "isic_id,target,patient_id\na,unknown,p\n"):
        assert read_lesions(written(tmp_path, text, "test"), "test").to_numpy().tolist() == [["a", "p"]]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_table_is_named_with_how_to_get_one(tmp_path, split):
    message = refused(tmp_path, split)
    assert f"{split}-metadata.csv does not exist" in message
    assert f"biomass sample --kind lesion --out {tmp_path}" in message


@pytest.mark.parametrize(
    ("header", "lacking"),
    [
        ("patient_id,target", "isic_id"),
        ("isic_id,target", "patient_id"),
        ("isic_id,patient_id", "target"),
        ("isic_id,sex", "patient_id, target"),
    ],
)
def test_missing_columns_are_named(tmp_path, header, lacking):
    assert f"has no column {lacking}. Add what is missing." in refused(written(tmp_path, f"{header}\na,b\n"))


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("a,p,0\nb,p,\n", ["line 3: target 'nan' is neither 0 nor 1"]),
        ("a,p,0\nb,p,NA\n", ["line 3: target 'nan' is neither 0 nor 1"]),
        ("a,p,2\nb,p,1\n", ["line 2: target '2' is neither 0 nor 1"]),
        ("a,p,0\nb,p,-1\n", ["line 3: target '-1' is neither 0 nor 1"]),
        ("a,p,0\nb,p,0.5\n", ["line 3: target '0.5' is neither 0 nor 1"]),
        ("a,p,0\nb,p,inf\n", ["line 3: target 'inf' is neither 0 nor 1"]),
        ("a,p,malignant\nb,p,1\n", ["line 2: target 'malignant' is neither 0 nor 1"]),
        ("a,p,0\nb,p,0\na,q,1\n", ["line 4: lesion a is there twice"]),
        ("a,p,0\na,p,0\na,p,0\n", ["line 3: lesion a is there twice", "line 4: lesion a is there twice"]),
        ("a,p,0\nb,,0\n", ["line 3: patient_id is empty"]),
        ("a,NA,0\nb,p,0\n", ["line 2: patient_id is empty"]),
        (",p,0\nb,p,0\n", ["line 2: isic_id is empty"]),
    ],
)
def test_wrong_rows_are_refused_with_their_line_and_no_other(tmp_path, rows, told):
    message = refused(written(tmp_path, HEADER + rows))
    assert message.splitlines()[0].endswith(f"has {len(told)} problem(s); correct these rows:")
    assert [line.strip() for line in message.splitlines()[1:]] == told


def test_all_problems_come_at_once(tmp_path):
    message = refused(written(tmp_path, f"{HEADER}a,,0\na,p,maybe\n,p,1\nb,p,\n"))
    assert message.splitlines()[1:] == [
        "  line 4: isic_id is empty",
        "  line 2: patient_id is empty",
        "  line 3: lesion a is there twice",
        "  line 3: target 'maybe' is neither 0 nor 1",
        "  line 5: target 'nan' is neither 0 nor 1",
    ]


def test_a_long_list_of_problems_is_cut_and_counted(tmp_path):
    message = refused(written(tmp_path, HEADER + "".join(f"a{n},p,3\n" for n in range(25))))
    assert "has 25 problem(s)" in message and message.splitlines()[-1] == "  ... and 15 more"


@pytest.mark.parametrize(
    "content", [b"", b'isic_id,patient_id,target\n"a,p,0\n', b"isic_id,patient_id,target\n\xff,p,0\n"]
)
def test_what_is_no_table_is_refused(tmp_path, content):
    metadata_path(tmp_path, "train").write_bytes(content)
    assert "is not a readable CSV table" in refused(tmp_path)


def test_metadata_keep_all_columns_and_missing_values_are_missing(tmp_path):
    root = written(tmp_path, "isic_id,patient_id,age_approx,sex\na,p,60,NA\nb,p,NA,male\n", "test")
    metadata = read_metadata(root, "test")
    assert list(metadata.columns) == columns_of(root, "test") == ["isic_id", "patient_id", "age_approx", "sex"]
    assert np.array_equal(metadata["age_approx"], [60, np.nan], equal_nan=True)
    assert metadata["sex"].isna().tolist() == [True, False]


def test_metadata_of_mixed_kinds_are_read_in_one_piece(tmp_path, recwarn):
    """Pandas would otherwise guess the kind of a long column part by part, and warn."""
    rows = "".join(f"a{n},p,{'' if n < 150_000 else 'text'}\n" for n in range(150_010))
    metadata = read_metadata(written(tmp_path, f"isic_id,patient_id,mel_mitotic_index\n{rows}"), "train")
    assert metadata["mel_mitotic_index"].dropna().tolist() == ["text"] * 10
    assert not recwarn.list


def test_missing_metadata_are_named(tmp_path):
    with pytest.raises(DataError, match=r"train-metadata.csv does not exist"):
        read_metadata(tmp_path, "train")


LESIONS = pd.DataFrame({"isic_id": list("abcdef"), "patient_id": ["p", "q", "p", "r", "q", "r"]})


def test_folds_that_keep_every_patient_whole_are_accepted_in_any_order():
    folds = pd.Series({"a": 0, "c": 0, "b": 1, "e": 1, "d": 0, "f": 0})
    for order in (folds, folds.iloc[::-1]):
        require_one_fold_per_patient(LESIONS, order)


def test_patients_in_several_folds_are_refused_by_name():
    folds = pd.Series({"f": 1, "e": 1, "d": 0, "c": 0, "b": 0, "a": 0})
    with pytest.raises(FoldError) as caught:
        require_one_fold_per_patient(LESIONS, folds)
    message = str(caught.value)
    assert "data.fold_csv puts lesions of 2 patient(s) into several folds" in message
    assert message.splitlines()[1:] == ["  q", "  r"]
