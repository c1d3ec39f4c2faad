"""Features that stand in for pixels: in which epochs, and what is told when they are gone."""

import shutil
from math import inf

import numpy as np
import pytest

from biomass_pl.data import stored_features
from biomass_pl.data.bank import FeatureBank
from biomass_pl.data.stored_features import StoredFeatures
from biomass_pl.errors import DataError

SHAPE = (2, 4, 3)


def features():
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def feature_set(tmp_path):
    return FeatureBank(folder=tmp_path / "bank", limit_gb=1).feature_set({"weights": "w"}, SHAPE)


def stored(feature_set, *photos, epochs=inf):
    return StoredFeatures(feature_set=feature_set, keys={path: path.stem for path in photos}, views=2, epochs=epochs)


def test_epochs_after_the_frozen_ones_read_no_features(feature_set):
    assert [stored(feature_set, epochs=3).serve(epoch) for epoch in (0, 2, 3, 4)] == [True, True, False, False]
    assert stored(feature_set).serve(10**6)


def test_features_that_are_gone_in_mid_training_are_named(feature_set, tmp_path):
    photo = tmp_path / "a.jpg"
    features_of_photo = stored(feature_set, photo)
    feature_set.write("a", 1, features())
    assert np.array_equal(features_of_photo.read("a", photo, 1), features())
    with pytest.raises(DataError, match=r"a.jpg .*--resume"):
        features_of_photo.read("a", photo, 2)


def test_features_are_read_from_disk_once_as_far_as_they_fit_into_memory(feature_set, tmp_path, monkeypatch):
    photo = tmp_path / "a.jpg"
    monkeypatch.setattr(stored_features, "_KEPT_BYTES", features().nbytes)
    first = stored(feature_set, photo)
    for view in (1, 2):
        feature_set.write("a", view, features() + view)
        assert np.array_equal(first.read("a", photo, view), features() + view)
    shutil.rmtree(feature_set.folder)
    assert np.array_equal(first.read("a", photo, 1), features() + 1)
    with pytest.raises(DataError):
        first.read("a", photo, 2)
    with pytest.raises(DataError):  # what one kept, another has not
        stored(feature_set, photo).read("a", photo, 1)
