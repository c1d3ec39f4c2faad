"""Fold strategies and fold files: what is kept together, what is refused."""

from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.data.splits import read_folds, split_folds
from biomass_pl.errors import FoldError
from biomass_pl.pasture.folds import Strategy, make_folds
from biomass_pl.pasture.tables import read_labels

STRATEGIES = get_args(Strategy)
GROUPED = {
    "group_date": lambda table: table["Sampling_Date"],
    "group_site": lambda table: table["State"] + table["Sampling_Date"],
    "group_month": lambda table: table["Sampling_Date"].str[5:7],
    "group_date_state": lambda table: table["Sampling_Date"].str[5:7],
    "group_date_state_bin": lambda table: table["Sampling_Date"].str[5:7],
}
"""What must be in one fold only, per strategy."""


def labels(dates, states, totals):
    return pd.DataFrame(
        {
            "image_id": [f"p{n:03}" for n in range(len(dates))],
            "Sampling_Date": dates,
            "State": states,
            "Dry_Total_g": totals,
        }
    )


PASTURE = labels(
    [f"{2014 + n % 2}-{1 + n % 9:02}-{1 + n % 4:02}" for n in range(72)],
    [("NSW", "Tas", "Vic", "WA")[n % 5 % 4] for n in range(72)],
    [float(n * 37 % 101) for n in range(72)],
)
"""36 dates in nine months of two years, in four states."""


