"""Features of lesions against values worked by hand; what may not be used; what a lesion's features depend on."""

import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from biomass_pl.errors import ConfigError, DataError
from biomass_pl.lesion.features import (
    CATEGORY_COLUMNS,
    EPSILON,
    LEAK_COLUMNS,
    NUMERIC_COLUMNS,
    ROW_FEATURES,
    lesion_features,
)

HUE, AREA, SITE = "tbp_lv_H", "tbp_lv_areaMM2", "anatom_site_general"
ROUNDING = 1e-6  # derived features are float32

TEST_HEADER = (
    "isic_id,patient_id,age_approx,sex,anatom_site_general,clin_size_long_diam_mm,image_type,tbp_tile_type,tbp_lv_A,"
    "tbp_lv_Aext,tbp_lv_B,tbp_lv_Bext,tbp_lv_C,tbp_lv_Cext,tbp_lv_H,tbp_lv_Hext,tbp_lv_L,tbp_lv_Lext,tbp_lv_areaMM2,"
    "tbp_lv_area_perim_ratio,tbp_lv_color_std_mean,tbp_lv_deltaA,tbp_lv_deltaB,tbp_lv_deltaL,tbp_lv_deltaLB,"
    "tbp_lv_deltaLBnorm,tbp_lv_eccentricity,tbp_lv_location,tbp_lv_location_simple,tbp_lv_minorAxisMM,"
    "tbp_lv_nevi_confidence,tbp_lv_norm_border,tbp_lv_norm_color,tbp_lv_perimeterMM,tbp_lv_radial_color_std_max,"
    "tbp_lv_stdL,tbp_lv_stdLExt,tbp_lv_symm_2axis,tbp_lv_symm_2axis_angle,tbp_lv_x,tbp_lv_y,tbp_lv_z,attribution,"
    "copyright_license"
)

EASY = {
    **{"age_approx": 40, "clin_size_long_diam_mm": 4, "minorAxisMM": 2, "areaMM2": 8, "perimeterMM": 16},
    **{"H": 50, "Hext": 60, "L": 30, "Lext": 40, "A": 20, "Aext": 15, "B": 27, "Bext": 25, "C": 33, "Cext": 29},
    **{"deltaA": 2, "deltaB": 3, "deltaL": -6, "deltaLB": 6, "deltaLBnorm": 5, "stdL": 10, "stdLExt": 4},
    **{"norm_border": 6, "norm_color": 2, "eccentricity": 0.7, "symm_2axis": 0.3, "symm_2axis_angle": 20},
    **{"color_std_mean": 1, "radial_color_std_max": 0.5, "area_perim_ratio": 19, "nevi_confidence": 80},
    **{"x": 3, "y": 4, "z": 12},
}
"""Measurements of one lesion that make its features easy to work out; names without `tbp_lv_`."""

BY_HAND = {
    "minor_axis_to_diameter": 0.5,
    "area_to_squared_perimeter": 0.03125,
    "area_to_perimeter": 0.5,
    "perimeter_to_area": 2,
    "perimeter_to_circle": 1.5957691,  # 16 / sqrt(4 pi 8)
    "log_area": 2.1972246,  # ln 9
    "hue_contrast": 10,
    "luminance_contrast": 10,
    "absolute_contrast": 17,
    "color_contrast": 7,  # sqrt(4 + 9 + 36)
    "color_contrast_rms": 4.0414519,  # 7 / sqrt 3
    "color_contrast_mean": -0.3333333,
    "color_contrast_total": 4,
    "contrast_plus_color": 7,
    "hue_mean": 55,
    "hue_times_color_std": 50,
    "luminance_std_to_surround": 0.25,
    "luminance_std_surround_harmonic": 8,
    "color_std_to_radial_std": 1.99996,  # 1 / .50001
    "color_std_to_surround_std": 0.25,
    "eccentricity_times_color_std": 0.7,
    "border_plus_asymmetry": 6.3,
    "border_times_asymmetry": 1.8,
    "border_asymmetry_harmonic": 0.2857143,  # 1.8 / 6.3
    "border_times_color": 12,
    "border_color_harmonic": 1.5,
    "border_color_eccentricity_mean": 2.9,
    "border_asymmetry_shape_total": 6.33125,
    "color_shape_asymmetry_mean": 6.7666667,
    "shape_color_asymmetry_mean": 5.5,
    "asymmetry_times_perimeter": 4.8,
    "asymmetry_times_radial_std": 0.15,
    "diameter_to_contrast": 0.8,
    "diameter_times_age": 160,
    "diameter_to_age": 0.1,
    "diameter_age_length": 40.1995025,  # sqrt 1616
    "nevi_confidence_to_age": 2,
    "age_times_diameter_times_asymmetry": 48,
    "age_times_area_times_asymmetry": 96,
    "position_distance": 13,
    "position_angle": 0.9272952,  # atan 4/3
    "area_times_distance": 104,
}


