"""Intervals of the targets: their edges, the loss, and targets that are not known."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from biomass_pl.pasture.intervals import IntervalHead

UNKNOWN = float("nan")


def new_head(grams: torch.Tensor, classes: int) -> IntervalHead:
    torch.manual_seed(0)
    head = IntervalHead(hidden=4, classes=classes)
    head.start_at(grams)
    return head


def columns(*values: float) -> torch.Tensor:
    """The same grams for all targets."""
    return torch.tensor(values)[:, None].expand(-1, 5)


def test_edges_are_the_quantiles_and_belong_to_the_interval_below():
    head = new_head(columns(0.0, 10, 20, 30, 40), classes=4)
    assert head.edges.tolist() == [[10.0, 20.0, 30.0]] * 5
    found = head.intervals(columns(-1.0, 10, 10.1, 20, 35, 1000))
    assert found[:, 0].tolist() == [0, 0, 1, 1, 3, 3]


def test_many_equal_grams_share_the_lowest_interval():
    head = new_head(columns(0.0, 0, 0, 0, 0, 5, 9), classes=4)
    assert head.intervals(columns(0.0, 5, 9))[:, 0].tolist() == [0, 3, 3]


def test_the_loss_is_the_mean_cross_entropy_of_the_known_targets():
    head = new_head(columns(0.0, 10, 20, 30, 40), classes=2)
    logits = head(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (3, 5, 2)
    grams = columns(5.0, 30, 40).clone()
    classes = torch.tensor([0, 1, 1])[:, None].expand(-1, 5)
    expected = F.cross_entropy(logits.flatten(0, 1), classes.flatten())
    assert head.loss(logits, grams).item() == pytest.approx(expected.item(), rel=1e-6)
    grams[0, 1:] = UNKNOWN
    grams[2] = UNKNOWN
    known = torch.cat([logits[0, :1], logits[1]])
    expected = F.cross_entropy(known, torch.tensor([0, 1, 1, 1, 1, 1]))
    assert head.loss(logits, grams).item() == pytest.approx(expected.item(), rel=1e-6)
    none = head.loss(logits, torch.full((3, 5), UNKNOWN))
    assert none.item() == 0
    none.backward()
    assert not any(weight.grad.any() for weight in head.parameters())


def test_edges_skip_what_is_not_known_and_stay_in_the_state():
    grams = columns(0.0, 10, 20).clone()
    grams[2, 0] = UNKNOWN
    head = new_head(grams, classes=2)
    assert head.edges.flatten().tolist() == [5.0, 10, 10, 10, 10]
    other = IntervalHead(hidden=4, classes=2)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.edges, head.edges)