@st.composite
def pastures(draw):
    """Tables with at least four months, each with two dates and enough photos for every stratum."""
    months = draw(st.lists(st.integers(1, 12), min_size=4, max_size=8, unique=True))
    days = draw(st.lists(st.integers(1, 28), min_size=2, max_size=3, unique=True))
    dates = [f"2015-{month:02}-{day:02}" for month in months for day in days for _ in range(3)]
    count = len(dates)
    states = draw(st.lists(st.sampled_from(["Tas", "Vic"]), min_size=count, max_size=count))
    totals = draw(st.lists(st.floats(0, 180, width=32), min_size=count, max_size=count))
    return labels(dates, states, totals)


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=15, deadline=None)
@given(table=pastures(), num_folds=st.integers(2, 3), seed=st.integers(0, 2**32 - 1), order=st.integers(0, 99))
def test_every_photo_is_in_one_fold_and_groups_stay_whole_in_any_row_order(strategy, table, num_folds, seed, order):
    folds = make_folds(table, strategy=strategy, num_folds=num_folds, seed=seed)
    assert sorted(folds.index) == table["image_id"].tolist()
    assert set(folds) == set(range(num_folds))
    if strategy in GROUPED:
        held_out = folds.loc[table["image_id"]].to_numpy()
        assert pd.Series(held_out).groupby(GROUPED[strategy](table).to_numpy()).nunique().eq(1).all()
    shuffled = table.sample(frac=1, random_state=order)
    pd.testing.assert_series_equal(make_folds(shuffled, strategy=strategy, num_folds=num_folds, seed=seed), folds)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_seed_gives_the_same_folds_and_another_seed_others(strategy):
    first, again, other = (make_folds(PASTURE, strategy=strategy, num_folds=3, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_series_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("strategy", ["group_month", "group_date_state", "group_date_state_bin"])
def test_nine_months_can_fill_nine_folds_with_one_month_each(strategy):
    folds = make_folds(PASTURE, strategy=strategy, num_folds=9, seed=0)
    months = PASTURE["Sampling_Date"].str[5:7].to_numpy()
    assert folds.groupby(months).nunique().eq(1).all() and folds.nunique() == 9


def test_one_date_in_two_states_is_one_group_by_date_and_two_by_site():
    table = labels(["2015-01-01"] * 16, ["NSW", "Tas"] * 8, [float(n) for n in range(16)])
    with pytest.raises(FoldError, match="finds 1 groups for 2 folds"):
        make_folds(table, strategy="group_date", num_folds=2, seed=0)
    folds = make_folds(table, strategy="group_site", num_folds=2, seed=0)
    assert folds.loc[table["image_id"][::2]].nunique() == folds.loc[table["image_id"][1::2]].nunique() == 1


def test_one_month_of_two_years_is_one_group():
    table = labels(["2014-05-01", "2015-05-20"] * 8, ["Tas"] * 16, [float(n) for n in range(16)])
    with pytest.raises(FoldError, match="finds 1 groups for 2 folds"):
        make_folds(table, strategy="group_month", num_folds=2, seed=0)


def test_stratified_folds_hold_each_quartile_in_equal_shares():
    table = labels(["2015-01-01"] * 40, ["Tas"] * 40, [float(n) for n in range(40)])
    folds = make_folds(table, strategy="stratified", num_folds=5, seed=0).to_numpy()
    for quartile in range(4):
        assert sorted(folds[10 * quartile : 10 * quartile + 10]) == sorted([0, 1, 2, 3, 4] * 2)


def test_state_strata_spread_the_states():
    months = [f"2015-{1 + n // 4:02}-01" for n in range(32)]
    table = labels(months, ["Tas" if n < 16 else "WA" for n in range(32)], [float(n) for n in range(32)])
    folds = make_folds(table, strategy="group_date_state", num_folds=4, seed=0)
    held_out = folds.loc[table["image_id"]].to_numpy()
    assert all(set(table["State"][held_out == fold]) == {"Tas", "WA"} for fold in range(4))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_totals_are_one_stratum(strategy):
    table = PASTURE.assign(Dry_Total_g=5.0)
    assert set(make_folds(table, strategy=strategy, num_folds=3, seed=0)) == {0, 1, 2}


@pytest.mark.parametrize("strategy", ["stratified", "random"])
def test_strategies_without_groups_need_no_metadata(strategy):
    table = PASTURE[["image_id", "Dry_Total_g"]]
    assert set(make_folds(table, strategy=strategy, num_folds=3, seed=0)) == {0, 1, 2}


def test_the_rendered_sample_has_five_folds_by_every_strategy_it_has_groups_for(rendered):
    table = read_labels(rendered)
    for strategy in ("group_date", "group_site", "stratified", "random"):
        assert sorted(make_folds(table, strategy=strategy, num_folds=5, seed=42).unique()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("strategy", GROUPED)
def test_more_folds_than_groups_are_refused_with_the_most_there_can_be(strategy):
    groups = GROUPED[strategy](PASTURE).nunique()
    with pytest.raises(FoldError) as caught:
        make_folds(PASTURE, strategy=strategy, num_folds=groups + 1, seed=0)
    assert f"cv_strategy {strategy} finds {groups} groups for {groups + 1} folds" in str(caught.value)
    assert f"Lower data.num_folds to {groups} at most" in str(caught.value)


@pytest.mark.parametrize("strategy", ["stratified", "random"])
def test_more_folds_than_photos_are_refused(strategy):
    with pytest.raises(FoldError, match=r"finds 72 photos for 73 folds. Lower data.num_folds to 72"):
        make_folds(PASTURE, strategy=strategy, num_folds=73, seed=0)


def test_more_folds_than_the_strata_have_photos_are_refused_with_what_to_do():
    with pytest.raises(FoldError) as caught:
        make_folds(PASTURE, strategy="stratified", num_folds=40, seed=0)
    assert "cv_strategy stratified cannot make 40 folds of 72 photos" in str(caught.value)
    assert "Lower data.num_folds" in str(caught.value)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("num_folds", [1, 0, -2])
def test_fewer_than_two_folds_are_refused(strategy, num_folds):
    with pytest.raises(FoldError, match=f"data.num_folds is {num_folds}; cross-validation needs two or more"):
        make_folds(PASTURE, strategy=strategy, num_folds=num_folds, seed=0)


@pytest.mark.parametrize(
    ("strategy", "column"),
    [(strategy, "Sampling_Date") for strategy in GROUPED]
    + [(strategy, "State") for strategy in ("group_site", "group_date_state", "group_date_state_bin")],
)
def test_missing_or_empty_metadata_is_refused_by_name_and_never_replaced(strategy, column):
    with pytest.raises(FoldError) as caught:
        make_folds(PASTURE.drop(columns=column), strategy=strategy, num_folds=3, seed=0)
    assert f"cv_strategy {strategy} needs the column {column}" in str(caught.value)
    assert "choose data.cv_strategy stratified" in str(caught.value)
    table = PASTURE.copy()
    table.loc[[3, 5], column] = None
    with pytest.raises(FoldError) as caught:
        make_folds(table, strategy=strategy, num_folds=3, seed=0)
    assert f"needs {column} for every photo; 2 lack it. Fill it in" in str(caught.value)
    assert "p003" in str(caught.value) and "p005" in str(caught.value)


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


def test_folds_that_were_made_read_back_the_same(tmp_path):
    folds = make_folds(PASTURE, strategy="group_date", num_folds=4, seed=0)
    folds.rename_axis("sample_id_prefix").reset_index().to_csv(tmp_path / "folds.csv", index=False)
    pd.testing.assert_series_equal(read_folds(tmp_path / "folds.csv", PASTURE["image_id"]), folds, check_dtype=False)


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
        ("image_id,fold\na,0\nb,-1\nc,0.5\nd,\n", ["line 3: fold '-1'", "line 4: fold '0.5'", "line 5: fold ''"]),
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
