"""Stacking over folds: nothing of a held-out row gets into its model; averages, draws and messages are exact."""

import math
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import rich
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import r2_score, roc_auc_score

from biomass_pl.errors import ConfigError, DataError, FoldError
from biomass_pl.evaluation.boosters import gain_shares, make_booster, predict
from biomass_pl.evaluation.stacking import StackConfig, draw_rows, stack

pytest.importorskip("lightgbm")

ROWS, WIDTH = 120, 6
ONE_SEED = StackConfig(seeds=1)


def numbers(rows: int = ROWS, columns: int = 3, seed: int = 0) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(size=(rows, columns))
    return pd.DataFrame(values, columns=[f"number_{column}" for column in range(columns)])


def inputs(**changes) -> dict:
    """A classification in three folds, which number_0, the site and the first embeddings decide."""
    generator = np.random.default_rng(1)
    features = numbers().assign(site=generator.choice(["arm", "back", "leg", None], ROWS))
    embeddings = generator.normal(size=(ROWS, WIDTH)).astype(np.float32)
    score = 2 * features["number_0"] + (features["site"] == "leg") + embeddings[:, 0]
    given_inputs = {
        "features": features,
        "embeddings": [embeddings],
        "targets": pd.DataFrame({"target": (score > 0.7).astype(int)}),
        "folds": np.arange(ROWS) % 3,
        "kind": "classification",
        "config": replace(ONE_SEED, pca=3),
    }
    return given_inputs | changes


def with_test(**changes) -> dict:
    features = numbers(20, seed=8).assign(site=["arm", "leg", "toe", None] * 5)
    embeddings = np.random.default_rng(9).normal(size=(20, WIDTH)).astype(np.float32)
    return inputs(**({"test_features": features, "test_embeddings": [embeddings]} | changes))


# Leaks

EVERY_LEARNER = [
    *(("classification", learner) for learner in ("lightgbm", "logistic")),
    *(("regression", learner) for learner in ("lightgbm", "ridge", "gp", "svr")),
]


