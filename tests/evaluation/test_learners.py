"""Learners for few rows: they learn, transform back, choose by inner folds that keep groups together."""

import numpy as np
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from biomass_pl.errors import FoldError
from biomass_pl.evaluation.boosters import predict
from biomass_pl.evaluation.learners import inner_folds, make_learner

ROWS = 90
GROUPS = np.arange(ROWS) // 6


def planted() -> tuple[np.ndarray, np.ndarray]:
    """Four columns of total variance 1, of which two decide about a target that is never below zero."""
    matrix = np.random.default_rng(0).normal(0, 0.5, (ROWS, 4)).astype(np.float32)
    noise = np.random.default_rng(1).normal(0, 0.1, ROWS)
    return matrix, np.square(2 + matrix[:, 0] - matrix[:, 1] + noise).astype(np.float64)


def fitted(
    learner: str, target: np.ndarray, *, kind: str = "regression", target_transform: str = "sqrt", seed: int = 0
):
    inner = inner_folds(target, GROUPS, kind=kind, seed=seed)
    made = make_learner(learner, kind=kind, target_transform=target_transform, seed=seed, rows=ROWS, inner=inner)
    return made.fit(planted()[0], target)


@pytest.mark.parametrize("target_transform", ["sqrt", "log1p", "none"])
@pytest.mark.parametrize("learner", ["ridge", "gp", "svr"])
def test_numbers_are_learned_and_transformed_back(learner, target_transform, recwarn):
    matrix, target = planted()
    predictions = predict(fitted(learner, target, target_transform=target_transform), matrix)
    assert predictions.shape == (ROWS,) and predictions.dtype == np.float64
    assert r2_score(target, predictions) > 0.85
    assert list(recwarn) == []


def test_boosters_learn_transformed_targets_too():
    pytest.importorskip("lightgbm")
    matrix, target = planted()
    made = make_learner("lightgbm", kind="regression", target_transform="sqrt", seed=0, rows=ROWS, inner=[])
    assert r2_score(target, predict(made.fit(matrix, target), matrix)) > 0.7


def test_classes_are_learned_as_probabilities():
    matrix, number = planted()
    target = (number > 6).astype(float)
    probabilities = predict(fitted("logistic", target, kind="classification", target_transform="none"), matrix)
    assert probabilities.min() >= 0 and probabilities.max() <= 1
    assert roc_auc_score(target, probabilities) > 0.95


@pytest.mark.parametrize("target_transform", ["sqrt", "log1p"])
def test_a_transform_predicts_nothing_below_zero(target_transform):
    matrix, _ = planted()
    target = np.clip(matrix[:, 0], 0, None).astype(float)
    predictions = predict(fitted("ridge", target, target_transform=target_transform), 10 * matrix)
    assert predictions.min() == 0 and predictions.max() > 1


@pytest.mark.parametrize("learner", ["ridge", "gp", "svr"])
def test_a_number_that_never_varies_is_predicted(learner):
    matrix, _ = planted()
    assert predict(fitted(learner, np.full(ROWS, 2.25)), matrix) == pytest.approx(2.25, abs=1e-6)


def test_the_unit_of_a_target_changes_nothing_but_the_unit():
    matrix, target = planted()
    for learner in ("ridge", "gp"):
        one, kilo = (predict(fitted(learner, unit * target, target_transform="none"), matrix) for unit in (1.0, 1000.0))
        assert kilo == pytest.approx(1000 * one, rel=1e-3)


# Inner folds


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_no_group_is_split_and_every_row_is_scored_once(kind):
    target = (np.arange(ROWS) % 3 == 0).astype(float)
    folds = inner_folds(target, GROUPS, kind=kind, seed=0)
    assert len(folds) == 5
    assert sorted(np.concatenate([scored for _, scored in folds])) == list(range(ROWS))
    for rows, scored in folds:
        assert not set(GROUPS[rows]) & set(GROUPS[scored])
        assert sorted([*rows, *scored]) == list(range(ROWS))


def test_another_seed_deals_groups_otherwise_and_the_same_seed_alike():
    deals = [inner_folds(np.zeros(ROWS), GROUPS, kind="regression", seed=seed) for seed in (0, 0, 1)]
    first, again, other = ([scored.tolist() for _, scored in deal] for deal in deals)
    assert first == again != other


@pytest.mark.parametrize(
    ("groups", "count"), [(np.repeat([0, 1, 2], 30), 3), (np.zeros(ROWS), 5), (np.repeat(["x"], ROWS), 5)]
)
def test_there_are_as_many_folds_as_groups_and_rows_where_there_is_one_group(groups, count):
    assert len(inner_folds(np.zeros(ROWS), groups, kind="regression", seed=0)) == count


def test_folds_whose_rows_are_of_one_class_are_left_out():
    target = np.zeros(ROWS)
    target[[0, 1, 6]] = 1  # in two groups
    folds = inner_folds(target, GROUPS, kind="classification", seed=0)
    assert folds and all(target[rows].any() for rows, _ in folds)


def test_too_little_to_choose_by_says_so():
    with pytest.raises(FoldError, match=r"1 row\(s\) are too few to choose hyperparameters by"):
        inner_folds(np.zeros(1), np.zeros(1), kind="regression", seed=0)
    one_group = (np.arange(12) < 6).astype(float)
    with pytest.raises(FoldError, match="in a single group"):
        inner_folds(one_group, np.arange(12) // 6, kind="classification", seed=0)


def test_hyperparameters_are_chosen_by_the_inner_folds_alone():
    """Rows that no inner fold scores or fits do not change what is chosen."""
    matrix, target = planted()
    noise = np.random.default_rng(3).normal(0, 3, ROWS) ** 2
    chosen = []
    for values in (target, noise):
        inner = inner_folds(values, GROUPS, kind="regression", seed=0)
        search = make_learner("ridge", kind="regression", target_transform="none", seed=0, rows=ROWS, inner=inner)
        chosen.append(search.fit(matrix, values).best_params_["regressor__alpha"])
    assert chosen[0] < chosen[1] == 100  # of noise, as little as can be
