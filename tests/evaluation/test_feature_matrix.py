"""Codes and principal components are those of the training rows."""

import math

import numpy as np
import pandas as pd
import pytest

from biomass_pl.evaluation.feature_matrix import MISSING, UNSEEN, FeatureEncoder, FeatureTable


def test_categories_have_the_codes_of_the_training_rows():
    training = pd.DataFrame({"site": ["leg", "arm", "leg"], "white": [True, False, True], "age": [40, 50, 60]})
    other = pd.DataFrame({"site": ["arm", "toe", None], "white": [True, True, False], "age": [1, None, 3]})
    encoder = FeatureEncoder(FeatureTable(features=training, embeddings=None), pca=None)
    assert encoder.names == ["white", "age", "site"]
    matrix = encoder.matrix(FeatureTable(features=other, embeddings=None))
    assert matrix.dtype == np.float32
    expected = [[1, 1, 0], [1, math.nan, UNSEEN], [0, 3, MISSING]]
    np.testing.assert_array_equal(matrix, np.array(expected, dtype=np.float32))


@pytest.mark.parametrize("missing", [None, math.nan, pd.NA])
@pytest.mark.parametrize("dtype", ["object", "category", "string"])
def test_a_missing_category_has_its_code_whatever_stands_for_it(missing, dtype):
    training = pd.DataFrame({"site": pd.Series(["b", missing, "a"], dtype=dtype)})
    encoder = FeatureEncoder(FeatureTable(features=training, embeddings=None), pca=None)
    codes = encoder.matrix(FeatureTable(features=training, embeddings=None))[:, 0]
    assert codes[1] == MISSING and codes[0] > codes[2] >= 0


def test_principal_components_are_those_of_the_standardised_training_rows():
    generator = np.random.default_rng(0)
    training, other = generator.normal(size=(2, 30, 5)) * [1, 2, 3, 4, 100]
    encoder = FeatureEncoder(FeatureTable(features=pd.DataFrame(index=range(30)), embeddings=training), pca=2)
    mean, deviation = training.mean(axis=0), training.std(axis=0)
    directions = np.linalg.svd((training - mean) / deviation)[2][:2]
    expected = (other - mean) / deviation @ directions.T
    components = encoder.matrix(FeatureTable(features=pd.DataFrame(index=range(30)), embeddings=other))
    signs = np.sign((components * expected).sum(axis=0))
    assert encoder.names == ["embedding_pc0", "embedding_pc1"]
    np.testing.assert_allclose(components, expected * signs, atol=1e-4)  # float32 against float64