@pytest.mark.parametrize(("kind", "learner"), EVERY_LEARNER)
def test_no_learner_sees_held_out_targets_or_other_held_out_rows(kind, learner):
    """Poison: everything of the held-out rows is changed, but the features of one of them; its prediction stays."""
    given_inputs = inputs(kind=kind, config=StackConfig(seeds=1, pca=3, learner=learner), groups=np.arange(ROWS) // 6)
    if kind == "regression":
        given_inputs["targets"] = pd.DataFrame({"grams": np.square(given_inputs["embeddings"][0][:, 0])})
    changed, kept = np.arange(4, ROWS, 3), [1]  # all of them in fold 1
    targets, features = given_inputs["targets"].copy(), given_inputs["features"].copy()
    embeddings = given_inputs["embeddings"][0].copy()
    held_out = given_inputs["folds"] == 1
    targets.loc[held_out] = 1 - targets.loc[held_out] if kind == "classification" else 1e3
    features.loc[changed, "number_0"], features.loc[changed, "site"] = 1e6, "abdomen"
    embeddings[changed] *= 100
    before = stack(**given_inputs).predictions
    after = stack(**given_inputs | {"targets": targets, "features": features, "embeddings": [embeddings]}).predictions
    assert np.array_equal(before[kept], after[kept])
    assert not np.array_equal(before[~held_out], after[~held_out])


def test_targets_of_held_out_rows_change_nothing_in_their_predictions():
    given_inputs = inputs()
    held_out = given_inputs["folds"] == 1
    flipped = given_inputs["targets"].copy()
    flipped.loc[held_out, "target"] = 1 - flipped.loc[held_out, "target"]
    before = stack(**given_inputs).predictions
    after = stack(**inputs(targets=flipped)).predictions
    assert np.array_equal(before[held_out], after[held_out])
    assert not np.array_equal(before[~held_out], after[~held_out])


def test_features_of_other_held_out_rows_change_nothing_in_a_prediction():
    given_inputs = inputs()
    changed, kept = np.arange(31, ROWS, 3), np.arange(1, 31, 3)  # all of them in fold 1
    features, embeddings = given_inputs["features"].copy(), given_inputs["embeddings"][0].copy()
    features.loc[changed, "number_0"] = 1e6
    features.loc[changed, "site"] = "abdomen"  # sorts before the categories of the training rows
    embeddings[changed] *= 100
    before = stack(**given_inputs).predictions
    after = stack(**inputs(features=features, embeddings=[embeddings])).predictions
    assert np.array_equal(before[kept], after[kept])
    other_folds = given_inputs["folds"] != 1
    assert not np.array_equal(before[other_folds], after[other_folds])


def test_test_rows_change_nothing_but_their_own_prediction():
    given_inputs = with_test()
    before = stack(**given_inputs)
    features, embeddings = given_inputs["test_features"].copy(), given_inputs["test_embeddings"][0].copy()
    features.loc[5:, ["number_0", "number_1"]] = -1e6
    features.loc[5:, "site"] = "abdomen"
    embeddings[5:] = 1e4
    after = stack(**with_test(test_features=features, test_embeddings=[embeddings]))
    assert np.array_equal(before.predictions, after.predictions)
    assert np.array_equal(before.test_predictions[:5], after.test_predictions[:5])
    assert np.array_equal(before.predictions, stack(**inputs()).predictions)


def test_noise_scores_like_a_guess_out_of_fold():
    rows = 400
    generator = np.random.default_rng(2)
    target = generator.permutation(np.arange(rows) % 2)
    result = stack(
        features=numbers(rows, 6).assign(name=[f"name {row}" for row in range(rows)]),
        embeddings=[generator.normal(size=(rows, 10))],
        targets=pd.DataFrame({"target": target}),
        folds=generator.integers(0, 3, rows),
        kind="classification",
        config=replace(ONE_SEED, pca=4),
    )
    # The AUC of 200 against 200 guesses has a standard deviation of 0.029.
    assert abs(roc_auc_score(target, result.predictions[:, 0]) - 0.5) < 0.1


# What is computed


@pytest.mark.parametrize("ratio", [None, 1.0])
def test_predictions_are_the_means_over_seeds_and_folds_of_boosters_of_the_other_rows(ratio):
    features, test = numbers(), numbers(10, seed=4)
    target = (features["number_0"] > 0.5).to_numpy().astype(float)
    folds = np.arange(ROWS) % 2 + 5  # any whole numbers name folds
    config = StackConfig(seeds=2, negatives_per_positive=ratio)
    result = stack(
        features=features,
        embeddings=(),
        targets=pd.DataFrame({"target": target}),
        folds=folds,
        kind="classification",
        config=config,
        test_features=test,
    )
    matrix, test_matrix = (table.to_numpy(dtype=np.float32) for table in (features, test))
    on_test, shares = [], []
    for fold in (5, 6):
        training, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        on_held_out = []
        for seed in (0, 1):
            rows = training[draw_rows(target[training], ratio, seed=seed)]
            booster = make_booster("lightgbm", kind="classification", seed=seed, rows=len(rows))
            booster.fit(matrix[rows], target[rows])
            on_held_out.append(predict(booster, matrix[held_out]))
            on_test.append(predict(booster, test_matrix))
            shares.append(gain_shares(booster))
        assert result.predictions[held_out, 0] == pytest.approx(np.mean(on_held_out, axis=0), abs=1e-12)
    assert result.test_predictions[:, 0] == pytest.approx(np.mean(on_test, axis=0), abs=1e-12)
    by_feature = result.importance.set_index("feature")["gain"]
    assert by_feature[features.columns].tolist() == pytest.approx(np.mean(shares, axis=0).tolist(), abs=1e-12)


def test_the_same_inputs_give_the_same_result():
    config = StackConfig(seeds=2, pca=3, negatives_per_positive=1.0)
    one, two = (stack(**with_test(config=config)) for _ in range(2))
    assert np.array_equal(one.predictions, two.predictions)
    assert np.array_equal(one.test_predictions, two.test_predictions)
    pd.testing.assert_frame_equal(one.importance, two.importance)


def test_a_planted_signal_is_found_out_of_fold_and_named():
    given_inputs = inputs()
    result = stack(**given_inputs)
    assert roc_auc_score(given_inputs["targets"]["target"], result.predictions[:, 0]) > 0.85
    assert result.importance["feature"][0] == "number_0"
    assert result.importance["gain"].is_monotonic_decreasing and result.importance["gain"].sum() == pytest.approx(1)
    assert sorted(result.importance["feature"]) == [
        *(f"embedding_pc{component}" for component in range(3)),
        *(f"number_{column}" for column in range(3)),
        "site",
    ]


def test_progress_shows_on_a_terminal_alone(capsys, monkeypatch):
    stack(**inputs())
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(rich.get_console(), "is_interactive", True)  # decided when rich was first asked
    stack(**inputs())
    assert "Fitting LightGBM" in capsys.readouterr().out


def test_embeddings_alone_are_enough():
    embeddings = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float16)
    result = stack(
        **inputs(
            features=pd.DataFrame(index=range(ROWS)),
            embeddings=[embeddings],
            targets=pd.DataFrame({"target": (embeddings[:, 2] > 0.3).astype(int)}),
            config=ONE_SEED,
            test_features=pd.DataFrame(index=range(4)),
            test_embeddings=[embeddings[:4]],
        )
    )
    assert result.importance["feature"][0] == "embedding_2" and len(result.importance) == 3
    assert result.test_predictions.shape == (4, 1)