def lesions(*patients: str, **columns: list) -> pd.DataFrame:
    ids = [f"ISIC_{number:07d}" for number in range(len(patients))]
    return pd.DataFrame({"isic_id": ids, "patient_id": list(patients), **columns})


def metadata_row(**changed) -> dict:
    values = {"isic_id": "ISIC_0015657", "patient_id": "IP_6074337", "sex": "male", "tbp_tile_type": "3D: XP"}
    values |= {"tbp_lv_location": "Torso Back Top Third", "tbp_lv_location_simple": "Torso Back"}
    values |= {
        SITE: "posterior torso",
        "image_type": "TBP tile: close-up",
        "attribution": "a",
        "copyright_license": "b",
    }
    for name, value in EASY.items():
        values[name if name in NUMERIC_COLUMNS else f"tbp_lv_{name}"] = float(value)
    return {column: changed.get(column, values[column]) for column in TEST_HEADER.split(",")}


def three_test_rows() -> pd.DataFrame:
    """As the test metadata that comes with the competition: three lesions, each of its own patient."""
    return pd.DataFrame([metadata_row(isic_id=f"ISIC_{n}", patient_id=f"IP_{n}", tbp_lv_H=50.0 + n) for n in range(3)])


def test_z_and_rank_within_a_patient():
    features = lesion_features(lesions("a", "a", "a", tbp_lv_H=[1, 2, 6]))
    spread = 7**0.5 + EPSILON  # squares 4, 1 and 9 around the mean 3, over 2
    assert features["tbp_lv_H_patient_z"].tolist() == pytest.approx([-2 / spread, -1 / spread, 3 / spread], abs=1e-7)
    assert features["tbp_lv_H_patient_z"].tolist() == pytest.approx([-0.75593, -0.37796, 1.13389], abs=1e-5)
    assert features["tbp_lv_H_patient_rank"].tolist() == pytest.approx([1 / 3, 2 / 3, 1], abs=ROUNDING)


def test_equal_values_share_their_mean_rank_and_do_not_differ():
    features = lesion_features(lesions("a", "a", "a", "a", tbp_lv_H=[5, 5, 5, 5]))
    assert features["tbp_lv_H_patient_z"].tolist() == [0, 0, 0, 0]
    assert features["tbp_lv_H_patient_rank"].tolist() == [0.625] * 4


def test_the_only_lesion_of_a_patient_is_like_its_mean():
    features = lesion_features(lesions("a", "b", "b", tbp_lv_H=[50, 1, 3], anatom_site_general=["back"] * 3))
    assert features.loc[0, ["tbp_lv_H_patient_z", "tbp_lv_H_site_z", "tbp_lv_H_patient_rank"]].tolist() == [0, 0, 1]
    assert features["patient_lesion_count"].tolist() == [1, 2, 2]


def test_a_missing_value_stays_missing_and_counts_for_no_other():
    features = lesion_features(lesions("a", "a", "a", "b", "b", tbp_lv_H=[1, np.nan, 3, np.nan, 7]))
    root = 2**0.5 + EPSILON
    expected = [-1 / root, np.nan, 1 / root, np.nan, 0]
    assert features["tbp_lv_H_patient_z"].tolist() == pytest.approx(expected, abs=ROUNDING, nan_ok=True)
    expected = [0.5, np.nan, 1, np.nan, 1]
    assert features["tbp_lv_H_patient_rank"].tolist() == pytest.approx(expected, abs=0, nan_ok=True)


