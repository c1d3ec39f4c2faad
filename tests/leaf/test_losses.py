"""Losses over one logit per class, worked by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812
from torchvision.ops import sigmoid_focal_loss

from biomass_pl.errors import ConfigError, DataError
from biomass_pl.leaf.losses import ClassLoss, CombinedLoss, CrossEntropyLoss, FocalLoss, class_weights

# Probabilities .5 .25 .25 of the first photo, .1 .7 .2 of the second.
PROBABILITIES = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.7, 0.2]])
LOGITS = PROBABILITIES.log() + torch.tensor([[3.0], [-2.0]])  # what a row is shifted by changes nothing
FIRST_AND_THIRD = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
SHARED = torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.5, 0.5]])
WEIGHTS = torch.tensor([2.0, 1.0, 0.5])
LOG = math.log

LOSSES = [CrossEntropyLoss(), CrossEntropyLoss(label_smoothing=0.1), FocalLoss(), FocalLoss(gamma=1), CombinedLoss()]
NAMES = ["plain", "smoothed", "focal", "focal 1", "combined"]


@pytest.mark.parametrize(
    ("target", "weights", "expected"),
    [
        (FIRST_AND_THIRD, None, (LOG(2) + LOG(5)) / 2),
        (FIRST_AND_THIRD, WEIGHTS, (2 * LOG(2) + 0.5 * LOG(5)) / 2),
        (SHARED, None, (0.75 * LOG(2) + 0.25 * LOG(4) - 0.5 * LOG(0.7) + 0.5 * LOG(5)) / 2),
        (SHARED, WEIGHTS, (1.5 * LOG(2) + 0.25 * LOG(4) - 0.5 * LOG(0.7) + 0.25 * LOG(5)) / 2),
    ],
)
def test_cross_entropy_by_hand(target, weights, expected):
    assert CrossEntropyLoss()(LOGITS, target, weights).item() == pytest.approx(expected, abs=1e-6)


def test_smoothing_spreads_a_share_over_all_classes_which_weigh_as_they_do():
    """.3 of each target is spread: .1 to each class, .8 in all for the true one."""
    first = 0.8 * 2 * LOG(2) + 0.1 * 1 * LOG(4) + 0.1 * 0.5 * LOG(4)
    second = 0.1 * 2 * LOG(10) - 0.1 * 1 * LOG(0.7) + 0.8 * 0.5 * LOG(5)
    loss = CrossEntropyLoss(label_smoothing=0.3)(LOGITS, FIRST_AND_THIRD, WEIGHTS)
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("gamma", "target", "weights", "expected"),
    [
        (2.0, FIRST_AND_THIRD, None, (0.25 * LOG(2) + 0.64 * LOG(5)) / 2),
        (1.0, FIRST_AND_THIRD, None, (0.5 * LOG(2) + 0.8 * LOG(5)) / 2),
        (2.0, FIRST_AND_THIRD, WEIGHTS, (2 * 0.25 * LOG(2) + 0.5 * 0.64 * LOG(5)) / 2),
        (
            2.0,
            SHARED,
            WEIGHTS,
            (0.75 * 2 * 0.25 * LOG(2) + 0.25 * 0.5625 * LOG(4) - 0.5 * 0.09 * LOG(0.7) + 0.5 * 0.5 * 0.64 * LOG(5)) / 2,
        ),
    ],
)
def test_focal_loss_by_hand(gamma, target, weights, expected):
    assert FocalLoss(gamma=gamma)(LOGITS, target, weights).item() == pytest.approx(expected, abs=1e-6)


def test_the_combined_loss_smooths_its_cross_entropy_alone():
    focal = (0.25 * LOG(2) + 0.64 * LOG(5)) / 2
    smoothed = (0.8 * LOG(2) + 0.2 * LOG(4) + 0.1 * LOG(10) - 0.1 * LOG(0.7) + 0.8 * LOG(5)) / 2
    loss = CombinedLoss(focal_weight=0.25, gamma=2, label_smoothing=0.3)
    assert loss(LOGITS, FIRST_AND_THIRD).item() == pytest.approx(0.25 * focal + 0.75 * smoothed, abs=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_the_combined_loss_is_half_and_half_as_published(weights):
    halves = FocalLoss(gamma=2), CrossEntropyLoss(label_smoothing=0.1)
    expected = sum(half(LOGITS, SHARED, weights).item() for half in halves) / 2
    assert CombinedLoss()(LOGITS, SHARED, weights).item() == pytest.approx(expected, abs=1e-7)


def test_two_classes_have_the_focal_loss_of_their_one_logit():
    """The softmax of (0, z) is the sigmoid of z."""
    logit = torch.tensor([2.0, -1.0, 0.5, -3.0])
    target = torch.tensor([1.0, 1.0, 0.0, 0.0])
    expected = sigmoid_focal_loss(logit, target, alpha=-1, gamma=2.0, reduction="mean")
    pair = torch.stack([torch.zeros(4), logit], dim=1)
    assert FocalLoss()(pair, F.one_hot(target.long(), 2)).item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_numbers_give_pytorchs_cross_entropy(smoothing):
    logits, labels = torch.randn(8, 4, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 4
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    loss = CrossEntropyLoss(label_smoothing=smoothing)(logits, F.one_hot(labels).float())
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_weights_with_a_mean_of_one_over_the_batch_give_pytorchs_weighted_mean():
    logits, labels = (
        torch.randn(8, 3, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0, 0, 0, 0, 1, 1, 1, 2]),
    )
    weights = class_weights({"a": 4, "b": 3, "c": 1})
    expected = F.cross_entropy(logits, labels, weight=weights)
    loss = CrossEntropyLoss()(logits, F.one_hot(labels).float(), weights)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(
    share=st.floats(0, 1), seed=st.integers(0, 1000), which=st.sampled_from(range(len(LOSSES))), weighted=st.booleans()
)
def test_the_loss_of_a_mixed_pair_is_the_mix_of_both_losses(share, seed, which, weighted):
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(6, 3, generator=generator)
    one, other = (F.one_hot(torch.randint(3, (6,), generator=generator), 3).float() for _ in range(2))
    loss, weights = LOSSES[which], WEIGHTS if weighted else None
    mixed = loss(logits, share * one + (1 - share) * other, weights).item()
    pair = share * loss(logits, one, weights).item() + (1 - share) * loss(logits, other, weights).item()
    assert mixed == pytest.approx(pair, rel=1e-5, abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(
    logits=st.lists(st.floats(-8, 8), min_size=3, max_size=3),
    label=st.integers(0, 2),
    gamma=st.just(0) | st.floats(1, 5),
)
def test_focal_loss_lies_between_nothing_and_the_cross_entropy(logits, label, gamma):
    row, target = torch.tensor([logits]), F.one_hot(torch.tensor([label]), 3).float()
    focal, cross_entropy = FocalLoss(gamma=gamma)(row, target).item(), CrossEntropyLoss()(row, target).item()
    assert -1e-6 <= focal <= cross_entropy + 1e-6
    if gamma == 0:
        assert focal == pytest.approx(cross_entropy, abs=1e-5)


@pytest.mark.parametrize("loss", [*LOSSES, FocalLoss(gamma=0)], ids=[*NAMES, "focal 0"])
def test_certain_predictions_have_finite_losses_and_gradients(loss):
    logits = torch.tensor([[200.0, -200.0, 0.0], [200.0, -200.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    value = loss(logits, torch.eye(3), WEIGHTS)  # right, wrong, undecided
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all() and logits.grad[1].abs().sum() > 0


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_a_loss_pulls_logits_towards_their_targets(loss):
    assert isinstance(loss, ClassLoss)
    logits = LOGITS.clone().requires_grad_()
    loss(logits, FIRST_AND_THIRD).backward()
    assert logits.grad.sign().tolist() == [[-1, 1, 1], [1, 1, -1]]


@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        (
            CrossEntropyLoss,
            {"label_smoothing": -0.1},
            "CrossEntropyLoss.label_smoothing is -0.1; give a share from 0 to",
        ),
        (CrossEntropyLoss, {"label_smoothing": 1.0}, "CrossEntropyLoss.label_smoothing is 1.0; give"),
        (CrossEntropyLoss, {"label_smoothing": math.nan}, "CrossEntropyLoss.label_smoothing is nan; give"),
        (FocalLoss, {"gamma": -1.0}, "FocalLoss.gamma is -1.0; give 0, or 1 or more"),
        (FocalLoss, {"gamma": 0.5}, "FocalLoss.gamma is 0.5; give"),
        (FocalLoss, {"gamma": math.inf}, "FocalLoss.gamma is inf; give"),
        (FocalLoss, {"gamma": math.nan}, "FocalLoss.gamma is nan; give"),
        (CombinedLoss, {"focal_weight": 1.1}, "CombinedLoss.focal_weight is 1.1; give a share from 0 to 1"),
        (CombinedLoss, {"focal_weight": -0.1}, "CombinedLoss.focal_weight is -0.1; give"),
        (CombinedLoss, {"focal_weight": math.nan}, "CombinedLoss.focal_weight is nan; give"),
        (CombinedLoss, {"gamma": 0.5}, "CombinedLoss.gamma is 0.5; give 0, or 1 or more"),
        (CombinedLoss, {"label_smoothing": 2.0}, "CombinedLoss.label_smoothing is 2.0; give a share"),
    ],
)
def test_settings_out_of_range_are_refused(loss, arguments, message):
    with pytest.raises(ConfigError, match=message):
        loss(**arguments)


def test_classes_weigh_so_that_all_count_alike():
    assert class_weights({"healthy": 4, "curl": 3, "rare": 1}).tolist() == pytest.approx(
        [8 / 12, 8 / 9, 8 / 3], abs=1e-6
    )


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=8))
def test_weights_have_a_mean_of_one_over_the_photos(counts):
    weights = class_weights({str(number): count for number, count in enumerate(counts)})
    mean = sum(weight * count for weight, count in zip(weights.tolist(), counts, strict=True)) / sum(counts)
    assert weights.dtype == torch.float32 and mean == pytest.approx(1, rel=1e-5)


def test_a_class_without_photos_has_no_weight():
    with pytest.raises(DataError, match="No training photo is of class 'Curl Virus', 'Rare', which class weights"):
        class_weights({"Healthy": 4, "Curl Virus": 0, "Rare": 0})