def test_regression_predicts_every_target_on_its_own():
    features = numbers(240)
    targets = pd.DataFrame(
        {"green": 30 + 9 * features["number_0"], "dead": np.abs(features["number_1"]), "total": -features["number_2"]}
    )
    given_inputs = inputs(
        features=features, embeddings=(), folds=np.arange(240) % 2, kind="regression", config=ONE_SEED
    )
    predictions = stack(**given_inputs | {"targets": targets}).predictions
    assert predictions.shape == (240, 3)
    for column, name in enumerate(targets):
        assert r2_score(targets[name], predictions[:, column]) > 0.7
    alone = stack(**given_inputs | {"targets": targets[["dead"]]}).predictions
    assert np.array_equal(alone[:, 0], predictions[:, 1])


@pytest.mark.parametrize("learner", ["lightgbm", "ridge", "gp"])
def test_each_target_is_learned_from_the_rows_of_which_it_is_known(learner):
    given_inputs = inputs(kind="regression", embeddings=(), config=StackConfig(seeds=1, learner=learner))
    given_inputs["features"] = numbers()
    targets = numbers(seed=5).abs().iloc[:, :2].set_axis(["dead", "green"], axis=1)
    unknown = np.arange(ROWS) % 5 == 0
    partly = stack(**given_inputs | {"targets": targets.assign(dead=targets["dead"].mask(unknown))}).predictions
    alone = stack(
        **given_inputs
        | {
            "targets": targets.loc[~unknown, ["dead"]],
            "features": given_inputs["features"][~unknown],
            "folds": given_inputs["folds"][~unknown],
        }
    ).predictions
    whole = stack(**given_inputs | {"targets": targets}).predictions
    assert np.isfinite(partly).all() and np.array_equal(partly[:, 1], whole[:, 1])
    assert learner != "lightgbm" or partly[~unknown, 0] == pytest.approx(alone[:, 0])


@pytest.mark.parametrize("pca", [None, 4])
@pytest.mark.parametrize("learner", ["ridge", "gp", "svr"])
def test_a_number_that_hardly_varies_elsewhere_does_not_blow_up_a_held_out_row(learner, pca):
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(ROWS, WIDTH)).astype(np.float32)
    embeddings[:, 5] = 1e-6 * embeddings[:, 5]
    embeddings[4, 5] = 10.0  # in fold 1 alone
    grams = pd.DataFrame({"grams": np.square(embeddings[:, 0])})
    given_inputs = inputs(kind="regression", embeddings=[embeddings], targets=grams)
    config = StackConfig(seeds=1, learner=learner, pca=pca)
    predictions = stack(**given_inputs | {"features": numbers()[[]], "config": config}).predictions
    assert predictions[4, 0] < 2 * grams["grams"].max()


def test_rows_of_fold_minus_one_are_learned_from_and_not_predicted():
    given_inputs = inputs(embeddings=(), config=ONE_SEED)
    folds = given_inputs["folds"].copy()
    folds[folds == 0] = -1
    result = stack(**given_inputs | {"folds": folds}).predictions
    assert np.isnan(result[folds == -1]).all() and np.isfinite(result[folds != -1]).all()
    assert np.array_equal(result[folds == 1], stack(**given_inputs).predictions[folds == 1])