def test_site_z_compares_within_patient_and_site():
    sites = ["back", "back", "back", "arm", None, "back"]
    table = lesions("a", "a", "a", "a", "a", "b", tbp_lv_H=[1, 2, 6, 40, 9, 70], anatom_site_general=sites)
    site_z = lesion_features(table)["tbp_lv_H_site_z"].tolist()
    assert site_z == pytest.approx([-0.75593, -0.37796, 1.13389, 0, np.nan, 0], abs=1e-5, nan_ok=True)


def test_area_is_summed_over_the_patient():
    features = lesion_features(lesions("a", "b", "a", "a", "c", tbp_lv_areaMM2=[1, 10, 2.5, np.nan, np.nan]))
    assert features["patient_area_sum"].tolist() == pytest.approx([3.5, 10, 3.5, 3.5, np.nan], nan_ok=True)
    assert features["patient_lesion_count"].tolist() == [3, 1, 3, 3, 1]


def test_ugly_duckling_sums_up_the_numeric_columns_of_a_lesion():
    one_odd = [1, 0, 0, 0, 0, 0]  # z of the 1: (5/6) / sqrt(1/6) = 2.0412, of a 0: -0.4082
    table = lesions(*"aaaaaa", tbp_lv_H=one_odd, tbp_lv_Hext=one_odd[::-1], tbp_lv_L=[np.nan] * 6)
    features = lesion_features(table)
    high, low = 2.04124, 0.40825
    assert features["ugly_duckling_max"].tolist() == pytest.approx([high, low, low, low, low, high], abs=1e-4)
    middle = (high + low) / 2
    assert features["ugly_duckling_mean"].tolist() == pytest.approx([middle, low, low, low, low, middle], abs=1e-4)
    assert features["ugly_duckling_count"].tolist() == [1, 0, 0, 0, 0, 1]


def test_row_features_by_hand():
    features = lesion_features(pd.DataFrame([metadata_row()]))
    assert features.loc[0, list(ROW_FEATURES)].to_dict() == pytest.approx(BY_HAND, rel=ROUNDING)


def test_row_features_are_compared_within_the_patient_too():
    features = lesion_features(lesions("a", "a", "a", tbp_lv_H=[11, 22, 36], tbp_lv_Hext=[10, 20, 30]))
    assert features["hue_contrast"].tolist() == [1, 2, 6]
    assert features["hue_contrast_patient_z"].tolist() == pytest.approx([-0.75593, -0.37796, 1.13389], abs=1e-5)
    assert features["hue_contrast_patient_rank"].tolist() == pytest.approx([1 / 3, 2 / 3, 1], abs=ROUNDING)


def test_what_cannot_be_divided_is_missing_in_all_that_follows():
    table = lesions("a", "a", "a", tbp_lv_areaMM2=[8.0, 0.0, 2.0], tbp_lv_perimeterMM=[16.0, 3.0, 2.0])
    features = lesion_features(table)
    assert features["perimeter_to_area"].tolist() == pytest.approx([2, np.nan, 1], nan_ok=True)
    ranks = features["perimeter_to_area_patient_rank"].tolist()
    assert ranks == pytest.approx([1, np.nan, 0.5], nan_ok=True)
    numeric = features.select_dtypes("number").to_numpy(dtype=float)
    assert not np.isinf(numeric).any()


def test_a_ratio_too_large_for_its_type_is_missing():
    table = lesions("a", tbp_lv_areaMM2=[1e-300], tbp_lv_perimeterMM=[1.0])
    assert np.isnan(lesion_features(table).loc[0, "perimeter_to_area"])


def test_a_feature_is_left_out_where_an_input_is():
    table = lesions("a", "a", tbp_lv_H=[1, 2], tbp_lv_areaMM2=[3, 4], sex=["male", None])
    relative = [f"{name}_patient_{kind}" for kind in ("z", "rank") for name in (HUE, AREA, "log_area")]
    summary = ["patient_lesion_count", "patient_area_sum", *(f"ugly_duckling_{n}" for n in ("max", "mean", "count"))]
    assert lesion_features(table).columns.tolist() == [HUE, AREA, "log_area", *relative, *summary, "sex"]


