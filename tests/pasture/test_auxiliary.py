"""Auxiliary heads and the context adjustment, worked by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from biomass_pl.pasture.auxiliary import CLASSES, AuxiliaryHeads, ContextAdjustment
from biomass_pl.pasture.classes import MONTHS, SPECIES_GROUP, STATES
from biomass_pl.pasture.targets import CLOVER, DEAD, GDM, GREEN, TOTAL

HIDDEN = 8


def make_heads(*names: str) -> AuxiliaryHeads:
    torch.manual_seed(0)
    return AuxiliaryHeads(hidden=HIDDEN, dropout=0.2, names=names or CLASSES).eval()


def codes(*, state: list[int], month: list[int] | None = None, species: list[int] | None = None) -> dict[str, Tensor]:
    named = {"state": state, "month": month or [0] * len(state), "species": species or [0] * len(state)}
    return {name: torch.tensor(values) for name, values in named.items()}


def test_the_heads_have_the_classes_of_the_tables():
    assert dict(CLASSES) == {"state": len(STATES), "month": len(MONTHS), "species": len(set(SPECIES_GROUP.values()))}


def test_each_head_gives_float32_logits_from_half_the_hidden_length():
    heads = make_heads()
    logits = heads.to(torch.bfloat16)(torch.randn(3, HIDDEN, dtype=torch.bfloat16))
    assert {name: tuple(values.shape) for name, values in logits.items()} == {
        "state": (3, 4),
        "month": (3, 10),
        "species": (3, 8),
    }
    assert {values.dtype for values in logits.values()} == {torch.float32}
    assert heads.heads["month"][0].out_features == HIDDEN // 2


def test_only_the_named_heads_are_made():
    heads = make_heads("month")
    assert set(heads(torch.randn(2, HIDDEN))) == {"month"}
    assert set(heads.losses({"month": torch.zeros(2, 10)}, codes(state=[0, 0]))) == {"month"}


def test_class_weights_worked_by_hand():
    heads = make_heads("state")
    heads.weigh_classes(codes(state=[0, 0, 0, 1, -1]))
    # 1 / 3 and 1, scaled to a mean of 1
    assert heads.state_weights.tolist() == pytest.approx([0.5, 1.5, 0.0, 0.0])


@settings(deadline=None, max_examples=60)
@given(months=st.lists(st.integers(-1, 9), min_size=1, max_size=40).filter(lambda months: max(months) >= 0))
def test_every_class_that_is_there_counts_the_same_in_all(months):
    heads = make_heads("month")
    heads.weigh_classes(codes(state=[0] * len(months), month=months))
    there = sorted(set(months) - {-1})
    weights = heads.month_weights
    assert weights[there].mean().item() == pytest.approx(1, rel=1e-5)
    assert weights.sum().item() == pytest.approx(len(there), rel=1e-5)
    in_all = [weights[month].item() * months.count(month) for month in there]
    assert in_all == pytest.approx([in_all[0]] * len(there), rel=1e-5)


def test_cross_entropy_is_smoothed_and_weighted():
    heads = make_heads("state")
    heads.weigh_classes(codes(state=[0, 0, 0, 1]))
    uniform = {"state": torch.zeros(2, 4)}
    # weights .5 and 1.5; of the label .9 stays and .1 is spread over the four, two of which have weight 0
    first, second = 0.9 * 0.5 + 0.1 / 4 * 2, 0.9 * 1.5 + 0.1 / 4 * 2
    for states, expected in (([0, 0], first / 0.5), ([1, 1], second / 1.5), ([0, 1], (first + second) / 2)):
        loss = heads.losses(uniform, codes(state=states))["state"]
        assert loss.item() == pytest.approx(expected * math.log(4), rel=1e-5)


def test_with_equal_weights_it_is_the_usual_cross_entropy():
    heads = make_heads("species")
    logits, species = torch.randn(6, 8), [0, 3, 7, 1, 1, 2]
    expected = F.cross_entropy(logits, torch.tensor(species), label_smoothing=0.1)
    loss = heads.losses({"species": logits}, codes(state=[0] * 6, species=species))["species"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("left_out", [-1, 3], ids=["unknown", "absent in the training fold"])
def test_photos_that_cannot_be_guessed_are_left_out(left_out):
    heads = make_heads("state")
    heads.weigh_classes(codes(state=[0, 1, 1, 2]))
    logits = torch.randn(4, 4)
    alone = heads.losses({"state": logits[:2]}, codes(state=[0, 2]))["state"]
    among = heads.losses({"state": logits}, codes(state=[0, 2, left_out, left_out]))["state"]
    assert among.item() == pytest.approx(alone.item(), rel=1e-6)
    assert alone.item() > 0


def test_a_batch_without_a_known_class_costs_nothing_and_leaves_no_parameter_out():
    heads = make_heads()
    unknown = [-1, -1]
    losses = heads.losses(heads(torch.randn(2, HIDDEN)), codes(state=unknown, month=unknown, species=unknown))
    assert {name: loss.item() for name, loss in losses.items()} == {"state": 0, "month": 0, "species": 0}
    torch.stack(list(losses.values())).sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in heads.parameters())


def test_gradients_reach_every_head_and_the_vector():
    heads = make_heads()
    hidden = torch.randn(4, HIDDEN, requires_grad=True)
    losses = heads.losses(heads(hidden), codes(state=[0, 1, 2, -1], month=[3, 4, 5, 6], species=[0, 1, 7, 7]))
    torch.stack(list(losses.values())).sum().backward()
    assert all(parameter.grad.any() for parameter in heads.parameters())
    assert hidden.grad.any(dim=1).all()


def test_the_heads_learn_what_the_vector_tells():
    heads = make_heads("state").train()
    hidden = torch.nn.functional.one_hot(torch.arange(4), HIDDEN).float()
    optimizer = torch.optim.Adam(heads.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        heads.losses(heads(hidden), codes(state=[0, 1, 2, 3]))["state"].backward()
        optimizer.step()
    assert heads.eval()(hidden)["state"].argmax(dim=1).tolist() == [0, 1, 2, 3]


# Two photos of state 0 and two of state 1; the last has unknown month and species.
GRAMS = torch.tensor(
    [
        [1.0, 2.0, 8.0, 9.0, 11.0],
        [1.0, 4.0, 0.0, 1.0, 5.0],
        [1.0, 6.0, 0.0, 1.0, 7.0],
        [1.0, 12.0, 0.0, 1.0, 13.0],
    ]
)
KNOWN = codes(state=[0, 0, 1, 1], month=[0, 5, 5, -1], species=[2, 2, 7, -1])


def estimated() -> ContextAdjustment:
    context = ContextAdjustment()
    context.estimate(GRAMS, KNOWN)
    return context


def certain(**classes: int) -> dict[str, Tensor]:
    """Logits of one photo that leave no doubt."""
    return {name: 1e4 * F.one_hot(torch.tensor([code]), CLASSES[name]).float() for name, code in classes.items()}


def test_factors_are_class_means_over_the_mean_of_all():
    state = dict(estimated().named_buffers())
    # Dead: mean 6; state means 3 and 9; months 0: 2 and 5: (4 + 6) / 2. Clover: mean 2; state 0: 4; species 2: 4.
    assert state["Dry_Dead_g_by_state"].tolist() == pytest.approx([0.5, 1.5, 1.0, 1.0])
    months = [1.0] * 10
    months[0], months[5] = 2 / 6, 5 / 6
    assert state["Dry_Dead_g_by_month"].tolist() == pytest.approx(months)
    assert state["Dry_Clover_g_by_state"].tolist() == pytest.approx([2.0, 0.0, 1.0, 1.0])
    assert state["Dry_Clover_g_by_species"].tolist() == pytest.approx([1, 1, 2.0, 1, 1, 1, 1, 0.0])
    assert len(state) == 4


def test_a_target_that_is_always_zero_gets_factors_of_one():
    context = ContextAdjustment()
    grams = GRAMS.clone()
    grams[:, DEAD] = 0
    context.estimate(grams, KNOWN)
    assert context.get_buffer("Dry_Dead_g_by_state").tolist() == [1.0] * 4
    assert context.get_buffer("Dry_Dead_g_by_month").tolist() == [1.0] * 10
    assert context.get_buffer("Dry_Clover_g_by_state").tolist() != [1.0] * 4


def test_an_adjustment_worked_by_hand():
    grams = torch.tensor([[10.0, 20.0, 4.0, 14.0, 34.0]])
    adjusted = estimated()(grams, certain(state=1, month=0, species=2))[0]
    # dead by sqrt(1.5 * 1/3), clover by sqrt(0 * 2), half each
    assert adjusted[DEAD].item() == pytest.approx(20 * (1 + math.sqrt(0.5)) / 2)
    assert adjusted[CLOVER].item() == pytest.approx(2.0)
    assert adjusted[[GREEN, GDM, TOTAL]].tolist() == [10.0, 14.0, 34.0]
    assert grams[0, DEAD] == 20


def test_an_uncertain_guess_takes_the_expected_factor():
    logits = certain(month=0, species=2) | {"state": torch.tensor([[0.75, 0.25, 0.0, 0.0]]).log()}
    adjusted = estimated()(torch.tensor([[0.0, 8.0, 8.0, 8.0, 16.0]]), logits)[0]
    # state factor for dead .75 * .5 + .25 * 1.5 = .75, for clover .75 * 2 = 1.5
    assert adjusted[DEAD].item() == pytest.approx(8 * (1 + math.sqrt(0.75 / 3)) / 2)
    assert adjusted[CLOVER].item() == pytest.approx(8 * (1 + math.sqrt(1.5 * 2)) / 2)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_adjusted_grams_are_at_least_half_the_raw_ones_and_those_without_factors_are_raw(seed):
    generator = torch.Generator().manual_seed(seed)
    grams = 50 * torch.rand(5, 5, generator=generator)
    logits = {name: 5 * torch.randn(5, classes, generator=generator) for name, classes in CLASSES.items()}
    adjusted = estimated()(grams, logits)
    assert adjusted.isfinite().all() and (adjusted >= grams / 2 - 1e-5).all()
    torch.testing.assert_close(ContextAdjustment()(grams, logits), grams)


def test_factors_are_those_of_the_photos_whose_grams_are_known():
    more = torch.full((2, 5), float("nan"))
    context = ContextAdjustment()
    context.estimate(
        torch.cat([GRAMS, more]), {name: torch.cat([column, column[:2]]) for name, column in KNOWN.items()}
    )
    expected = dict(estimated().named_buffers())
    for name, factors in context.named_buffers():
        assert torch.equal(factors, expected[name])
    context.estimate(more, {name: column[:2] for name, column in KNOWN.items()})
    assert all((factors == 1).all() for _, factors in context.named_buffers())