def test_each_array_of_embeddings_has_components_of_its_own():
    generator = np.random.default_rng(5)
    arrays = [generator.normal(size=(ROWS, 6)), 1000 * generator.normal(size=(ROWS, 40))]
    target = arrays[0][:, 0] + arrays[1][:, 0] / 1000
    given_inputs = inputs(
        features=pd.DataFrame(index=range(ROWS)),
        embeddings=arrays,
        targets=pd.DataFrame({"number": target}),
        kind="regression",
        config=StackConfig(seeds=1, pca=6),
    )
    names = stack(**given_inputs).importance["feature"]
    assert sorted(names) == sorted(f"embedding{array}_pc{number}" for array in (0, 1) for number in range(6))


def test_a_gaussian_process_takes_as_many_components_as_there_are():
    config = StackConfig(learner="gp")
    given_inputs = inputs(targets=pd.DataFrame({"number": numbers()["number_0"] ** 2}), kind="regression")
    as_it_likes, all_of_them = (
        stack(**given_inputs | {"config": one}).predictions for one in (config, replace(config, pca=WIDTH))
    )
    assert np.array_equal(as_it_likes, all_of_them)


def test_few_rows_suit_a_gaussian_process_better_than_boosters():
    """A smooth function of ten columns and sixty rows."""
    generator = np.random.default_rng(6)
    values = generator.normal(size=(60, 10))
    given_inputs = inputs(
        features=pd.DataFrame(index=range(60)),
        embeddings=[values],
        targets=pd.DataFrame({"number": np.square(3 + values @ np.ones(10) / 5)}),
        folds=np.arange(60) % 3,
        kind="regression",
    )
    scores = {
        learner: r2_score(
            given_inputs["targets"], stack(**given_inputs | {"config": StackConfig(learner=learner)}).predictions
        )
        for learner in ("gp", "ridge", "lightgbm")
    }
    assert scores["gp"] > 0.95 and scores["ridge"] > 0.9 > scores["lightgbm"] + 0.2


# Draws


@given(
    target=st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=60).filter(lambda values: len(set(values)) == 2),
    ratio=st.floats(0.01, 100),
    seed=st.integers(0, 50),
)
def test_a_draw_keeps_all_positives_and_its_share_of_negatives(target, ratio, seed):
    values = np.array(target)
    rows = draw_rows(values, ratio, seed=seed)
    positives, negatives = target.count(1.0), target.count(0.0)
    assert values[rows].sum() == positives
    assert len(rows) == positives + min(max(1, round(ratio * positives)), negatives)
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(rows, draw_rows(values, ratio, seed=seed))


def test_a_draw_is_another_for_another_seed():
    target = np.repeat([1.0, 0.0], [10, 100])
    assert len(draw_rows(target, 2, seed=0)) == 30
    assert not np.array_equal(draw_rows(target, 2, seed=0), draw_rows(target, 2, seed=1))
    assert draw_rows(target, None, seed=0).tolist() == list(range(110))


# Test tables


def test_a_test_column_without_any_category_may_come_as_empty_numbers():
    given_inputs = with_test()
    empty = given_inputs["test_features"].assign(site=math.nan)
    as_numbers = stack(**with_test(test_features=empty)).test_predictions
    as_text = stack(**with_test(test_features=empty.astype({"site": object}))).test_predictions
    assert np.array_equal(as_numbers, as_text)


def test_a_test_column_without_any_number_may_come_as_empty_text():
    given_inputs = with_test()
    as_numbers, as_text = (
        stack(**with_test(test_features=given_inputs["test_features"].assign(number_0=empty)))
        for empty in (pd.Series(math.nan, range(20)), pd.Series(None, range(20), dtype=object))
    )
    assert np.array_equal(as_numbers.test_predictions, as_text.test_predictions)
    assert not np.array_equal(as_numbers.test_predictions, stack(**given_inputs).test_predictions)


def test_columns_of_the_test_table_may_stand_in_another_order():
    given_inputs = with_test()
    turned = given_inputs["test_features"].iloc[:, ::-1]
    assert np.array_equal(
        stack(**given_inputs).test_predictions, stack(**with_test(test_features=turned)).test_predictions
    )


# Messages

