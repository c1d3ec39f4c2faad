"""Features and embeddings as the matrix that learners take, fitted on training rows alone. No torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler

from biomass_pl.errors import ConfigError, DataError, listed

UNSEEN, MISSING = -1, -2
"""Codes of a category that the training rows lack, and of none given."""


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """Features and embeddings of the same rows: they belong together by position.

    Attributes:
        features: Columns of numbers, NaN where missing; any other column holds categories.
        embeddings: None, one or several arrays of shape (rows, width), NaN where missing.
    """

    features: pd.DataFrame
    embeddings: Sequence[np.ndarray] = ()

    @property
    def embedding_names(self) -> list[list[str]]:
        """Names of the columns of each array of embeddings in a frame."""
        widths = [embeddings.shape[1] for embeddings in self.embeddings]
        return [
            [f"{_array_name(array, len(widths))}_{column}" for column in range(width)]
            for array, width in enumerate(widths)
        ]

    def to_frame(self) -> pd.DataFrame:
        """All columns, embeddings last: numbers as float32, categories as text, NaN where missing.

        XGBoost and CatBoost compute in float32 anyway, and it halves the memory of wide embeddings.
        """
        columns = {
            str(name): _as_numbers(column) if is_numeric_dtype(column) else _as_text(column)
            for name, column in self.features.items()
        }
        frame = pd.DataFrame(columns, index=self.features.index)
        arrays = [
            pd.DataFrame(_as_float32(embeddings), index=frame.index, columns=names)
            for embeddings, names in zip(self.embeddings, self.embedding_names, strict=True)
        ]
        return pd.concat([frame, *arrays], axis=1)


def fitted_encoder(
    training: pd.DataFrame, *, embeddings: Sequence[Sequence[str]], pca: int | None, scaled: bool = False
) -> ColumnTransformer:
    """An encoder of frames as float32 matrices, by categories, scales and principal components of the training rows.

    Args:
        training: Rows of a frame that `FeatureTable.to_frame` made.
        embeddings: Names of its columns of each array of embeddings.
        pca: Principal components kept of each array of standardised embeddings; None keeps the embeddings as they are.
        scaled: For learners to which distances between rows count: nothing is missing (medians stand for it), numbers
            are standardised, every category has a column of 0 and 1, and each array of embeddings, whatever its width,
            has a total variance of 1.

    Returns:
        The fitted encoder. The columns of its matrices are numbers, categories or their codes, and embeddings.
    """
    features = training.drop(columns=[name for names in embeddings for name in names])
    numbers = features.select_dtypes("number").columns.tolist()
    categories = features.select_dtypes(exclude="number").columns.tolist()
    parts: list[tuple[str, Any, Sequence[str]]] = [
        ("numbers", _number_scaler() if scaled else "passthrough", numbers),
        ("categories", _one_hot() if scaled else _codes(features[categories]), categories),
    ]
    for array, names in enumerate(embeddings):
        encoder = _embedding_encoder(pca=pca, scaled=scaled)
        parts.append((_array_name(array, len(embeddings)), encoder, names))
    return ColumnTransformer(parts, verbose_feature_names_out=_matrix_name).fit(training)


def _codes(categories: pd.DataFrame) -> OrdinalEncoder:
    return OrdinalEncoder(
        # NaN is a category of every column, so that it never counts as unseen. In a column with gaps an unused empty
        # text comes first: the codes of the others start at 1, and 0, which LightGBM bins by itself, stays free.
        categories=[[*np.unique(column.fillna("")), np.nan] for _, column in categories.items()],
        dtype=np.float32,
        handle_unknown="use_encoded_value",
        unknown_value=UNSEEN,
        encoded_missing_value=MISSING,
    )


def _one_hot() -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)


def _number_scaler() -> Pipeline:
    return make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())


def _embedding_encoder(*, pca: int | None, scaled: bool) -> Any:
    if pca is None and not scaled:
        return "passthrough"
    # The order of values in memory, which pandas does not promise, decides the last digits of float32 sums.
    steps: list[Any] = [FunctionTransformer(np.ascontiguousarray, feature_names_out="one-to-one")]
    if pca is None:
        steps.append(SimpleImputer(strategy="median", keep_empty_features=True))
    if scaled:
        # A column that hardly varies in the training rows would count for thousands of deviations in another row that
        # stands out: what is beyond the training rows counts as their edge.
        steps.append(MinMaxScaler(clip=True))
    steps.append(StandardScaler())
    if pca is not None:
        steps.append(PCA(pca, random_state=0))
    if scaled:
        steps.append(UnitVariance())
    return make_pipeline(*steps)


class UnitVariance(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Divides columns by the root of their total variance: what is near stays near, whatever the number of columns."""

    def fit(self, values: np.ndarray, targets: object = None) -> "UnitVariance":
        """Takes the variance of the rows.

        Args:
            values: Shape (rows, columns).
            targets: Not used.
        """
        self.n_features_in_ = values.shape[1]
        self.scale_ = float(np.sqrt(np.asarray(values, dtype=np.float64).var(axis=0).sum())) or 1.0
        return self

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Divides the rows (rows, columns)."""
        return np.asarray(values / np.float32(self.scale_))


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
    columns = [name for names in table.embedding_names for name in names]
    names = pd.Index([*map(str, table.features), *columns])
    if names.empty:
        raise DataError(f"The {of} table has no feature: give features or embeddings.")
    if not names.is_unique:
        raise DataError(f"Features named twice in the {of} table:\n{listed(sorted(set(names[names.duplicated()])))}")
    for column in table.features:
        if is_numeric_dtype(table.features[column]):
            _require_finite(_as_numbers(table.features[column]), str(column), table.features.index, of)
    if not table.embeddings and pca is not None:
        raise ConfigError(f"pca is {pca}, but the {of} rows have no embeddings. Leave pca out, or give them.")
    for embeddings, own_names in zip(table.embeddings, table.embedding_names, strict=True):
        _check_embeddings(embeddings, own_names, table.features.index, pca=pca, of=of)


def _check_embeddings(
    embeddings: np.ndarray, names: Sequence[str], rows: pd.Index, *, pca: int | None, of: str
) -> None:
    if len(embeddings) != len(rows):
        raise DataError(f"{len(rows)} {of} rows have {len(embeddings)} embeddings: they belong together by position.")
    values = _as_float32(embeddings)
    for number in np.flatnonzero(np.isinf(values).any(axis=0)):
        _require_finite(values[:, number], names[int(number)], rows, of)
    missing = np.isnan(embeddings).any(axis=1)
    if pca is not None and missing.any():
        raise DataError(
            f"{missing.sum()} {of} rows have no embedding, the first {rows[missing][0]}: "
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
    widths = [[embeddings.shape[1] for embeddings in table.embeddings] for table in (training, test)]
    if widths[0] != widths[1]:
        raise DataError(
            f"Training embeddings have the widths {widths[0]}, test embeddings {widths[1]}. "
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


def _array_name(array: int, arrays: int) -> str:
    return "embedding" if arrays == 1 else f"embedding{array}"


def _matrix_name(transformer: str, column: str) -> str:
    """Name of a column of the matrix; scikit-learn calls principal components pca0, pca1, ..."""
    is_component = transformer.startswith("embedding") and column.startswith("pca")
    return f"{transformer}_pc{column.removeprefix('pca')}" if is_component else column


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
