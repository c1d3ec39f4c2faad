"""The standardised loss, worked by hand, with what was not measured."""

import math

import pytest
import torch

from biomass_pl.trait.losses import standardised_loss

NAN = math.nan
SPREADS, EQUAL = torch.tensor([10.0, 0.1]), torch.ones(2)


def loss(prediction, target, *, weights=EQUAL, name="mse", spreads=SPREADS):
    return standardised_loss(
        torch.as_tensor(prediction), torch.tensor(target), spreads=spreads, weights=weights, name=name
    )


def test_errors_count_in_spreads_of_their_target():
    # 2 and 3 spreads, -1 and 0
    assert loss([[20.0, 0.3], [0.0, 1.0]], [[0.0, 0.0], [10.0, 1.0]]).item() == pytest.approx((4 + 9 + 1 + 0) / 4)


def test_smooth_l1_grows_linearly_from_one_spread_on():
    found = loss([[5.0, 0.3]], [[0.0, 0.0]], name="smooth_l1")
    assert found.item() == pytest.approx((0.5 * 0.25 + 2.5) / 2)


def test_what_was_not_measured_is_skipped_and_gets_no_gradient():
    prediction = torch.tensor([[20.0, 5.0], [0.0, 0.1]], requires_grad=True)
    found = loss(prediction, [[0.0, NAN], [NAN, 0.0]])
    assert found.item() == pytest.approx((4 + 1) / 2)
    found.backward()
    assert prediction.grad.isfinite().all()
    assert prediction.grad[0, 1] == prediction.grad[1, 0] == 0 and (prediction.grad != 0).sum() == 2


def test_weights_are_shared_among_what_was_measured():
    found = loss([[20.0, 0.1], [0.0, 0.0]], [[0.0, 0.0], [NAN, NAN]], weights=torch.tensor([3.0, 1.0]))
    assert found.item() == pytest.approx((3 * 4 + 1 * 1) / 4)


def test_a_batch_without_any_number_costs_nothing():
    prediction = torch.ones(2, 2, requires_grad=True)
    found = loss(prediction, [[NAN, NAN], [NAN, NAN]])
    found.backward()
    assert found.item() == 0 and not prediction.grad.any()


def test_the_unit_of_a_target_does_not_matter():
    prediction, target = torch.tensor([[3.0, 0.5], [1.0, 0.2]]), [[2.0, 0.1], [5.0, 0.3]]
    scale = torch.tensor([1000.0, 1e-3])
    scaled = standardised_loss(
        prediction * scale, torch.tensor(target) * scale, spreads=SPREADS * scale, weights=EQUAL, name="smooth_l1"
    )
    assert scaled.item() == pytest.approx(loss(prediction, target, name="smooth_l1").item(), rel=1e-5)
