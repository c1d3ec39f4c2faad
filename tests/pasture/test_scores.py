"""The two R2 scores against plain arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from biomass_pl.pasture.scores import mean_r2, pasture_scores, target_scores, weighted_r2
from biomass_pl.pasture.targets import TARGETS

# The worked example of the specification.
TRUTH = (
    ("16.2751", "31.9984", "0", "16.275", "48.2735"),
    ("7.6", "0", "0", "7.6", "7.6"),
    ("0", "0", "6.05", "6.05", "6.05"),
)
FORECAST = (
    ("18", "26", "1", "19", "45"),
    ("9", "1", ".5", "9.5", "10.5"),
    ("1.5", ".5", "5", "6.5", "7"),
)
WEIGHTS = [Fraction(tenths, 10) for tenths in (1, 1, 1, 2, 5)]

grams = arrays(np.float64, (6, 5), elements=st.floats(0, 200).map(lambda value: round(value, 3)))


def exact(rows: tuple[tuple[str, ...], ...]) -> list[list[Fraction]]:
    return [[Fraction(value) for value in row] for row in rows]


def r2(values: list[tuple[Fraction, Fraction, Fraction]]) -> Fraction:
    """R2 of (weight, truth, forecast), written out."""
    mean = sum(w * t for w, t, _ in values) / sum(w for w, _, _ in values)
    return 1 - sum(w * (t - f) ** 2 for w, t, f in values) / sum(w * (t - mean) ** 2 for w, t, _ in values)


def pooled_r2(truth: list[list[Fraction]], forecast: list[list[Fraction]]) -> Fraction:
    return r2(
        [
            (weight, true, guess)
            for true_row, guess_row in zip(truth, forecast, strict=True)
            for weight, true, guess in zip(WEIGHTS, true_row, guess_row, strict=True)
        ]
    )


def column_r2(truth: list[list[Fraction]], forecast: list[list[Fraction]], column: int) -> Fraction:
    return r2([(Fraction(1), true[column], guess[column]) for true, guess in zip(truth, forecast, strict=True)])


def example() -> tuple[np.ndarray, np.ndarray]:
    return np.array(TRUTH, dtype=float), np.array(FORECAST, dtype=float)


def test_weighted_r2_of_the_worked_example():
    score = weighted_r2(*example())
    assert score == pytest.approx(float(pooled_r2(exact(TRUTH), exact(FORECAST))), abs=1e-9)
    assert f"{score:.5f}" == "0.97888"


def test_mean_r2_of_the_worked_example():
    expected = sum(
        weight * column_r2(exact(TRUTH), exact(FORECAST), column) for column, weight in enumerate(WEIGHTS)
    ) / sum(WEIGHTS)
    score = mean_r2(*example())
    assert score == pytest.approx(float(expected), abs=1e-9)
    assert f"{score:.5f}" == "0.93375"


@settings(deadline=None, max_examples=50)
@given(truth=grams, forecast=grams)
def test_weighted_r2_equals_the_formula_for_any_table(truth, forecast):
    assume(np.ptp(truth) > 1)
    rows = [[Fraction(value) for value in row] for row in truth.tolist()]
    guesses = [[Fraction(value) for value in row] for row in forecast.tolist()]
    assert weighted_r2(truth, forecast) == pytest.approx(float(pooled_r2(rows, guesses)), rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(truth=grams)
def test_predicting_the_weighted_mean_everywhere_scores_zero(truth):
    assume(np.ptp(truth) > 1)
    weighted_mean = (truth * np.array([0.1, 0.1, 0.1, 0.2, 0.5])).sum() / len(truth)
    assert weighted_r2(truth, np.full_like(truth, weighted_mean)) == pytest.approx(0, abs=1e-9)


def test_predicting_the_plain_mean_scores_below_zero():
    truth, _ = example()
    assert weighted_r2(truth, np.full_like(truth, truth.mean())) < -0.01


def test_predicting_the_mean_of_each_target_scores_zero_in_mean_r2_and_more_in_weighted_r2():
    truth, _ = example()
    means = np.broadcast_to(truth.mean(axis=0), truth.shape)
    assert mean_r2(truth, means) == pytest.approx(0, abs=1e-12)
    assert weighted_r2(truth, means) > 0.1


def test_a_perfect_forecast_scores_one():
    truth, _ = example()
    assert weighted_r2(truth, truth) == 1 and mean_r2(truth, truth) == 1


def test_the_order_of_photos_changes_nothing():
    truth, forecast = example()
    assert weighted_r2(truth[::-1], forecast[::-1]) == pytest.approx(weighted_r2(truth, forecast), abs=1e-12)


def test_errors_in_the_total_weigh_five_times_those_in_green():
    truth, _ = example()
    losses = []
    for column in (0, 4):
        forecast = truth.copy()
        forecast[:, column] += 2
        losses.append(1 - weighted_r2(truth, forecast))
    assert losses[1] == pytest.approx(5 * losses[0])


def test_a_truth_that_never_varies_has_no_score():
    truth = np.full((4, 5), 3.0)
    assert math.isnan(weighted_r2(truth, truth)) and math.isnan(mean_r2(truth, truth))


def test_one_constant_target_leaves_weighted_r2_defined():
    truth, forecast = example()
    truth[:, 1] = 0  # no dead grass in Western Australia
    assert math.isnan(mean_r2(truth, forecast))
    assert math.isnan(target_scores(truth, forecast)["Dry_Dead_g"]["r2"])
    assert weighted_r2(truth, forecast) < 1


def test_a_single_photo_has_a_weighted_r2_but_no_mean_r2():
    truth, forecast = example()
    assert weighted_r2(truth[:1], forecast[:1]) == pytest.approx(
        float(pooled_r2(exact(TRUTH[:1]), exact(FORECAST[:1]))), abs=1e-9
    )
    assert math.isnan(mean_r2(truth[:1], forecast[:1]))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_diverged_forecast_has_no_score_and_is_no_error(wrong):
    truth, forecast = example()
    forecast[0, 2] = wrong
    assert math.isnan(weighted_r2(truth, forecast)) and math.isnan(mean_r2(truth, forecast))
    per_target = target_scores(truth, forecast)
    assert math.isnan(per_target["Dry_Clover_g"]["r2"]) and not math.isfinite(per_target["Dry_Clover_g"]["rmse"])
    assert math.isfinite(per_target["Dry_Green_g"]["r2"])


def test_scores_of_each_target_worked_by_hand():
    truth = np.array([[0.0, 1, 2, 2, 3], [4.0, 1, 2, 6, 7]])
    forecast = np.array([[3.0, 1, 2, 2, 3], [5.0, 1, 2, 6, 7]])
    scores = target_scores(truth, forecast)
    assert list(scores) == list(TARGETS)
    # green: errors 3 and 1, truth 2 off its mean twice
    assert scores["Dry_Green_g"] == pytest.approx({"r2": 1 - 10 / 8, "rmse": math.sqrt(5), "mae": 2.0})
    assert scores["GDM_g"] == {"r2": 1.0, "rmse": 0.0, "mae": 0.0}


def test_the_scores_of_an_epoch_are_those_of_the_tables():
    rng = np.random.default_rng(0)
    truth = 50 * rng.random((12, 5))
    prediction = truth + rng.normal(size=truth.shape)
    expected = {"weighted_r2": weighted_r2(truth, prediction), "mean_r2": mean_r2(truth, prediction)}
    expected |= {f"r2_{target}": values["r2"] for target, values in target_scores(truth, prediction).items()}
    found = pasture_scores(truth, prediction)
    assert found == expected and all(type(score) is float for score in found.values())
    assert set(found) == {"weighted_r2", "mean_r2", *(f"r2_{target}" for target in TARGETS)}


def test_a_large_common_offset_does_not_spoil_the_scores():
    rng = np.random.default_rng(1)
    truth = np.round(50 * rng.random((50, 5)))
    prediction = truth + np.round(rng.normal(size=truth.shape))
    assert weighted_r2(truth + 10_000, prediction + 10_000) == pytest.approx(weighted_r2(truth, prediction), abs=1e-9)


def test_scores_of_a_whole_fold_are_not_the_mean_of_its_batches():
    rng = np.random.default_rng(2)
    truth = 50 * rng.random((8, 5))
    truth[:4] += 100
    prediction = truth + rng.normal(size=truth.shape)
    halves = [weighted_r2(truth[half], prediction[half]) for half in (slice(0, 4), slice(4, 8))]
    assert pasture_scores(truth, prediction)["weighted_r2"] > max(halves)


def test_a_diverged_prediction_gives_nan_and_no_error():
    truth = 50 * np.random.default_rng(3).random((4, 5))
    assert np.isnan(list(pasture_scores(truth, truth * np.nan).values())).all()


def by_hand(truth, forecast):
    """The score of the known values, each with the weight of its target."""
    values = [
        (weight, Fraction(t), Fraction(f))
        for row in zip(truth.tolist(), forecast.tolist(), strict=True)
        for weight, t, f in zip(WEIGHTS, *row, strict=True)
        if not math.isnan(t)
    ]
    return float(r2(values))


@given(truth=grams, forecast=grams, unknown=arrays(np.bool_, (6, 5)))
def test_unknown_values_count_for_nothing(truth, forecast, unknown):
    known = truth[~unknown]
    assume(len(known) > 1 and np.ptp(known) > 0.01)
    partly = np.where(unknown, np.nan, truth)
    assert weighted_r2(partly, forecast) == pytest.approx(by_hand(partly, forecast), rel=1e-9, abs=1e-9)
    # Nor does what is predicted where nobody knows better.
    assert weighted_r2(partly, np.where(unknown, np.nan, forecast)) == weighted_r2(partly, forecast)


def test_totals_alone_are_scored_by_the_total_alone():
    truth, forecast = (np.array(exact(rows), dtype=float) for rows in (TRUTH, FORECAST))
    truth[:, :4] = np.nan
    total = r2([(Fraction(1), Fraction(t), Fraction(f)) for t, f in zip(truth[:, 4], forecast[:, 4], strict=True)])
    scores = pasture_scores(truth, forecast)
    assert set(scores) == {"weighted_r2", "mean_r2", "r2_Dry_Total_g"}
    assert list(scores.values()) == pytest.approx([float(total)] * 3)
    assert set(target_scores(truth, forecast)) == {"Dry_Total_g"}


def test_the_mean_of_r2_is_over_the_known_targets_with_their_weights():
    truth, forecast = (np.array(exact(rows), dtype=float) for rows in (TRUTH, FORECAST))
    truth[:, [0, 2, 3]] = np.nan
    scores = target_scores(truth, forecast)
    expected = (0.1 * scores["Dry_Dead_g"]["r2"] + 0.5 * scores["Dry_Total_g"]["r2"]) / 0.6
    assert mean_r2(truth, forecast) == pytest.approx(expected)


def test_where_nothing_is_known_there_is_no_score():
    nothing = np.full((3, 5), np.nan)
    scores = pasture_scores(nothing, np.ones((3, 5)))
    assert set(scores) == {"weighted_r2", "mean_r2"} and all(map(math.isnan, scores.values()))
