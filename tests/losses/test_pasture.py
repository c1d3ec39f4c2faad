"""The loss, part by part, worked by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.errors import ConfigError
from biomass_pl.losses.pasture import WeightedLoss, identity_gaps, share_divergence
from biomass_pl.targets import DEAD, SCORE_WEIGHTS, TARGETS

TRUTH = torch.tensor([[10.0, 4.0, 2.0, 12.0, 16.0], [0.0, 20.0, 0.0, 0.0, 20.0]])
PREDICTION = torch.tensor([[11.0, 6.0, 2.0, 15.0, 12.0], [2.0, 10.0, 4.0, 1.0, 22.0]])
# Squared errors: green 1, 4; dead 4, 100; clover 0, 16; GDM 9, 1; total 16, 4.
MEAN_SQUARED = (2.5, 52.0, 8.0, 5.0, 10.0)


def only(index: int) -> tuple[float, ...]:
    return tuple(float(place == index) for place in range(5))


@pytest.mark.parametrize("index", range(5), ids=TARGETS)
def test_squared_error_of_each_target(index):
    parts = WeightedLoss(target_weights=only(index), huber_for_dead=False)(PREDICTION, TRUTH, log_target=False)
    assert parts["regression"].item() == pytest.approx(MEAN_SQUARED[index])


def test_weights_add_the_targets_up():
    parts = WeightedLoss(target_weights=(1.0, 2.0, 3.0, 4.0, 5.0), huber_for_dead=False)(
        PREDICTION, TRUTH, log_target=False
    )
    assert parts["regression"].item() == pytest.approx(2.5 + 2 * 52 + 3 * 8 + 4 * 5 + 5 * 10)
    assert set(parts) == {"regression"}


def test_default_weights_are_those_of_the_score():
    loss = WeightedLoss()
    assert dict(zip(TARGETS, loss.target_weights, strict=True)) == dict(SCORE_WEIGHTS)


def test_huber_of_dead_is_square_below_delta_and_linear_above():
    # errors 2 and 10 with delta 5: 2**2 / 2 = 2, and 5 * (10 - 5 / 2) = 37.5
    parts = WeightedLoss(target_weights=only(DEAD))(PREDICTION, TRUTH, log_target=False)
    assert parts["regression"].item() == pytest.approx((2 + 37.5) / 2)


def test_huber_delta_moves_the_branch():
    # with delta 1 both are linear: 1 * (2 - .5) and 1 * (10 - .5)
    parts = WeightedLoss(target_weights=only(DEAD), huber_delta=1.0)(PREDICTION, TRUTH, log_target=False)
    assert parts["regression"].item() == pytest.approx((1.5 + 9.5) / 2)


def test_huber_is_for_dead_alone():
    parts = WeightedLoss(target_weights=(1.0, 0.0, 1.0, 1.0, 1.0), huber_delta=0.1)(PREDICTION, TRUTH, log_target=False)
    assert parts["regression"].item() == pytest.approx(2.5 + 8 + 5 + 10)


def test_log_target_compares_log1p():
    truth, prediction = torch.zeros(1, 5), torch.full((1, 5), math.e - 1)
    for huber, dead in ((False, 1.0), (True, 0.5)):
        parts = WeightedLoss(target_weights=(1.0, 1.0, 1.0, 1.0, 1.0), huber_for_dead=huber)(
            prediction, truth, log_target=True
        )
        assert parts["regression"].item() == pytest.approx(4 + dead, rel=1e-6)


def test_ratio_part_worked_by_hand():
    truth = torch.tensor([[4.0, 4.0, 0.0, 4.0, 8.0]])
    prediction = torch.tensor([[1.0, 2.0, 1.0, 2.0, 4.0]])
    # shares 1/2, 1/2, 0 against 1/4, 1/2, 1/4: KL = ln 2 / 2 + 0 + 0
    assert share_divergence(prediction, truth).item() == pytest.approx(math.log(2) / 2, rel=1e-6)
    parts = WeightedLoss(ratio_weight=3.0)(prediction, truth, log_target=False)
    assert set(parts) == {"regression", "ratio"}
    assert parts["ratio"].item() == pytest.approx(1.5 * math.log(2), rel=1e-6)


def test_ratio_part_leaves_photos_without_grams_out():
    truth = torch.tensor([[4.0, 4.0, 0.0, 4.0, 8.0], [0.0] * 5, [0.0] * 5])
    prediction = torch.tensor([[1.0, 2.0, 1.0, 2.0, 4.0], [9.0, 0.0, 1.0, 10.0, 10.0], [1.0] * 5])
    assert share_divergence(prediction, truth).item() == pytest.approx(math.log(2) / 2, rel=1e-6)
    assert share_divergence(prediction[1:], truth[1:]).item() == 0


amount = st.floats(0.1, 100.0)


@settings(deadline=None, max_examples=60)
@given(parts=st.tuples(amount, amount, amount), other=st.tuples(amount, amount, amount), scale=st.floats(0.1, 10.0))
def test_ratio_part_is_zero_for_equal_shares_and_never_negative(parts, other, scale):
    def grams(green: float, dead: float, clover: float) -> torch.Tensor:
        return torch.tensor([[green, dead, clover, green + clover, green + dead + clover]])

    truth = grams(*parts)
    assert share_divergence(scale * truth, truth).item() == pytest.approx(0, abs=1e-6)
    assert share_divergence(grams(*other), truth).item() >= -1e-6


def test_constraint_part_worked_by_hand():
    # GDM 15 for 11 + 2 and 1 for 2 + 4: gaps 2 and -5; total 12 for 15 + 6 and 22 for 1 + 10: gaps -9 and 11
    expected = (4 + 25) / 2 + (81 + 121) / 2
    assert identity_gaps(PREDICTION, log_target=False).item() == pytest.approx(expected)
    parts = WeightedLoss(constraint_weight=0.05)(PREDICTION, TRUTH, log_target=False)
    assert set(parts) == {"regression", "constraint"}
    assert parts["constraint"].item() == pytest.approx(0.05 * expected)


def test_constraint_part_is_on_the_scale_of_the_loss():
    e = math.e
    prediction = torch.tensor([[0.0, 0.0, 0.0, e - 1, e**3 - 1]])
    # log1p: GDM 1 against 0, total 3 against log1p(GDM + 0) = 1
    assert identity_gaps(prediction, log_target=True).item() == pytest.approx(1 + 4, rel=1e-5)
    parts = WeightedLoss(constraint_weight=0.5)(prediction, prediction, log_target=True)
    assert parts["constraint"].item() == pytest.approx(2.5, rel=1e-5)


@pytest.mark.parametrize("log_target", [False, True])
def test_constraint_part_is_zero_for_consistent_predictions(log_target):
    assert identity_gaps(TRUTH, log_target=log_target).item() == 0


def test_a_perfect_prediction_costs_nothing():
    loss = WeightedLoss(ratio_weight=1.0, constraint_weight=1.0)
    for log_target in (False, True):
        parts = loss(TRUTH, TRUTH, log_target=log_target)
        assert set(parts) == {"regression", "ratio", "constraint"}
        assert all(part.item() == pytest.approx(0, abs=1e-5) for part in parts.values())


@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("truth", [torch.zeros(2, 5), TRUTH])
def test_gradients_are_finite_where_predictions_are_zero(truth, log_target):
    prediction = torch.zeros(2, 5, requires_grad=True)
    parts = WeightedLoss(ratio_weight=1.0, constraint_weight=1.0)(prediction, truth, log_target=log_target)
    torch.stack(list(parts.values())).sum().backward()
    assert all(part.isfinite() for part in parts.values())
    assert prediction.grad is not None and prediction.grad.isfinite().all()


def test_the_loss_falls_towards_the_truth():
    prediction = PREDICTION.clone().requires_grad_()
    loss = WeightedLoss(ratio_weight=1.0, constraint_weight=0.1)
    optimizer = torch.optim.SGD([prediction], lr=0.05)
    sums = []
    for _ in range(20):
        total = torch.stack(list(loss(prediction, TRUTH, log_target=False).values())).sum()
        sums.append(total.item())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert sums[-1] < 0.7 * sums[0]


@pytest.mark.parametrize(
    ("settings_", "named"),
    [
        ({"target_weights": (1.0, 1.0)}, "target_weights"),
        ({"target_weights": (1.0, 1.0, 1.0, 1.0, -0.1)}, "target_weights"),
        ({"target_weights": (0.0,) * 5}, "target_weights"),
        ({"huber_delta": 0.0}, "huber_delta"),
        ({"huber_delta": -5.0}, "huber_delta"),
        ({"ratio_weight": -1.0}, "ratio_weight"),
        ({"constraint_weight": -0.05}, "constraint_weight"),
    ],
)
def test_a_setting_that_cannot_work_is_named(settings_, named):
    with pytest.raises(ConfigError, match=rf"model\.loss\.{named} is .*; give "):
        WeightedLoss(**settings_)
