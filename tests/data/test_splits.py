"""Splits: folds dealt by groups and strata or given in a file, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from biomass_pl.data.splits import (
    NEVER_HELD_OUT,
    Split,
    fold_numbers,
    read_folds,
    require_one_fold_per_content,
    split_folds,
)
from biomass_pl.errors import FoldError

GROUPS = pd.Series([f"g{n * n % 31}" for n in range(60)])
NAMES = pd.Series([f"photo {n * 37 % 60}" for n in range(60)], name="isic_id")
STRATA = np.arange(60) % 3


def split(names=NAMES, *, groups=None, strata=None, num_folds=3, seed=0):
    return split_folds(
        names,
        groups=groups,
        strata=strata,
        num_folds=num_folds,
        seed=seed,
        what="Grouping by site",
        remedy="group otherwise",
    )


@pytest.mark.parametrize(
    ("groups", "strata"), [(None, None), (None, STRATA), (GROUPS, STRATA)], ids=["random", "classes", "groups"]
)
def test_split_folds_stand_in_the_order_given_under_the_names_of_the_photos(groups, strata):
    folds = split(groups=groups, strata=strata)
    assert folds.index.name == "isic_id" and folds.index.tolist() == NAMES.tolist() and folds.name == "fold"
    assert set(folds) == {0, 1, 2}
    if groups is not None:
        assert folds.groupby(groups.to_numpy()).nunique().eq(1).all()
    elif strata is not None:
        assert pd.crosstab(strata, folds.to_numpy()).isin([6, 7]).all(axis=None)
    else:
        assert folds.value_counts().tolist() == [20, 20, 20]
    pd.testing.assert_series_equal(split(groups=groups, strata=strata), folds)
    assert (split(groups=groups, strata=strata, seed=1) != folds).any()


def test_messages_about_a_split_say_what_made_it():
    with pytest.raises(FoldError, match=r"data.num_folds is 1; cross-validation needs two or more"):
        split(num_folds=1)
    with pytest.raises(FoldError, match="Grouping by site finds 60 photos for 61 folds"):
        split(num_folds=61)
    with pytest.raises(FoldError, match=f"Grouping by site finds {GROUPS.nunique()} groups for 40 folds"):
        split(groups=GROUPS, strata=STRATA, num_folds=40)
    with pytest.raises(FoldError, match="Grouping by site cannot make 30 folds of 60 photos"):
        split(strata=STRATA, num_folds=30)


IDS = pd.Series(["c", "a", "b", "d"], name="image_id")


def fold_file(tmp_path, text):
    path = tmp_path / "folds.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("column", ["sample_id_prefix", "image_id"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_fold_file_gives_its_folds_in_the_order_of_the_photos(tmp_path, column, mark):
    folds = read_folds(fold_file(tmp_path, f"{mark}{column},fold\na,0\nb,1\nc,2\nd,0\n"), IDS)
    assert folds.index.name == "image_id" and list(folds.items()) == [("c", 2), ("a", 0), ("b", 1), ("d", 0)]
    assert folds.dtype == int


@pytest.mark.parametrize("column", ["sample_id_prefix", "isic_id"])
def test_the_names_stand_in_a_column_called_as_those_of_the_photos(tmp_path, column):
    folds = read_folds(fold_file(tmp_path, f"{column},fold\na,0\nb,1\nc,2\nd,0\n"), IDS.rename("isic_id"))
    assert folds.index.name == "isic_id" and list(folds.items()) == [("c", 2), ("a", 0), ("b", 1), ("d", 0)]


def test_the_name_column_of_another_system_is_refused(tmp_path):
    with pytest.raises(FoldError, match=r"needs the columns isic_id \(or sample_id_prefix\) and fold"):
        read_folds(fold_file(tmp_path, "image_id,fold\na,0\nb,1\nc,2\nd,0\n"), IDS.rename("isic_id"))


def test_fold_numbers_written_as_decimals_are_whole_numbers(tmp_path):
    assert read_folds(fold_file(tmp_path, "image_id,fold\na,0.0\nb,1.0\nc,0.0\nd,1\n"), IDS).tolist() == [0, 0, 1, 1]


def test_further_columns_of_a_fold_file_are_ignored_even_the_other_name_of_the_photo(tmp_path):
    text = "sample_id_prefix,image_id,State,fold\nx,a,Tas,0\nx,b,Tas,1\nx,c,Tas,0\nx,d,Tas,1\n"
    assert read_folds(fold_file(tmp_path, text), IDS).tolist() == [0, 0, 1, 1]


def test_a_missing_fold_file_names_the_setting(tmp_path):
    with pytest.raises(FoldError, match=r"none.csv does not exist. Correct data.fold_csv"):
        read_folds(tmp_path / "none.csv", IDS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "image_id,fold\na,0\nb,1\nc,0\nd,1\nx,1\ny,0\n",
            ["photo x is not in the label", "photo y is not in the label"],
        ),
        (
            "image_id,fold\na,0\nb,1\n",
            ["photo c of the label table has no fold", "photo d of the label table has no fold"],
        ),
        ("image_id,fold\na,0\nb,1\nc,0\nd,1\na,1\n", ["photo a is there twice"]),
        ("image_id,fold\na,0\nb,first\nc,0\nd,1\n", ["line 3: fold 'first' is not a number from 0 up"]),
        ("image_id,fold\na,0\nb,-2\nc,0.5\nd,\n", ["line 3: fold '-2'", "line 4: fold '0.5'", "line 5: fold ''"]),
        ("image_id,fold\na,0\nb,2\nc,0\nd,2\n", ["no validation photos in fold 1", "from 0 without gaps"]),
        ("image_id,fold\na,1\nb,2\nc,1\nd,2\n", ["no validation photos in fold 0", "from 0 without gaps"]),
        ("image_id,fold\na,0\nb,1000000000000\nc,0\nd,0\n", ["no validation photos in fold 1"]),
        ("image_id,fold\na,0\nb,0\nc,0\nd,0\n", ["only one fold"]),
        ("photo,fold\na,0\n", ["needs the columns image_id (or sample_id_prefix) and fold"]),
        ("image_id,part\na,0\n", ["needs the columns image_id (or sample_id_prefix) and fold"]),
        ("image_id,fold\na,0,9\nb,1,9\n", ["more values than its header has columns"]),
        ("image_id,fold\n", ["photo a of the label table has no fold"]),
        ("", ["is not a readable CSV table"]),
        ('image_id,fold\n"a,0\n', ["is not a readable CSV table"]),
    ],
)
def test_a_fold_file_that_does_not_fit_is_refused_with_its_name_and_why(tmp_path, text, told):
    path = fold_file(tmp_path, text)
    with pytest.raises(FoldError) as caught:
        read_folds(path, IDS)
    assert str(path) in str(caught.value)
    assert all(part in str(caught.value) for part in told), caught.value


def test_all_problems_of_a_fold_file_come_at_once(tmp_path):
    with pytest.raises(FoldError) as caught:
        read_folds(fold_file(tmp_path, "image_id,fold\na,x\na,0\nz,1\nb,1\n"), IDS)
    assert "has 5 problem(s); correct it" in str(caught.value)


def test_fold_minus_one_is_held_out_never(tmp_path):
    folds = read_folds(fold_file(tmp_path, "image_id,fold\na,-1\nb,1\nc,0\nd,-1.0\n"), IDS)
    assert folds.to_dict() == {"c": 0, "a": NEVER_HELD_OUT, "b": 1, "d": NEVER_HELD_OUT} and NEVER_HELD_OUT == -1
    assert fold_numbers(folds) == [0, 1]


def test_one_split_is_written_with_the_folds_minus_one_and_zero(tmp_path):
    folds = read_folds(fold_file(tmp_path, "image_id,fold\na,-1\nb,0\nc,0\nd,-1\n"), IDS)
    assert fold_numbers(folds) == [0]
    split = Split(fold=0, folds=folds)
    assert split.held_out(IDS).tolist() == [True, False, True, False] and split.training_count == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image_id,fold\na,-1\nb,-1\nc,-1\nd,-1\n", "leaves no photo to validate on"),
        ("image_id,fold\na,-1\nb,1\nc,1\nd,-1\n", "leaves no validation photos in fold 0"),
        ("image_id,fold\na,-1\nb,-1.5\nc,0\nd,0\n", "line 3: fold '-1.5'"),
    ],
)
def test_a_fold_file_with_nothing_to_validate_on_is_refused(tmp_path, text, told):
    with pytest.raises(FoldError) as caught:
        read_folds(fold_file(tmp_path, text), IDS)
    assert told in str(caught.value)


FOLDS = pd.Series({"a": 0, "b": 1, "c": NEVER_HELD_OUT, "d": 1})


@pytest.mark.parametrize(
    ("fold", "held_out", "training"), [(0, ["a"], 3), (1, ["b", "d"], 2)], ids=["fold 0", "fold 1"]
)
def test_what_a_split_does_not_hold_out_it_learns_from(fold, held_out, training):
    split = Split(fold=fold, folds=FOLDS)
    names = pd.Series(["d", "c", "b", "a"])
    assert sorted(names[split.held_out(names)]) == held_out
    assert split.training_count == training


def test_items_outside_of_the_folds_are_an_error_and_never_trained_on():
    with pytest.raises(KeyError):
        Split(fold=0, folds=FOLDS).held_out(pd.Series(["a", "x"]))


def test_copies_in_one_fold_are_no_leak():
    require_one_fold_per_content(FOLDS, {"a": "1", "b": "2", "c": "3", "d": "2"})
    require_one_fold_per_content(FOLDS, {"a": "1", "b": "2", "c": "3", "d": "4", "of no item": "1"})


def test_copies_in_different_folds_are_named_with_their_folds():
    """Also one that is always trained on, and of which a copy is held out."""
    with pytest.raises(FoldError) as caught:
        require_one_fold_per_content(FOLDS, {"a": "1", "b": "2", "c": "1", "d": "2"})
    assert str(caught.value).splitlines()[1:] == ["  a (fold 0) and c (fold -1)"]
    assert "data.fold_csv" in str(caught.value)
    with pytest.raises(FoldError) as caught:
        require_one_fold_per_content(FOLDS, dict.fromkeys("abcd", "1"))
    assert str(caught.value).splitlines()[1:] == ["  a (fold 0) and b (fold 1) and c (fold -1) and d (fold 1)"]
