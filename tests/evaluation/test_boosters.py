"""Boosters of three libraries: they learn, repeat themselves, keep silent, and say how to install them."""

import sys

import numpy as np
import pytest

from biomass_pl.errors import ConfigError
from biomass_pl.evaluation.boosters import gain_shares, make_booster, predict

LIBRARIES = ["lightgbm", "xgboost", "catboost"]
KINDS = ["classification", "regression"]
ROWS = 160


@pytest.fixture(params=LIBRARIES)
def library(request) -> str:
    pytest.importorskip(request.param)
    return request.param


def planted(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Three columns, of which the second decides."""
    generator = np.random.default_rng(3)
    matrix = generator.normal(size=(ROWS, 3)).astype(np.float32)
    number = matrix[:, 1] + generator.normal(0, 0.1, ROWS)
    return matrix, (number > 0.5).astype(float) if kind == "classification" else number


@pytest.mark.parametrize("kind", KINDS)
def test_a_booster_learns_repeats_itself_and_leaves_nothing_behind(
    kind, library, tmp_path, monkeypatch, capfd, recwarn
):
    monkeypatch.chdir(tmp_path)
    matrix, target = planted(kind)
    matrix[0, 0] = np.nan
    same, again, other = (
        make_booster(library, kind=kind, seed=seed, rows=ROWS).fit(matrix, target) for seed in (0, 0, 1)
    )
    values = predict(same, matrix)
    assert values.shape == (ROWS,) and values.dtype == np.float64
    assert np.corrcoef(values, target)[0, 1] > 0.85
    if kind == "classification":
        assert values.min() >= 0 and values.max() <= 1
    assert np.array_equal(values, predict(again, matrix))
    assert not np.array_equal(values, predict(other, matrix))
    shares = gain_shares(same)
    assert shares.sum() == pytest.approx(1) and shares.argmax() == 1
    assert list(tmp_path.iterdir()) == [] and capfd.readouterr() == ("", "") and list(recwarn) == []


def test_a_number_that_never_varies_is_predicted_and_has_no_gain(library):
    matrix, _ = planted("regression")
    booster = make_booster(library, kind="regression", seed=0, rows=ROWS).fit(matrix, np.full(ROWS, 2.5))
    assert predict(booster, matrix) == pytest.approx(2.5)
    assert gain_shares(booster).tolist() == [0, 0, 0]


def test_threads_change_no_digit_of_lightgbm():
    pytest.importorskip("lightgbm")
    matrix, target = planted("classification")
    one, three = (
        make_booster("lightgbm", kind="classification", seed=0, rows=ROWS).set_params(n_jobs=jobs).fit(matrix, target)
        for jobs in (1, 3)
    )
    assert np.array_equal(predict(one, matrix), predict(three, matrix))


@pytest.mark.parametrize(("rows", "smallest_leaf"), [(320_000, 85), (8_500, 85), (1_152, 11), (240, 5)])
def test_leaves_of_a_small_table_are_smaller_than_published(rows, smallest_leaf):
    pytest.importorskip("lightgbm")
    booster = make_booster("lightgbm", kind="classification", seed=0, rows=rows)
    assert booster.get_params()["min_child_samples"] == smallest_leaf


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lightgbm", "LightGBM is not installed. Install it: pip install 'biomass-pl[gbdt]'"),
        ("xgboost", "XGBoost is not installed. Install it: pip install xgboost"),
        ("catboost", "CatBoost is not installed. Install it: pip install catboost"),
    ],
)
def test_a_missing_library_says_how_to_install_it(name, message, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)  # Python's own mark of a module that is not there
    with pytest.raises(ConfigError) as raised:
        make_booster(name, kind="regression", seed=0, rows=ROWS)
    assert str(raised.value) == message


def test_a_library_that_is_installed_and_broken_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "xgboost.py").write_text("import part_of_xgboost_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "xgboost", raising=False)
    with pytest.raises(ModuleNotFoundError, match="part_of_xgboost"):
        make_booster("xgboost", kind="regression", seed=0, rows=ROWS)
