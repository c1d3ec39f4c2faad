"""Losses over one logit per picture, worked by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biomass_pl.errors import ConfigError
from biomass_pl.lesion.losses import BinaryLoss, CrossEntropyLoss, FocalLoss

LOGITS = torch.tensor([2.0, -1.0, 0.5, -3.0])
TARGET = torch.tensor([1.0, 1.0, 0.0, 0.0])
CROSS_ENTROPY = (
    math.log1p(math.exp(-2)),
    math.log1p(math.exp(1)),
    math.log1p(math.exp(0.5)),
    math.log1p(math.exp(-3)),
)


# Reference values computed with torchvision's sigmoid_focal_loss, checked against the formula of the paper.
@pytest.mark.parametrize(
    ("alpha", "gamma", "mean"),
    [(0.25, 2.0, 0.1147647), (0.75, 2.0, 0.1555335), (0.25, 0.0, 0.2817614), (0.5, 0.0, 0.3078567)],
)
def test_focal_loss_is_the_published_one(alpha, gamma, mean):
    assert FocalLoss(alpha=alpha, gamma=gamma)(LOGITS, TARGET).item() == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize(("item", "expected"), list(enumerate((0.000450891, 0.175467, 0.283059, 0.0000819624))))
def test_each_item_of_the_default_focal_loss(item, expected):
    chosen = slice(item, item + 1)
    assert FocalLoss()(LOGITS[chosen], TARGET[chosen]).item() == pytest.approx(expected, abs=1e-6)


def test_without_focus_and_with_equal_weights_focal_loss_is_half_the_cross_entropy():
    cross_entropy = sum(CROSS_ENTROPY) / 4
    assert cross_entropy == pytest.approx(0.6157135, abs=1e-7)
    assert CrossEntropyLoss()(LOGITS, TARGET).item() == pytest.approx(cross_entropy, abs=1e-6)
    assert FocalLoss(alpha=0.5, gamma=0)(LOGITS, TARGET).item() == pytest.approx(cross_entropy / 2, abs=1e-6)


def test_alpha_is_the_weight_of_positives():
    positive, negative = torch.ones(1), torch.zeros(1)
    logits = torch.zeros(1)  # both are wrong by as much
    loss = FocalLoss(alpha=0.8, gamma=0)
    assert loss(logits, positive).item() == pytest.approx(0.8 * math.log(2), abs=1e-6)
    assert loss(logits, negative).item() == pytest.approx(0.2 * math.log(2), abs=1e-6)


@given(
    logit=st.floats(-8, 8),
    target=st.sampled_from([0.0, 1.0]),
    alpha=st.floats(0, 1),
    gamma=st.just(0) | st.floats(1, 5),
)
def test_focal_loss_lies_between_nothing_and_the_weighted_cross_entropy(logit, target, alpha, gamma):
    logits, targets = torch.tensor([logit]), torch.tensor([target])
    weight = alpha if target else 1 - alpha
    focal = FocalLoss(alpha=alpha, gamma=gamma)(logits, targets).item()
    assert 0 <= focal <= weight * CrossEntropyLoss()(logits, targets).item() + 1e-6


@pytest.mark.parametrize("loss", [FocalLoss(), FocalLoss(gamma=1), CrossEntropyLoss()], ids=["2", "1", "plain"])
def test_extreme_logits_have_finite_losses_and_gradients(loss):
    logits = torch.tensor([200.0, -200.0, 200.0, -200.0], requires_grad=True)
    value = loss(logits, TARGET)
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", [FocalLoss(), CrossEntropyLoss()], ids=["focal", "cross-entropy"])
def test_a_loss_pulls_logits_towards_their_targets(loss):
    assert isinstance(loss, BinaryLoss)
    logits = LOGITS.clone().requires_grad_()
    loss(logits, TARGET).backward()
    assert logits.grad.sign().tolist() == [-1, -1, 1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -0.1}, "FocalLoss.alpha is -0.1; give a weight from 0 to 1"),
        ({"alpha": 1.1}, "FocalLoss.alpha is 1.1; give"),
        ({"alpha": math.nan}, "FocalLoss.alpha is nan; give"),
        ({"gamma": -1.0}, "FocalLoss.gamma is -1.0; give 0, or 1 or more"),
        ({"gamma": math.nan}, "FocalLoss.gamma is nan; give"),
        ({"gamma": 0.5}, "FocalLoss.gamma is 0.5; give"),
        ({"gamma": math.inf}, "FocalLoss.gamma is inf; give"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        FocalLoss(**settings)


@pytest.mark.parametrize("settings", [{"alpha": 0.0}, {"alpha": 1.0}, {"gamma": 0.0}])
def test_settings_at_the_edge_of_the_range_are_taken(settings):
    assert FocalLoss(**settings)(LOGITS, TARGET).isfinite()