ONE_CLASS_OUTSIDE_2 = pd.DataFrame({"target": (np.arange(ROWS) % 3 == 2).astype(int)})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"targets": ONE_CLASS_OUTSIDE_2}, FoldError, "outside fold 2 hold one class of target"),
        ({"folds": np.zeros(ROWS, dtype=int)}, FoldError, "one fold"),
        ({"folds": np.full(ROWS, math.nan)}, FoldError, "float64"),
        ({"targets": pd.DataFrame({"target": np.arange(ROWS) % 4})}, DataError, "target is 2.0 in row 2; it must be 0 or 1"),
        ({"targets": pd.DataFrame({"dead": [math.nan] * ROWS}), "kind": "regression"}, FoldError, "known of fewer than 2"),
        ({"targets": pd.DataFrame({"dead": [math.inf] * ROWS}), "kind": "regression"}, DataError, "dead is inf in row 0"),
        ({"targets": pd.DataFrame({"target": [0, 1]})}, DataError, "120 rows of features, 2 of targets"),
        ({"embeddings": [np.zeros((7, WIDTH))]}, DataError, "120 training rows have 7 embeddings"),
        ({"features": pd.DataFrame(index=range(ROWS)), "embeddings": ()}, DataError, "no feature"),
        ({"features": numbers().rename(columns={"number_1": "embedding_0"})}, DataError, "twice.*\n  embedding_0"),
        ({"features": numbers().assign(area=[1, math.inf] * 60)}, DataError, "area is infinite .* in 60 .* first 1"),
        ({"features": numbers().assign(area=-1e39)}, DataError, "area is infinite"),
        ({"embeddings": [np.full((ROWS, WIDTH), np.inf)]}, DataError, "embedding_0 is infinite"),
        ({"embeddings": [np.full((ROWS, WIDTH), np.nan)]}, DataError, "120 training rows have no embedding"),
        ({"embeddings": ()}, ConfigError, "pca is 3, but the training rows have no embeddings"),
        ({"config": StackConfig(pca=7)}, ConfigError, "6 columns, so give 6 or less"),
        ({"config": StackConfig(pca=90), "embeddings": [np.zeros((ROWS, 100))]}, ConfigError, "rows of a fold are 80 .* 80 or less"),
        ({"config": StackConfig(learner="gp")}, ConfigError, "gp is for a regression, and this is a classification. Choose lightgbm, xgboost, catboost, logistic"),
        ({"config": StackConfig(learner="logistic"), "kind": "regression"}, ConfigError, "logistic is for a classification"),
        ({"config": StackConfig(target_transform="sqrt")}, ConfigError, "target_transform sqrt is for numbers"),
        ({"config": StackConfig(learner="ridge"), "targets": pd.DataFrame({"grams": [-0.5] * ROWS}), "kind": "regression"}, DataError, "grams is -0.5 in row 0; it must be 0 or more for target_transform sqrt"),
        ({"config": StackConfig(negatives_per_positive=2), "kind": "regression"}, ConfigError, "negatives_per_positive is for"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_says_so(changes, error, message):
    with pytest.raises(error, match=message):
        stack(**inputs(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_features": numbers(20).assign(site="leg", age=1)}, "training features lack .*\n  age"),
        ({"test_features": numbers(20)}, "test features lack .*\n  site"),
        ({"test_features": numbers(20).assign(site="leg", number_1="1.5 mm")}, "number_1 holds numbers in training and text in test"),
        ({"test_features": numbers(20).assign(site="leg", number_2=-math.inf)}, "number_2 is infinite .* 20 test rows"),
        ({"test_embeddings": [np.zeros((20, 2))]}, r"widths \[6\], test embeddings \[2\]"),
        ({"test_embeddings": ()}, r"widths \[6\], test embeddings \[\]"),
        ({"test_embeddings": [np.zeros((19, WIDTH))]}, "20 test rows have 19 embeddings"),
    ],
)  # fmt: skip
def test_a_test_table_that_does_not_fit_says_so(changes, message):
    with pytest.raises(DataError, match=message):
        stack(**with_test(**changes))


@pytest.mark.parametrize(
    "wrong", [{"seeds": 0}, {"pca": 0}, {"negatives_per_positive": 0.0}, {"seeds": 2, "learner": "gp"}]
)
def test_settings_out_of_range_say_so(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        StackConfig(**wrong)
