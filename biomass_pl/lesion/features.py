"""Tabular features of skin lesions: measurements, their combinations, and how a lesion differs within its patient.

Every feature of a lesion follows from the lesions of the same patient in the same table, never from a label. The
training and the test table are therefore computed separately.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomass_pl.errors import ConfigError, DataError

Values = NDArray[np.float64]

LEAK_COLUMNS = frozenset({"target", "lesion_id", "mel_mitotic_index", "mel_thick_mm", "tbp_lv_dnn_lesion_confidence"})
LEAK_COLUMNS |= {f"iddx_{level}" for level in ("full", 1, 2, 3, 4, 5)}
"""Columns of the training metadata that the test lacks: the label, and what was found out after it."""

NUMERIC_COLUMNS = (
    "age_approx",
    "clin_size_long_diam_mm",
    *("tbp_lv_A", "tbp_lv_Aext", "tbp_lv_B", "tbp_lv_Bext", "tbp_lv_C", "tbp_lv_Cext"),
    *("tbp_lv_H", "tbp_lv_Hext", "tbp_lv_L", "tbp_lv_Lext", "tbp_lv_areaMM2", "tbp_lv_area_perim_ratio"),
    *("tbp_lv_color_std_mean", "tbp_lv_deltaA", "tbp_lv_deltaB", "tbp_lv_deltaL", "tbp_lv_deltaLB"),
    *("tbp_lv_deltaLBnorm", "tbp_lv_eccentricity", "tbp_lv_minorAxisMM", "tbp_lv_nevi_confidence"),
    *("tbp_lv_norm_border", "tbp_lv_norm_color", "tbp_lv_perimeterMM", "tbp_lv_radial_color_std_max"),
    *("tbp_lv_stdL", "tbp_lv_stdLExt", "tbp_lv_symm_2axis", "tbp_lv_symm_2axis_angle"),
    *("tbp_lv_x", "tbp_lv_y", "tbp_lv_z"),
)

_SITE = "anatom_site_general"
_LOCATION = "tbp_lv_location"
_AREA = "tbp_lv_areaMM2"

CATEGORY_COLUMNS = ("sex", "tbp_tile_type", _LOCATION, "tbp_lv_location_simple", _SITE)
"""Without `attribution`: lesions of the hidden test come from sites that the training lacks."""

EPSILON = 1e-5
"""Keeps a division finite where the lesions of a patient do not differ."""

ODD_Z = 2.0
"""A measurement further than this from its patient's mean, in standard deviations, counts as odd."""


def _total(*values: Values) -> Values:
    return reduce(operator.add, values)


def _mean(*values: Values) -> Values:
    return _total(*values) / len(values)


def _product(*values: Values) -> Values:
    return reduce(operator.mul, values)


def _length(*values: Values) -> Values:
    return _total(*(value**2 for value in values)) ** 0.5


def _gap(inside: Values, outside: Values) -> Values:
    return np.abs(inside - outside)


def _harmonic(one: Values, other: Values) -> Values:
    return one * other / (one + other)


class RowFeature(NamedTuple):
    """A feature that needs one lesion only.

    Attributes:
        formula: Takes the inputs as float64 arrays with one value per lesion, in their order.
        inputs: `age`, `diameter`, or a `tbp_lv_` column without that prefix.
    """

    formula: Callable[..., Values]
    inputs: tuple[str, ...]


