"""Codes and principal components are those of the training rows."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from biomass_pl.evaluation.feature_matrix import MISSING, UNSEEN, FeatureTable, fitted_encoder


def of_features(features: pd.DataFrame) -> pd.DataFrame:
    return FeatureTable(features=features).to_frame()


def of_embeddings(embeddings: np.ndarray) -> pd.DataFrame:
    return FeatureTable(features=pd.DataFrame(index=range(len(embeddings))), embeddings=[embeddings]).to_frame()


def test_categories_have_the_codes_of_the_training_rows():
    training = pd.DataFrame({"site": ["leg", "arm", "leg"], "white": [True, False, True], 7: [40, 50, 60]})
    other = pd.DataFrame({"site": ["arm", "toe", None], "white": [True, True, False], 7: [1, None, 3]})
    encoder = fitted_encoder(of_features(training), embeddings=[], pca=None)
    assert encoder.get_feature_names_out().tolist() == ["white", "7", "site"]
    matrix = encoder.transform(of_features(other))
    assert matrix.dtype == np.float32
    expected = [[1, 1, 0], [1, math.nan, UNSEEN], [0, 3, MISSING]]
    np.testing.assert_array_equal(matrix, np.array(expected, dtype=np.float32))


@pytest.mark.parametrize("missing", [None, math.nan, pd.NA])
@pytest.mark.parametrize("dtype", ["object", "category", "string"])
def test_a_missing_category_has_its_code_whatever_stands_for_it(missing, dtype):
    frame = of_features(pd.DataFrame({"site": pd.Series(["b", missing, "a"], dtype=dtype)}))
    assert fitted_encoder(frame, embeddings=[], pca=None).transform(frame)[:, 0].tolist() == [2, MISSING, 1]


def test_categories_may_be_of_any_kind_and_all_missing():
    features = pd.DataFrame({"mixed": [3, "a", None, True], "none": pd.Series([None] * 4, dtype=object)})
    frame = of_features(features)
    codes = fitted_encoder(frame, embeddings=[], pca=None).transform(frame)
    assert codes[:, 0].tolist() == [1, 3, MISSING, 2]  # in the order of the text: 3, True, a
    assert codes[:, 1].tolist() == [MISSING] * 4


def test_principal_components_are_those_of_the_standardised_training_rows():
    generator = np.random.default_rng(0)
    training, other = generator.normal(size=(2, 30, 5)) * [1, 2, 3, 4, 100]
    frame = of_embeddings(training)
    encoder = fitted_encoder(frame, embeddings=[frame.columns], pca=2)
    mean, deviation = training.mean(axis=0), training.std(axis=0)
    directions = np.linalg.svd((training - mean) / deviation)[2][:2]
    expected = (other - mean) / deviation @ directions.T
    components = encoder.transform(of_embeddings(other))
    signs = np.sign((components * expected).sum(axis=0))
    assert encoder.get_feature_names_out().tolist() == ["embedding_pc0", "embedding_pc1"]
    np.testing.assert_allclose(components, expected * signs, atol=1e-4)  # float32 against float64


def test_features_beside_embeddings_change_no_digit_of_the_components():
    values = np.random.default_rng(0).normal(size=(200, 40)).astype(np.float32)
    features = pd.DataFrame({"pca": np.arange(200.0), "site": ["arm", "leg"] * 100})
    table = FeatureTable(features=features, embeddings=[values])
    encoder = fitted_encoder(table.to_frame(), embeddings=table.embedding_names, pca=3)
    assert encoder.get_feature_names_out().tolist() == [
        "pca",
        "site",
        *(f"embedding_pc{number}" for number in range(3)),
    ]
    alone = make_pipeline(StandardScaler(), PCA(3, random_state=0)).fit(values).transform(values)
    assert np.array_equal(encoder.transform(table.to_frame())[:, 2:], alone)


def test_scaled_numbers_have_no_gap_and_categories_a_column_each():
    training = pd.DataFrame({"area": [1.0, 3.0, math.nan, 5.0], "site": ["leg", "arm", None, "leg"]})
    encoder = fitted_encoder(of_features(training), embeddings=[], pca=None, scaled=True)
    assert encoder.get_feature_names_out().tolist() == ["area", "site_arm", "site_leg", "site_nan"]
    matrix = encoder.transform(of_features(training))
    assert matrix[:, 0] == pytest.approx(np.array([-2, 0, 0, 2]) / math.sqrt(2))  # the median is 3
    assert matrix[:, 1:].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
    other = encoder.transform(of_features(pd.DataFrame({"area": [math.nan], "site": ["toe"]})))
    assert other.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("pca", [None, 3])
def test_scaled_embeddings_have_a_total_variance_of_one_whatever_their_width(pca):
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=(50, width)) * 10**width for width in (4, 7)]
    table = FeatureTable(features=pd.DataFrame(index=range(50)), embeddings=arrays)
    encoder = fitted_encoder(table.to_frame(), embeddings=table.embedding_names, pca=pca, scaled=True)
    matrix = encoder.transform(table.to_frame())
    names = encoder.get_feature_names_out()
    for array, width in enumerate((4, 7)):
        own = [name.startswith(f"embedding{array}_") for name in names]
        assert sum(own) == (pca or width) and matrix[:, own].var(axis=0).sum() == pytest.approx(1, rel=1e-5)
