"""The loss, part by part, worked by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.errors import ConfigError
from biomass_pl.pasture.losses import DeadAware, FocalMSE, WeightedLoss, identity_gaps, share_divergence, total_gap
from biomass_pl.pasture.targets import DEAD, GDM, SCORE_WEIGHTS, TARGETS, TOTAL

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


# Errors: green 1, 2; dead 2, -10; clover 0, 4; GDM 3, 1; total -4, 2. Each is weighted by its share of the larger one.
FOCAL = ((0.5 * 1 + 4) / 2, (0.2 * 4 + 100) / 2, 16 / 2, (9 + 1 / 3) / 2, (16 + 0.5 * 4) / 2)


@pytest.mark.parametrize("index", range(5), ids=TARGETS)
def test_focal_error_of_each_target(index):
    loss = FocalMSE(target_weights=only(index), constraint_weight=0)
    parts = loss(PREDICTION, TRUTH, log_target=False)
    assert set(parts) == {"regression"}
    assert parts["regression"].item() == pytest.approx(FOCAL[index])


@pytest.mark.parametrize(("gamma", "floor", "weight"), [(2.0, 0.01, 0.04), (2.0, 0.1, 0.1), (1.0, 0.5, 0.5)])
def test_focal_weight_falls_with_gamma_to_the_floor(gamma, floor, weight):
    loss = FocalMSE(target_weights=only(DEAD), gamma=gamma, floor=floor)
    # the smaller error of Dead is 2 / 10 of the larger
    assert loss(PREDICTION, TRUTH, log_target=False)["regression"].item() == pytest.approx((weight * 4 + 100) / 2)


def test_focal_targets_are_weighted_and_equal_by_default():
    assert FocalMSE()(PREDICTION, TRUTH, log_target=False)["regression"].item() == pytest.approx(sum(FOCAL) / 5)
    weights = (1.0, 2.0, 3.0, 4.0, 5.0)
    expected = sum(weight * error for weight, error in zip(weights, FOCAL, strict=True))
    parts = FocalMSE(target_weights=weights)(PREDICTION, TRUTH, log_target=False)
    assert parts["regression"].item() == pytest.approx(expected)


def test_no_gradient_flows_through_the_focal_weights():
    prediction = PREDICTION.clone().requires_grad_()
    FocalMSE(target_weights=only(DEAD), constraint_weight=0)(prediction, TRUTH, log_target=False)[
        "regression"
    ].backward()
    # weight * 2 * error / 2 photos
    assert prediction.grad[:, DEAD].tolist() == pytest.approx([0.2 * 2, -10.0])


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), gamma=st.floats(0, 4), floor=st.floats(0, 1), log_target=st.booleans())
def test_focal_error_lies_between_its_floor_and_the_squared_error(seed, gamma, floor, log_target):
    prediction, truth = 50 * torch.rand(2, 6, 5, generator=torch.Generator().manual_seed(seed))
    focal = FocalMSE(gamma=gamma, floor=floor)(prediction, truth, log_target=log_target)["regression"].item()
    plain = WeightedLoss(target_weights=(0.2,) * 5, huber_for_dead=False)
    squared = plain(prediction, truth, log_target=log_target)["regression"].item()
    assert floor * squared * (1 - 1e-5) <= focal <= squared * (1 + 1e-5)
    if gamma == 0 or floor == 1:
        assert focal == pytest.approx(squared, rel=1e-5)


def test_focal_constraint_is_that_of_the_identities():
    parts = FocalMSE()(PREDICTION, TRUTH, log_target=True)
    assert parts["constraint"].item() == pytest.approx(0.05 * identity_gaps(PREDICTION, log_target=True).item())


def test_dead_aware_compares_dead_by_huber_in_log_space_on_either_scale():
    # ln 7 / 5 is below 1: squared; with delta .5 the other, ln 11 / 21, is beyond it: linear
    small, large = math.log(7 / 5), math.log(21 / 11)
    for log_target in (False, True):
        parts = DeadAware(target_weights=only(DEAD))(PREDICTION, TRUTH, log_target=log_target)
        assert parts["regression"].item() == pytest.approx((small**2 + large**2) / 4, rel=1e-5)
        parts = DeadAware(target_weights=only(DEAD), huber_delta=0.5)(PREDICTION, TRUTH, log_target=log_target)
        assert parts["regression"].item() == pytest.approx((small**2 / 2 + 0.5 * (large - 0.25)) / 2, rel=1e-5)


@pytest.mark.parametrize("index", [index for index in range(5) if index != DEAD])
def test_dead_aware_compares_the_others_on_the_scale_of_the_loss(index):
    loss = DeadAware(target_weights=only(index))
    assert loss(PREDICTION, TRUTH, log_target=False)["regression"].item() == pytest.approx(MEAN_SQUARED[index])
    gaps = (PREDICTION[:, index].log1p() - TRUTH[:, index].log1p()).square().mean()
    assert loss(PREDICTION, TRUTH, log_target=True)["regression"].item() == pytest.approx(gaps.item())


def test_dead_aware_parts_worked_by_hand():
    parts = DeadAware()(PREDICTION, TRUTH, log_target=False)
    assert set(parts) == {"regression", "dead_derived", "constraint"}
    # total - GDM is -3, taken as 0, and 21, against dead 6 and 10; total 12 and 22 against GDM + dead 21 and 11
    assert parts["dead_derived"].item() == pytest.approx(0.2 * (36 + 121) / 2)
    assert parts["constraint"].item() == pytest.approx(0.2 * (81 + 121) / 2)
    assert set(DeadAware(auxiliary_weight=0)(PREDICTION, TRUTH, log_target=False)) == {"regression"}


def test_dead_aware_parts_are_on_the_scale_of_the_loss():
    e = math.e
    prediction = torch.tensor([[0.0, e**2 - 1, 0.0, 0.0, e - 1]])
    # log1p: dead 2 against derived 1, total 1 against 2
    parts = DeadAware(auxiliary_weight=0.5)(prediction, prediction, log_target=True)
    assert parts["dead_derived"].item() == pytest.approx(0.5, rel=1e-5)
    assert parts["constraint"].item() == pytest.approx(0.5, rel=1e-5)
    assert total_gap(prediction, log_target=True).item() == pytest.approx(1, rel=1e-5)


def test_dead_follows_total_and_gdm_which_do_not_follow_it():
    prediction = PREDICTION.clone().requires_grad_()
    DeadAware()(prediction, TRUTH, log_target=False)["dead_derived"].backward()
    assert prediction.grad[:, DEAD].tolist() == pytest.approx([0.2 * 6, 0.2 * -11])
    assert not prediction.grad[:, [GDM, TOTAL]].any()


@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("loss", [FocalMSE(), DeadAware()], ids=["focal", "dead aware"])
def test_alternative_losses_cost_nothing_for_the_truth_and_stay_finite_at_zero(loss, log_target):
    assert all(part.item() == 0 for part in loss(TRUTH, TRUTH, log_target=log_target).values())
    prediction = torch.zeros(2, 5, requires_grad=True)
    torch.stack(list(loss(prediction, TRUTH, log_target=log_target).values())).sum().backward()
    assert prediction.grad.isfinite().all() and (prediction.grad < 0).any()


@pytest.mark.parametrize(
    ("loss", "settings_", "named"),
    [
        (FocalMSE, {"target_weights": (0.0,) * 5}, "target_weights"),
        (FocalMSE, {"gamma": -1.0}, "gamma"),
        (FocalMSE, {"floor": -0.1}, "floor"),
        (FocalMSE, {"floor": 1.1}, "floor"),
        (FocalMSE, {"constraint_weight": -1.0}, "constraint_weight"),
        (DeadAware, {"target_weights": (1.0,) * 4}, "target_weights"),
        (DeadAware, {"huber_delta": 0.0}, "huber_delta"),
        (DeadAware, {"auxiliary_weight": -0.1}, "auxiliary_weight"),
    ],
)
def test_a_setting_of_an_alternative_loss_that_cannot_work_is_named(loss, settings_, named):
    with pytest.raises(ConfigError, match=rf"model\.loss\.{named} is .*; give "):
        loss(**settings_)


NO = math.nan
LOSSES = [
    WeightedLoss(ratio_weight=1.0, constraint_weight=0.5),
    WeightedLoss(huber_for_dead=False),
    FocalMSE(),
    DeadAware(),
]


@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_photos_without_any_known_grams_change_neither_loss_nor_gradient(loss, log_target):
    def parts(prediction, truth):
        prediction = prediction.clone().requires_grad_()
        found = loss(prediction, truth, log_target=log_target)
        (found["regression"] + found.get("ratio", 0)).backward()
        return found, prediction.grad

    alone, gradient = parts(PREDICTION, TRUTH)
    unknown = torch.full((3, 5), NO)
    together, wider = parts(torch.cat([PREDICTION, PREDICTION, PREDICTION[:1]]), torch.cat([TRUTH, unknown]))
    for name in set(alone) & {"regression", "ratio"}:
        torch.testing.assert_close(together[name], alone[name])
    torch.testing.assert_close(wider[:2], gradient)
    assert (wider[2:] == 0).all()


def test_each_target_is_compared_where_it_is_known():
    truth = TRUTH.clone()
    truth[0, TOTAL], truth[:, GDM] = NO, NO
    loss = WeightedLoss(target_weights=(1.0, 0.0, 0.0, 1.0, 1.0), huber_for_dead=False)
    # green 2.5 as before, GDM nothing, total 4 of the second photo alone
    assert loss(PREDICTION, truth, log_target=False)["regression"].item() == pytest.approx(2.5 + 4)


@pytest.mark.parametrize("loss", LOSSES)
def test_totals_alone_teach_the_total_alone(loss):
    truth = torch.full((2, 5), NO)
    truth[:, TOTAL] = TRUTH[:, TOTAL]
    prediction = PREDICTION.clone().requires_grad_()
    loss(prediction, truth, log_target=False)["regression"].backward()
    assert (prediction.grad[:, TOTAL] != 0).all() and (prediction.grad[:, :TOTAL] == 0).all()


def test_shares_are_compared_where_all_three_parts_are_known():
    truth = torch.tensor([[4.0, 4.0, 0.0, 4.0, 8.0], [4.0, NO, 0.0, 4.0, NO]])
    prediction = torch.tensor([[1.0, 2.0, 1.0, 2.0, 4.0]]).expand(2, 5)
    assert share_divergence(prediction, truth).item() == pytest.approx(math.log(2) / 2, rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_in_which_nothing_is_known_has_no_loss(loss):
    assert loss(PREDICTION, torch.full((2, 5), NO), log_target=False)["regression"].item() == 0