# symm_2axis is higher for less symmetric lesions, so it stands for asymmetry.
ROW_FEATURES: Mapping[str, RowFeature] = {
    "minor_axis_to_diameter": RowFeature(np.divide, ("minorAxisMM", "diameter")),
    "area_to_squared_perimeter": RowFeature(lambda area, perimeter: area / perimeter**2, ("areaMM2", "perimeterMM")),
    "area_to_perimeter": RowFeature(np.divide, ("areaMM2", "perimeterMM")),
    "perimeter_to_area": RowFeature(np.divide, ("perimeterMM", "areaMM2")),
    "perimeter_to_circle": RowFeature(
        lambda perimeter, area: perimeter / (2 * math.pi * np.sqrt(area / math.pi)), ("perimeterMM", "areaMM2")
    ),
    "log_area": RowFeature(np.log1p, ("areaMM2",)),
    "hue_contrast": RowFeature(_gap, ("H", "Hext")),
    "luminance_contrast": RowFeature(_gap, ("L", "Lext")),
    "absolute_contrast": RowFeature(
        lambda *colors: _gap(*colors[:2]) + _gap(*colors[2:4]) + _gap(*colors[4:]),
        ("L", "Lext", "A", "Aext", "B", "Bext"),
    ),
    "color_contrast": RowFeature(_length, ("deltaA", "deltaB", "deltaL")),
    "color_contrast_rms": RowFeature(lambda *deltas: _length(*deltas) / math.sqrt(3), ("deltaA", "deltaB", "deltaL")),
    "color_contrast_mean": RowFeature(_mean, ("deltaA", "deltaB", "deltaL")),
    "color_contrast_total": RowFeature(_total, ("deltaA", "deltaB", "deltaL", "deltaLBnorm")),
    "contrast_plus_color": RowFeature(_total, ("deltaLBnorm", "norm_color")),
    "hue_mean": RowFeature(_mean, ("H", "Hext")),
    "hue_times_color_std": RowFeature(_product, ("H", "color_std_mean")),
    "luminance_std_to_surround": RowFeature(np.divide, ("stdL", "Lext")),
    "luminance_std_surround_harmonic": RowFeature(_harmonic, ("stdL", "Lext")),
    "color_std_to_radial_std": RowFeature(
        lambda color, radial: color / (radial + EPSILON), ("color_std_mean", "radial_color_std_max")
    ),
    "color_std_to_surround_std": RowFeature(np.divide, ("color_std_mean", "stdLExt")),
    "eccentricity_times_color_std": RowFeature(_product, ("eccentricity", "color_std_mean")),
    "border_plus_asymmetry": RowFeature(_total, ("norm_border", "symm_2axis")),
    "border_times_asymmetry": RowFeature(_product, ("norm_border", "symm_2axis")),
    "border_asymmetry_harmonic": RowFeature(_harmonic, ("norm_border", "symm_2axis")),
    "border_times_color": RowFeature(_product, ("norm_border", "norm_color")),
    "border_color_harmonic": RowFeature(_harmonic, ("norm_border", "norm_color")),
    "border_color_eccentricity_mean": RowFeature(_mean, ("norm_border", "norm_color", "eccentricity")),
    "border_asymmetry_shape_total": RowFeature(
        lambda border, asymmetry, area, perimeter: border + asymmetry + area / perimeter**2,
        ("norm_border", "symm_2axis", "areaMM2", "perimeterMM"),
    ),
    "color_shape_asymmetry_mean": RowFeature(_mean, ("color_std_mean", "area_perim_ratio", "symm_2axis")),
    "shape_color_asymmetry_mean": RowFeature(_mean, ("area_perim_ratio", "eccentricity", "norm_color", "symm_2axis")),
    "asymmetry_times_perimeter": RowFeature(_product, ("symm_2axis", "perimeterMM")),
    "asymmetry_times_radial_std": RowFeature(_product, ("symm_2axis", "radial_color_std_max")),
    "diameter_to_contrast": RowFeature(np.divide, ("diameter", "deltaLBnorm")),
    "diameter_times_age": RowFeature(_product, ("diameter", "age")),
    "diameter_to_age": RowFeature(np.divide, ("diameter", "age")),
    "diameter_age_length": RowFeature(_length, ("diameter", "age")),
    "nevi_confidence_to_age": RowFeature(np.divide, ("nevi_confidence", "age")),
    "age_times_diameter_times_asymmetry": RowFeature(_product, ("age", "diameter", "symm_2axis")),
    "age_times_area_times_asymmetry": RowFeature(_product, ("age", "areaMM2", "symm_2axis")),
    "position_distance": RowFeature(_length, ("x", "y", "z")),
    "position_angle": RowFeature(np.arctan2, ("y", "x")),
    "area_times_distance": RowFeature(lambda area, *position: area * _length(*position), ("areaMM2", "x", "y", "z")),
}