def test_only_chosen_columns_are_used():
    table = three_test_rows()
    chosen = lesion_features(table, columns=[SITE, AREA, HUE])
    assert (
        chosen.columns.tolist() == lesion_features(table[["isic_id", "patient_id", HUE, AREA, SITE]]).columns.tolist()
    )
    assert f"{HUE}_site_z" in chosen and "sex" not in chosen and "hue_contrast" not in chosen


def test_no_usable_column_leaves_the_number_of_lesions():
    assert lesion_features(lesions("a", "a")).to_dict("list") == {"patient_lesion_count": [2, 2]}


def test_categories_are_text_and_missing_where_they_were():
    table = lesions("a", "b", "c", sex=["male", None, "female"], tbp_lv_location=["Left Leg", "Left Leg", np.nan])
    table[SITE] = ["lower extremity", pd.NA, "back"]
    features = lesion_features(table)
    shown = features[["sex", SITE, "tbp_lv_location", "anatom_site_location"]]
    assert shown.where(shown.notna(), "-").to_numpy().tolist() == [
        ["male", "lower extremity", "Left Leg", "lower extremity_Left Leg"],
        ["-", "-", "Left Leg", "-"],
        ["female", "back", "-", "-"],
    ]


def test_a_wholly_missing_category_stays_missing():
    table = lesions("a", "a", tbp_lv_H=[1, 2], tbp_lv_location=["Left Leg"] * 2, anatom_site_general=[np.nan] * 2)
    assert lesion_features(table)[[SITE, "anatom_site_location", "tbp_lv_H_site_z"]].isna().all(axis=None)


def test_all_columns_of_the_test_metadata():
    table = three_test_rows()
    assert table.shape == (3, 44)
    features = lesion_features(table)
    base = [*NUMERIC_COLUMNS, *ROW_FEATURES]
    kinds = ("", "_patient_z", "_patient_rank", "_site_z")
    assert features.columns[: 4 * len(base)].tolist() == [name + kind for kind in kinds for name in base]
    assert features.shape == (3, 315) and features.columns.is_unique
    assert features[HUE].tolist() == [50, 51, 52]
    relative = [name + "_patient_z" for name in base] + [name + "_site_z" for name in base]
    assert (features[relative] == 0).all(axis=None)
    assert not {"attribution", "image_type", "copyright_license", "isic_id", "patient_id"} & set(features)


def test_training_and_test_tables_give_the_same_columns():
    test = three_test_rows()
    leaks = dict.fromkeys(LEAK_COLUMNS - {"target"}, 1.0)
    training = test[test.columns[::-1]].assign(target=[0, 1, 0], **leaks)
    pd.testing.assert_frame_equal(lesion_features(training), lesion_features(test))


def test_the_interface_names_all_columns():
    assert len(set(NUMERIC_COLUMNS)) == 34 and len(LEAK_COLUMNS) == 11
    unused = {"isic_id", "patient_id", "image_type", "attribution", "copyright_license"}
    assert {*NUMERIC_COLUMNS, *CATEGORY_COLUMNS} == set(TEST_HEADER.split(",")) - unused
    assert BY_HAND.keys() == ROW_FEATURES.keys()


@pytest.mark.parametrize("column", sorted(LEAK_COLUMNS))
def test_a_column_known_in_training_only_is_refused(column):
    table = lesions("a", tbp_lv_H=[1]).assign(**{column: 1.0})
    with pytest.raises(ConfigError, match=f"'{column}' is known in training only and gives the answer away"):
        lesion_features(table, columns=[HUE, column])


@pytest.mark.parametrize("column", ["attribution", "tbp_lv_h"])
def test_an_unknown_column_is_named(column):
    with pytest.raises(ConfigError, match=f"No feature is made of a column '{column}'"):
        lesion_features(lesions("a", attribution=["b"]), columns=[column])


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="has no column 'tbp_lv_L'"):
        lesion_features(lesions("a", tbp_lv_H=[1]), columns=[HUE, "tbp_lv_L"])


