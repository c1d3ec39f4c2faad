"""Linear probes against scikit-learn, in exact cases and in degenerate ones."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from biomass_pl.evaluation.probe import column_r2, fit_class_probe, fit_value_probe, mean_r2


def blobs(classes: int, *, rows: int = 60, width: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of very different scales, around a centre for each class."""
    rng = np.random.default_rng(seed)
    truth = np.arange(rows) % classes
    centres = rng.normal(size=(classes, width))
    features = centres[truth] + 0.8 * rng.normal(size=(rows, width))
    return features * 10.0 ** np.arange(-2, width - 2) + 7, truth


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_class_probe_is_logistic_regression_on_standardised_features(classes):
    features, truth = blobs(classes)
    others, _ = blobs(classes, seed=1)
    expected = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, truth)
    probabilities = softmax(fit_class_probe(features, truth, classes).outputs(others))
    assert probabilities == pytest.approx(expected.predict_proba(others), abs=1e-9)


def test_a_class_probe_shrinks_what_is_noise():
    """More features than photos: without a penalty, every photo would be fitted exactly."""
    rng = np.random.default_rng(0)
    features, truth = rng.normal(size=(40, 100)), np.arange(40) % 2
    others = rng.normal(size=(500, 100))
    hardly_penalised = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, truth)
    probabilities = softmax(fit_class_probe(features, truth, 2).outputs(others))
    assert abs(probabilities - 0.5).mean() < 0.5 * abs(hardly_penalised.predict_proba(others) - 0.5).mean()


def test_a_class_of_one_photo_leaves_nothing_to_choose_by():
    features, truth = blobs(3, rows=31)
    truth[0] = 3
    expected = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, truth)
    probabilities = softmax(fit_class_probe(features, truth, 4).outputs(features))
    assert probabilities == pytest.approx(expected.predict_proba(features), abs=1e-9)


def test_a_class_without_training_photos_is_never_predicted():
    features, truth = blobs(3)
    probe = fit_class_probe(features, np.array([0, 2, 4])[truth], 5)
    probabilities = softmax(probe.outputs(features))
    assert probabilities.shape == (60, 5) and not probabilities[:, [1, 3]].any()
    assert probabilities[:, [0, 2, 4]] == pytest.approx(softmax(fit_class_probe(features, truth, 3).outputs(features)))


def test_separate_classes_are_told_apart():
    truth = np.arange(20) % 4
    features = np.eye(4)[truth] + 0.01 * np.random.default_rng(0).normal(size=(20, 4))
    assert (fit_class_probe(features, truth, 4).outputs(features).argmax(axis=1) == truth).all()


@given(st.floats(-100, 100), st.floats(0.01, 100))
@settings(max_examples=10, deadline=None)
def test_the_scale_of_a_feature_says_nothing(shift, scale):
    features, truth = blobs(3)
    expected = fit_class_probe(features, truth, 3).outputs(features)
    features[:, 1] = features[:, 1] * scale + shift
    assert fit_class_probe(features, truth, 3).outputs(features) == pytest.approx(expected, abs=1e-3)


def test_a_value_probe_finds_a_linear_relation_of_every_column():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 6)) * 10.0 ** np.arange(-3, 3)
    standardised = features / features.std(axis=0)
    values = np.stack([standardised @ rng.normal(size=6) + 5, 300 * standardised[:, 0], rng.normal(size=80)], axis=1)
    scores = column_r2(values, fit_value_probe(features, values).outputs(features))
    assert (scores[:2] > 0.9999).all() and scores[2] < 0.3


def test_a_value_probe_shrinks_what_is_noise():
    """More features than photos: without a penalty, every photo would be fitted exactly."""
    rng = np.random.default_rng(0)
    features, values = rng.normal(size=(30, 60)), rng.normal(size=(30, 1))
    outputs = fit_value_probe(features, values).outputs(rng.normal(size=(500, 60)))
    assert outputs.std() < 0.5 * values.std()


def test_one_column_of_values_is_a_column():
    features, truth = blobs(2)
    assert fit_value_probe(features, truth[:, None].astype(float)).outputs(features).shape == (60, 1)


def test_a_feature_that_is_always_the_same_says_nothing():
    features, truth = blobs(3)
    features[:, 2] = 4
    assert np.isfinite(fit_class_probe(features, truth, 3).outputs(features)).all()
    assert np.isfinite(fit_value_probe(features, truth[:, None].astype(float)).outputs(features)).all()


def test_features_that_are_not_finite_give_nothing():
    features, truth = blobs(3)
    features[4, 1] = np.inf
    assert np.isnan(fit_class_probe(features, truth, 3).outputs(features[:2])).all()
    assert np.isnan(fit_value_probe(features, truth[:, None].astype(float)).outputs(features[:2])).all()


def test_r2_of_columns_is_that_of_scikit_learn_where_there_is_one():
    rng = np.random.default_rng(0)
    truth, prediction = rng.normal(size=(2, 30, 4))
    truth[:, 2] = 3
    expected = r2_score(truth, prediction, multioutput="raw_values")
    scores = column_r2(truth, prediction)
    assert scores[[0, 1, 3]] == pytest.approx(expected[[0, 1, 3]]) and math.isnan(scores[2])
    assert mean_r2(truth, prediction) == pytest.approx(expected[[0, 1, 3]].mean())


def test_r2_is_not_defined_without_variation_or_with_a_broken_prediction():
    truth = np.arange(6.0).reshape(3, 2)
    assert mean_r2(truth, truth) == 1
    assert mean_r2(truth, np.broadcast_to(truth.mean(axis=0), truth.shape)) == 0
    assert math.isnan(mean_r2(np.ones((3, 2)), truth))
    for broken in (np.nan, np.inf):
        prediction = truth.copy()
        prediction[0, 0] = broken
        assert math.isnan(mean_r2(truth, prediction))
        assert np.isnan(column_r2(truth, prediction)).tolist() == [True, False]
