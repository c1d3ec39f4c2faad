"""Features and embeddings as the matrix that boosters take, by what the training rows alone say. No torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from biomass_pl.errors import ConfigError, DataError, listed

UNSEEN, MISSING = -1, -2
"""Codes of a category that the training rows lack, and of none given."""


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """Features of rows: they belong together by position.

    Attributes:
        features: Columns of numbers, NaN where missing; any other column holds categories.
        embeddings: Shape (rows, width), NaN where missing, or None.
    """

    features: pd.DataFrame
    embeddings: np.ndarray | None

    def rows(self, chosen: np.ndarray) -> "FeatureTable":
        """The rows where `chosen`, booleans of shape (rows,), is true."""
        embeddings = None if self.embeddings is None else self.embeddings[chosen]
        return FeatureTable(features=self.features[chosen], embeddings=embeddings)


class FeatureEncoder:
    """Turns tables into float32 matrices: category codes and principal components are those of the training rows.

    XGBoost and CatBoost compute in float32 anyway, and it halves the memory of wide embeddings.

    Attributes:
        names: Names of the columns of a matrix.
    """

    def __init__(self, training: FeatureTable, *, pca: int | None) -> None:
        numeric = [is_numeric_dtype(dtype) for dtype in training.features.dtypes]
        self._numbers = training.features.columns[numeric]
        self._categories = training.features.columns[~np.array(numeric, dtype=bool)]
        self._codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=UNSEEN)
        if len(self._categories):
            self._codes.fit(_as_text(training.features[self._categories]))
        self._components: Any = None
        if pca is not None and training.embeddings is not None:
            self._components = make_pipeline(StandardScaler(), PCA(pca, random_state=0))
            self._components.fit(_as_float32(training.embeddings))
        self.names = [*self._numbers, *self._categories, *_embedding_names(training.embeddings, pca)]

    def matrix(self, table: FeatureTable) -> np.ndarray:
        """The features of all rows, float32, shape (rows, names)."""
        parts = [_as_numbers(table.features[column])[:, None] for column in self._numbers]
        if len(self._categories):
            categories = table.features[self._categories]
            codes = self._codes.transform(_as_text(categories))
            codes[categories.isna().to_numpy()] = MISSING
            parts.append(codes)
        if table.embeddings is not None:
            embeddings = _as_float32(table.embeddings)
            parts.append(embeddings if self._components is None else self._components.transform(embeddings))
        return np.concatenate(parts, axis=1, dtype=np.float32)


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
    names = pd.Index([*table.features.columns, *_embedding_names(embeddings, None)])
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
    """The test table with the columns of the training table, in their order.

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
    features = test.features[training.features.columns]
    for column in features:
        is_text = not is_numeric_dtype(features[column]) and features[column].notna().any()
        if is_text and is_numeric_dtype(training.features[column]):
            raise DataError(f"Feature {column} holds numbers in training and text in test. Make both in the same way.")
    return FeatureTable(features=features, embeddings=test.embeddings)


def _embedding_names(embeddings: np.ndarray | None, pca: int | None) -> list[str]:
    if embeddings is None:
        return []
    if pca is not None:
        return [f"embedding_pc{component}" for component in range(pca)]
    return [f"embedding_{column}" for column in range(embeddings.shape[1])]


def _as_text(categories: pd.DataFrame) -> np.ndarray:
    """Categories as text, which always sorts; what is missing is empty and gets its code afterwards."""
    text = np.where(categories.isna(), "", categories.astype(object).to_numpy())
    return text.astype(str).astype(object)


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
