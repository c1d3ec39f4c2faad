"""Fold strategies: what is kept together, what is refused."""

from typing import get_args

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.data.splits import read_folds
from biomass_pl.errors import FoldError
from biomass_pl.pasture.folds import Strategy, make_folds
from biomass_pl.pasture.tables import read_labels
from biomass_pl.pasture.targets import TARGETS

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


def test_folds_that_were_made_read_back_the_same(tmp_path):
    folds = make_folds(PASTURE, strategy="group_date", num_folds=4, seed=0)
    folds.rename_axis("sample_id_prefix").reset_index().to_csv(tmp_path / "folds.csv", index=False)
    pd.testing.assert_series_equal(read_folds(tmp_path / "folds.csv", PASTURE["image_id"]), folds, check_dtype=False)


def test_photos_without_a_total_are_spread_over_the_folds_as_a_stratum_of_their_own():
    table = PASTURE.assign(Dry_Total_g=PASTURE["Dry_Total_g"].where(PASTURE.index % 4 != 0))
    folds = make_folds(table, strategy="stratified", num_folds=3, seed=1)
    unknown = folds[table["Dry_Total_g"].isna().to_numpy()]
    assert unknown.value_counts().tolist() == [6, 6, 6]


def test_where_no_total_is_known_the_target_that_most_photos_have_is_spread():
    both = PASTURE.assign(**{target: float("nan") for target in TARGETS if target != "Dry_Total_g"})
    green = both.rename(columns={"Dry_Total_g": "Dry_Green_g", "Dry_Green_g": "Dry_Total_g"})
    assert make_folds(green, strategy="stratified", num_folds=3, seed=1).equals(
        make_folds(both, strategy="stratified", num_folds=3, seed=1)
    )
