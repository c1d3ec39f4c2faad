"""Features and embeddings as the matrix that boosters take, fitted on training rows alone. No torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder, StandardScaler

from biomass_pl.errors import ConfigError, DataError, listed

UNSEEN, MISSING = -1, -2
"""Codes of a category that the training rows lack, and of none given."""


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """Features and embeddings of the same rows: they belong together by position.

    Attributes:
        features: Columns of numbers, NaN where missing; any other column holds categories.
        embeddings: Shape (rows, width), NaN where missing, or None.
    """

    features: pd.DataFrame
    embeddings: np.ndarray | None

    @property
    def embedding_names(self) -> list[str]:
        """Names of the columns of embeddings in a frame."""
        return [] if self.embeddings is None else [f"embedding_{column}" for column in range(self.embeddings.shape[1])]

    def to_frame(self) -> pd.DataFrame:
        """All columns, embeddings last: numbers as float32, categories as text, NaN where missing.

        XGBoost and CatBoost compute in float32 anyway, and it halves the memory of wide embeddings.
        """
        columns = {
            str(name): _as_numbers(column) if is_numeric_dtype(column) else _as_text(column)
            for name, column in self.features.items()
        }
        frame = pd.DataFrame(columns, index=self.features.index)
        if self.embeddings is None:
            return frame
        embeddings = pd.DataFrame(_as_float32(self.embeddings), index=frame.index, columns=self.embedding_names)
        return pd.concat([frame, embeddings], axis=1)


def fitted_encoder(training: pd.DataFrame, *, embeddings: Sequence[str], pca: int | None) -> ColumnTransformer:
    """An encoder of frames as float32 matrices, by the categories and principal components of the training rows.

    Args:
        training: Rows of a frame that `FeatureTable.to_frame` made.
        embeddings: Names of its columns of embeddings.
        pca: Principal components kept of the standardised embeddings; None keeps the embeddings as they are.

    Returns:
        The fitted encoder. The columns of its matrices are numbers, codes of categories, and embeddings.
    """
    features = training.drop(columns=embeddings)
    numbers = features.select_dtypes("number").columns.tolist()
    categories = features.select_dtypes(exclude="number").columns.tolist()
    codes = OrdinalEncoder(
        # NaN is a category of every column, so that it never counts as unseen. In a column with gaps an unused empty
        # text comes first: the codes of the others start at 1, and 0, which LightGBM bins by itself, stays free.
        categories=[[*np.unique(features[name].fillna("")), np.nan] for name in categories],
        dtype=np.float32,
        handle_unknown="use_encoded_value",
        unknown_value=UNSEEN,
        encoded_missing_value=MISSING,
    )
    # The order of values in memory, which pandas does not promise, decides the last digits of float32 sums.
    row_major = FunctionTransformer(np.ascontiguousarray, feature_names_out="one-to-one")
    components = make_pipeline(row_major, StandardScaler(), PCA(pca, random_state=0))
    parts = [
        ("numbers", "passthrough", numbers),
        ("categories", codes, categories),
        ("embeddings", "passthrough" if pca is None else components, embeddings),
    ]
    return ColumnTransformer(parts, verbose_feature_names_out=_matrix_name).fit(training)


def check_table(table: FeatureTable, *, pca: int | None, of: str) -> None:
    """Checks that a table can become a matrix.

    Args:
        table: The table.
        pca: Principal components asked for, or None.
        of: What the table is, for messages: `training` or `test`.

    Raises:
        DataError: No feature, a name twice, an infinite value, embeddings of other rows or missing for `pca`.
        ConfigError: `pca` without embeddings.
    """
    embeddings = table.embeddings
    names = pd.Index([*map(str, table.features), *table.embedding_names])
    if names.empty:
        raise DataError(f"The {of} table has no feature: give features or embeddings.")
    if not names.is_unique:
        raise DataError(f"Features named twice in the {of} table:\n{listed(sorted(set(names[names.duplicated()])))}")
    for column in table.features:
        if is_numeric_dtype(table.features[column]):
            _require_finite(_as_numbers(table.features[column]), str(column), table.features.index, of)
    if embeddings is None:
        if pca is not None:
            raise ConfigError(f"pca is {pca}, but the {of} rows have no embeddings. Leave pca out, or give them.")
        return
    if len(embeddings) != len(table.features):
        raise DataError(
            f"{len(table.features)} {of} rows have {len(embeddings)} embeddings: they belong together by position."
        )
    values = _as_float32(embeddings)
    for number in np.flatnonzero(np.isinf(values).any(axis=0)):
        _require_finite(values[:, number], f"embedding_{number}", table.features.index, of)
    missing = np.isnan(embeddings).any(axis=1)
    if pca is not None and missing.any():
        raise DataError(
            f"{missing.sum()} {of} rows have no embedding, the first {table.features.index[missing][0]}: "
            "there are no principal components of them. Give all embeddings, or leave pca out."
        )


def as_in_training(test: FeatureTable, training: FeatureTable) -> FeatureTable:
    """The test table with the columns of the training table, in their order and of their kinds.

    Raises:
        DataError: A column is in one of them alone, or holds numbers in training and text in test.
    """
    for one, other, where in ((training, test, "test"), (test, training, "training")):
        lacking = [str(column) for column in one.features if column not in other.features]
        if lacking:
            raise DataError(
                f"The {where} features lack columns that the others have:\n{listed(lacking)}\n"
                "Make both in the same way."
            )
    widths = [None if table.embeddings is None else table.embeddings.shape[1] for table in (training, test)]
    if widths[0] != widths[1]:
        raise DataError(
            f"Training embeddings have width {widths[0]}, test embeddings {widths[1]} (None is no embeddings). "
            "Take both from the same models."
        )
    features = test.features[training.features.columns].copy()
    for column, values in features.items():
        is_number = is_numeric_dtype(training.features[column])
        if is_number == is_numeric_dtype(values):
            continue
        if is_number and values.notna().any():
            raise DataError(f"Feature {column} holds numbers in training and text in test. Make both in the same way.")
        features[column] = math.nan if is_number else values.astype(object)
    return FeatureTable(features=features, embeddings=test.embeddings)


def _matrix_name(transformer: str, column: str) -> str:
    """Name of a column of the matrix; scikit-learn calls principal components pca0, pca1, ..."""
    return column.replace("pca", "embedding_pc") if transformer == "embeddings" else column


def _as_text(column: pd.Series) -> np.ndarray:
    """Categories as text, which always sorts, and NaN where missing, whatever stood for it."""
    return np.where(column.isna(), np.nan, column.astype(object).map(str))


def _as_numbers(column: pd.Series) -> np.ndarray:
    return _as_float32(column.to_numpy(dtype=np.float64, na_value=np.nan))


def _as_float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is checked
        return values.astype(np.float32, copy=False)


def _require_finite(values: np.ndarray, name: str, rows: pd.Index, of: str) -> None:
    infinite = np.isinf(values)
    if infinite.any():
        raise DataError(
            f"Feature {name} is infinite (or beyond float32) in {infinite.sum()} {of} rows, the first "
            f"{rows[infinite][0]}. Leave such a value empty (NaN), or mend the feature."
        )
