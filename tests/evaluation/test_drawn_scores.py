"""R2 of drawn items: as scikit-learn has it of items that are repeated."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from biomass_pl.evaluation.drawn_scores import drawn_mean_r2, drawn_r2

ITEMS = 40
EQUAL = np.ones(2)


def planted() -> tuple[np.ndarray, np.ndarray]:
    """Truth and a prediction near it, two targets each."""
    generator = np.random.default_rng(0)
    truth = generator.normal(5, 2, (ITEMS, 2))
    return truth, truth + generator.normal(size=truth.shape)


def test_items_count_as_often_as_they_were_drawn():
    truth, prediction = planted()
    counts = np.random.default_rng(0).integers(0, 3, (5, ITEMS))
    expected = [r2_score(np.repeat(truth, times, axis=0), np.repeat(prediction, times, axis=0)) for times in counts]
    assert drawn_mean_r2(truth, prediction, EQUAL, counts) == pytest.approx(expected)


def test_targets_count_by_their_weights_over_the_items_of_which_they_are_known():
    truth, prediction = planted()
    truth[:10, 1] = np.nan
    first, second = r2_score(truth[:, 0], prediction[:, 0]), r2_score(truth[10:, 1], prediction[10:, 1])
    once = np.ones((1, ITEMS), dtype=int)
    assert drawn_mean_r2(truth, prediction, np.array([3.0, 1.0]), once) == pytest.approx([(3 * first + second) / 4])
    assert drawn_r2(truth[:, 1], prediction[:, 1], once) == pytest.approx([second])


def test_a_draw_without_spread_has_no_score_and_a_target_without_one_is_left_out():
    truth, prediction = planted()
    single = np.zeros((1, ITEMS), dtype=int)
    single[0, 20] = 3
    assert np.isnan(drawn_mean_r2(truth, prediction, EQUAL, single)).all()
    truth[:, 1] = 7
    once = np.ones((1, ITEMS), dtype=int)
    assert drawn_mean_r2(truth, prediction, EQUAL, once) == pytest.approx([r2_score(truth[:, 0], prediction[:, 0])])


def test_far_from_zero_no_digits_are_lost():
    truth, prediction = planted()
    once = np.ones((1, ITEMS), dtype=int)
    near = drawn_r2(truth[:, 0], prediction[:, 0], once)
    assert drawn_r2(truth[:, 0] + 1e6, prediction[:, 0] + 1e6, once) == pytest.approx(near, rel=1e-6)