@pytest.mark.parametrize("value", ["NA", "nan", "12,5", "", np.inf, "inf"])
def test_a_value_that_is_no_number_is_named_with_its_lesion(value):
    table = lesions("a", "a", "a", "b", tbp_lv_H=pd.Series([None, 1.5, value, value], dtype=object))
    message = rf"Column tbp_lv_H, lesion ISIC_0000002: '{value}' is not a finite number; so for 2 lesion\(s\)"
    with pytest.raises(DataError, match=message):
        lesion_features(table)


def test_a_category_that_is_no_text_is_named_with_its_lesion():
    with pytest.raises(DataError, match=r"Column sex, lesion ISIC_0000001: '1\.0' is not text"):
        lesion_features(lesions("a", "a", sex=[np.nan, 1.0]))


def test_a_lesion_without_patient_is_named():
    table = lesions("a", "b", "c").assign(patient_id=["a", None, np.nan])
    with pytest.raises(DataError, match=r"patient_id is missing for 2 lesion\(s\), the first is ISIC_0000001"):
        lesion_features(table)


@pytest.mark.parametrize("column", ["isic_id", "patient_id"])
def test_a_table_without_lesion_or_patient_is_refused(column):
    with pytest.raises(DataError, match=f"has no column {column}"):
        lesion_features(lesions("a", tbp_lv_H=[1]).drop(columns=column))


def test_rows_index_and_input_are_kept():
    table = lesions("b", "a", "b", tbp_lv_H=[3, 1, 2]).set_axis(["z", "x", "x"])
    before = table.copy()
    features = lesion_features(table)
    assert features.index.tolist() == ["z", "x", "x"] and features[HUE].tolist() == [3, 1, 2]
    pd.testing.assert_frame_equal(table, before)


def test_an_empty_table_has_the_columns_of_a_full_one():
    table = three_test_rows()
    empty = lesion_features(table.iloc[:0])
    assert len(empty) == 0 and empty.columns.equals(lesion_features(table).columns)


measured = st.one_of(st.none(), st.floats(min_value=-1e3, max_value=1e3))
measurements = st.tuples(measured, measured, measured, st.sampled_from(["back", "arm", None]))


@st.composite
def tables(draw) -> pd.DataFrame:
    """Lesions of three patients at two sites, values of any size and some missing."""
    rows = draw(st.lists(measurements, min_size=1, max_size=12))
    names = draw(st.lists(st.sampled_from("abc"), min_size=len(rows), max_size=len(rows)))
    values = pd.DataFrame(rows, columns=[HUE, "tbp_lv_Hext", AREA, SITE])
    return lesions(*names).join(values.astype({HUE: float, "tbp_lv_Hext": float, AREA: float}))


def long_fractions() -> pd.DataFrame:
    """Sums of these depend on the order in their last bits; patient a alone has missing values."""
    generator = np.random.default_rng(0)
    values = generator.lognormal(0, 3, (3, 60))
    values[:, ::9] = np.nan
    sites = generator.choice(["back", "arm"], 60)
    return lesions(*"abc" * 20, **dict(zip([HUE, "tbp_lv_Hext", AREA], values, strict=True)), anatom_site_general=sites)


@settings(max_examples=10, deadline=None)
@given(tables(), st.randoms(use_true_random=False))
@example(long_fractions(), random.Random(0))
def test_the_order_of_the_rows_changes_no_bit(table, source):
    order = list(range(len(table)))
    source.shuffle(order)
    pd.testing.assert_frame_equal(
        lesion_features(table.iloc[order]), lesion_features(table).iloc[order], check_exact=True
    )


@settings(max_examples=10, deadline=None)
@given(tables())
@example(long_fractions())
def test_a_patient_alone_has_the_features_it_has_among_others(table):
    features = lesion_features(table)
    for _, own in table.groupby("patient_id"):
        pd.testing.assert_frame_equal(lesion_features(own), features.loc[own.index], check_exact=True)