_COLUMN_OF_INPUT = {"age": "age_approx", "diameter": "clin_size_long_diam_mm"}
_COLUMN_OF_INPUT |= {column.removeprefix("tbp_lv_"): column for column in NUMERIC_COLUMNS}


def lesion_features(metadata: pd.DataFrame, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Features of all lesions of a table.

    Args:
        metadata: A row per lesion with `isic_id`, `patient_id` and any of `NUMERIC_COLUMNS` and `CATEGORY_COLUMNS`,
            missing values as such. Other columns are not looked at.
        columns: The metadata columns to build from; all usable ones that are there if not given.

    Returns:
        Rows and index as in `metadata`. Columns, in an order that does not depend on that of the table:

        - the numeric columns (float64) and those of `ROW_FEATURES` whose inputs are all there (float32)
        - of each of these, float32: `<feature>_patient_z`, (value - mean) / (sample standard deviation + `EPSILON`)
          over the patient's lesions, 0 for the only one; `<feature>_patient_rank`, in (0, 1], equal values sharing
          their mean rank; and, with the anatomical site, `<feature>_site_z` over the patient's lesions at that site
        - `patient_lesion_count`; with the area, `patient_area_sum` in square millimetres
        - `ugly_duckling_max`, `_mean` and `_count`: the largest and the mean |`_patient_z`| of the numeric columns,
          and how many are above `ODD_Z`
        - the category columns as text, and `anatom_site_location`, site and location in one

        A value is missing where one it needs is missing, or where it would be infinite.

    Raises:
        ConfigError: `columns` names a column that is known in training only, unknown, or not in the table.
        DataError: `isic_id` or a patient is missing, or a value is not of the column's kind.
    """
    _check_lesions(metadata)
    chosen = _chosen_columns(metadata, columns)
    # Sums in floating point depend on their order; in this one, the order of the table does not matter.
    order = metadata[["patient_id", "isic_id"]].reset_index(drop=True).sort_values(["patient_id", "isic_id"]).index
    numbers = _numbers(metadata, [column for column in NUMERIC_COLUMNS if column in chosen]).loc[order]
    categories = _categories(metadata, [column for column in CATEGORY_COLUMNS if column in chosen]).loc[order]
    rowwise = _row_features(numbers)
    patients = metadata["patient_id"].reset_index(drop=True).loc[order]
    relative = _relative_features(pd.concat([numbers, rowwise], axis=1), patients, categories.get(_SITE))
    z = relative[0][[f"{column}_patient_z" for column in numbers]]
    summaries = _summaries(numbers, z, patients)
    parts = [numbers, rowwise.astype(np.float32), *relative, summaries, categories]
    features = pd.concat(parts, axis=1).sort_index()
    features.index = metadata.index
    return features


def _check_lesions(metadata: pd.DataFrame) -> None:
    for column in ("isic_id", "patient_id"):
        if column not in metadata:
            raise DataError(f"The metadata has no column {column}; it has {', '.join(map(str, metadata))}. Add it.")
    unknown = metadata["isic_id"][metadata["patient_id"].isna()]
    if len(unknown):
        raise DataError(
            f"patient_id is missing for {len(unknown)} lesion(s), the first is {unknown.iloc[0]}. Fill it in: "
            "a lesion is compared with the others of its patient."
        )


def _chosen_columns(metadata: pd.DataFrame, columns: Sequence[str] | None) -> frozenset[str]:
    usable = (*NUMERIC_COLUMNS, *CATEGORY_COLUMNS)
    if columns is None:
        return frozenset(usable) & frozenset(metadata)
    for column in columns:
        if column in LEAK_COLUMNS:
            raise ConfigError(
                f"Column '{column}' is known in training only and gives the answer away. Take it out of the columns."
            )
        if column not in usable:
            raise ConfigError(f"No feature is made of a column '{column}'; usable are {', '.join(usable)}.")
        if column not in metadata:
            raise ConfigError(f"The metadata has no column '{column}'. Take it out of the columns, or add it.")
    return frozenset(columns)


def _numbers(metadata: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The columns as float64, rows numbered from 0."""
    numbers = {}
    for column in columns:
        values = pd.to_numeric(metadata[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        _refuse(metadata, column, metadata[column].notna().to_numpy() & ~np.isfinite(values), "a finite number")
        numbers[column] = values
    return pd.DataFrame(numbers, index=range(len(metadata)))


def _categories(metadata: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The columns as text, and the site with the location, rows numbered from 0."""
    # No codes here: made from one table each, they would mean different things in training and test.
    categories = pd.DataFrame(index=range(len(metadata)), dtype=object)
    for column in columns:
        values = metadata[column].to_numpy(dtype=object, na_value=np.nan)
        is_text = np.array([isinstance(value, str) for value in values], dtype=bool)
        _refuse(metadata, column, metadata[column].notna().to_numpy() & ~is_text, "text")
        categories[column] = pd.Series(values, dtype=object)
    if {_SITE, _LOCATION} <= set(columns):
        categories["anatom_site_location"] = categories[_SITE] + "_" + categories[_LOCATION]
    return categories


def _refuse(metadata: pd.DataFrame, column: str, wrong: NDArray[np.bool_], kind: str) -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        lesion, value = metadata["isic_id"].iloc[rows[0]], metadata[column].iloc[rows[0]]
        raise DataError(
            f"Column {column}, lesion {lesion}: '{value}' is not {kind}; so for {len(rows)} lesion(s). "
            "Correct the metadata, or leave the value empty."
        )


def _row_features(numbers: pd.DataFrame) -> pd.DataFrame:
    features = {}
    with np.errstate(all="ignore"):
        for name, (formula, inputs) in ROW_FEATURES.items():
            columns = [_COLUMN_OF_INPUT[value] for value in inputs]
            if set(columns) <= set(numbers):
                features[name] = formula(*(numbers[column].to_numpy() for column in columns))
    values = pd.DataFrame(features, index=numbers.index)
    return values.where(values.abs() <= np.finfo(np.float32).max)


def _relative_features(values: pd.DataFrame, patients: pd.Series, sites: pd.Series | None) -> list[pd.DataFrame]:
    """`_patient_z`, `_patient_rank` and, with sites, `_site_z` of all columns."""
    ranks = values.groupby(patients).rank(pct=True).astype(np.float32)
    relative = [_z(values, [patients]).add_suffix("_patient_z"), ranks.add_suffix("_patient_rank")]
    if sites is not None:
        site_z = _z(values, [patients, sites])
        site_z[sites.isna()] = np.nan
        relative.append(site_z.add_suffix("_site_z"))
    return relative


def _z(values: pd.DataFrame, keys: list[pd.Series]) -> pd.DataFrame:
    known = _sum(values.notna().astype(np.float64), keys)
    deviation = values - _sum(values, keys) / known
    # The spread of a group's only value is not defined. The value is its own mean, so with any spread it gets 0.
    spread = (_sum(deviation**2, keys) / (known - 1)) ** 0.5
    return (deviation / (spread.fillna(0) + EPSILON)).astype(np.float32)


def _sum(values: pd.DataFrame, keys: list[pd.Series]) -> pd.DataFrame:
    """For each row the sum over its group."""
    # With a missing value in one group, pandas rounds all sums in another way; no patient may change another's.
    return values.fillna(0).groupby(keys, dropna=False).transform("sum")


def _summaries(numbers: pd.DataFrame, z: pd.DataFrame, patients: pd.Series) -> pd.DataFrame:
    """Of a patient its lesions and their area, of a lesion the z of its numeric columns."""
    features = pd.DataFrame({"patient_lesion_count": patients.groupby(patients).transform("size")})
    if _AREA in numbers:
        known = numbers[_AREA].notna().groupby(patients).transform("any")
        features["patient_area_sum"] = _sum(numbers[[_AREA]], [patients])[_AREA].where(known)
    if len(z.columns):
        size = z.abs()
        features["ugly_duckling_max"] = size.max(axis=1)
        features["ugly_duckling_mean"] = size.mean(axis=1)
        features["ugly_duckling_count"] = (size > ODD_Z).sum(axis=1)
    return features
