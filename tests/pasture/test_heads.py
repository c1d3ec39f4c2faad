"""Heads: what holds for every input, cases worked by hand, and the start at the training fold's means."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from biomass_pl.pasture.heads import BiomassHead, FiveHeads, HierarchicalRatioHead, SoftmaxRatioHead, starting_means
from biomass_pl.pasture.targets import CLOVER, DEAD, GDM, GREEN, TOTAL

HIDDEN = 8
ROUNDING = 1e-6  # of the total: a few units in the last place of float32
KINDS = ("softmax", "hierarchical", "five")
RATIO_KINDS = KINDS[:2]


def make_head(
    kind: str, *, log_target: bool, hidden: int = HIDDEN, temperature: float = 1.0, seed: int = 0
) -> BiomassHead:
    torch.manual_seed(seed)
    if kind == "softmax":
        head: BiomassHead = SoftmaxRatioHead(hidden=hidden, dropout=0.2, log_target=log_target, temperature=temperature)
    elif kind == "hierarchical":
        head = HierarchicalRatioHead(hidden=hidden, dropout=0.2, log_target=log_target)
    else:
        head = FiveHeads(hidden=hidden, dropout=0.2, log_target=log_target)
    return head.eval()


def last_layers(head: BiomassHead) -> list[nn.Linear]:
    """The output layer of every branch of a head."""
    branches = [module for module in head.modules() if isinstance(module, nn.Sequential)]
    return [branch[-1] for branch in branches]


def zero_last_weights(head: BiomassHead) -> None:
    """Leaves the biases alone to say what is predicted."""
    with torch.no_grad():
        for layer in last_layers(head):
            layer.weight.zero_()


def constant_head(kind: str, *outputs: list[float], log_target: bool = False, temperature: float = 1.0) -> Tensor:
    """What a head predicts whose branches give these outputs."""
    head = make_head(kind, log_target=log_target, temperature=temperature)
    zero_last_weights(head)
    with torch.no_grad():
        for layer, output in zip(last_layers(head), outputs, strict=True):
            layer.bias.copy_(torch.tensor(output))
    return head(torch.zeros(1, HIDDEN)).detach()[0]


def predicted(head: BiomassHead, hidden: Tensor, precision: str) -> Tensor:
    with torch.no_grad():
        if precision == "bf16 layers":
            return head.to(torch.bfloat16)(hidden.to(torch.bfloat16))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16 autocast"):
            return head(hidden)


def assert_identities_hold(grams: Tensor) -> None:
    allowed = ROUNDING * grams[:, TOTAL]
    assert ((grams[:, GREEN] + grams[:, CLOVER] - grams[:, GDM]).abs() <= allowed).all()
    assert ((grams[:, GDM] + grams[:, DEAD] - grams[:, TOTAL]).abs() <= allowed).all()


@pytest.mark.parametrize("precision", ["fp32", "bf16 autocast", "bf16 layers"])
@pytest.mark.parametrize("kind", RATIO_KINDS)
@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    magnitude=st.sampled_from([0.0, 1e-4, 1.0, 30.0, 1e4]),
    log_target=st.booleans(),
    temperature=st.sampled_from([0.1, 1.0, 5.0]),
)
def test_ratio_heads_never_break_an_identity_nor_go_below_zero(
    kind, precision, seed, magnitude, log_target, temperature
):
    head = make_head(kind, log_target=log_target, temperature=temperature, seed=seed)
    grams = predicted(head, magnitude * torch.randn(16, HIDDEN), precision)
    assert grams.dtype == torch.float32 and grams.shape == (16, 5)
    assert grams.isfinite().all()
    assert (grams >= 0).all()
    assert_identities_hold(grams)


@pytest.mark.parametrize("precision", ["fp32", "bf16 autocast", "bf16 layers"])
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), magnitude=st.sampled_from([0.0, 1.0, 30.0, 1e4]), log_target=st.booleans())
def test_five_heads_never_go_below_zero(precision, seed, magnitude, log_target):
    head = make_head("five", log_target=log_target, seed=seed)
    grams = predicted(head, magnitude * torch.randn(16, HIDDEN), precision)
    assert grams.dtype == torch.float32 and grams.shape == (16, 5)
    assert grams.isfinite().all()
    assert (grams >= 0).all()


@pytest.mark.parametrize("kind", RATIO_KINDS)
@pytest.mark.parametrize("log_target", [False, True])
def test_identities_hold_when_every_branch_saturates(kind, log_target):
    for total in (-1e4, 0.0, 1e4):
        for share in (-1e4, 1e4):
            outputs = [[total], [share, 0.0, -share]] if kind == "softmax" else [[total], [share], [-share]]
            grams = constant_head(kind, *outputs, log_target=log_target)
            assert grams.isfinite().all() and (grams >= 0).all()
            assert_identities_hold(grams[None])


def test_softmax_ratio_worked_by_hand():
    # softplus(0) = ln 2; the softmax of logarithms gives the shares back.
    grams = constant_head("softmax", [0.0], [math.log(0.5), math.log(0.3), math.log(0.2)])
    expected = [share * math.log(2) for share in (0.5, 0.3, 0.2, 0.7, 1.0)]
    assert grams.tolist() == pytest.approx(expected, rel=1e-6)


def test_hierarchical_ratio_worked_by_hand():
    # sigmoid(ln 3) = 3/4 of the total is GDM, sigmoid(-ln 2) = 1/3 of that is green.
    grams = constant_head("hierarchical", [0.0], [math.log(3)], [-math.log(2)])
    expected = [share * math.log(2) for share in (0.25, 0.25, 0.5, 0.75, 1.0)]
    assert grams.tolist() == pytest.approx(expected, rel=1e-6)


def test_five_heads_worked_by_hand():
    grams = constant_head("five", [0.0], [math.log(math.e - 1)], [-math.log(2)], [2.0], [50.0])
    expected = [math.log(2), 1.0, math.log(1.5), math.log(1 + math.e**2), 50.0]
    assert grams.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "outputs", "expected"),
    [
        ("softmax", [[0.0], [0.0, 0.0, 0.0]], [1 / 3, 1 / 3, 1 / 3, 2 / 3, 1.0]),
        ("hierarchical", [[0.0], [0.0], [0.0]], [0.25, 0.5, 0.25, 0.5, 1.0]),
        ("five", [[0.0]] * 5, [1.0] * 5),
    ],
)
def test_with_log_target_an_output_is_read_as_log1p_of_grams(kind, outputs, expected):
    # softplus(0) = ln 2 = log1p(1 g)
    grams = constant_head(kind, *outputs, log_target=True)
    assert grams.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_grams_are_worked_out_in_float32_even_after_bf16_layers(kind):
    head = make_head(kind, log_target=False)
    zero_last_weights(head)
    with torch.no_grad():
        for layer in last_layers(head):
            layer.bias.zero_()
    total = predicted(head, torch.zeros(1, HIDDEN), "bf16 layers")[0, TOTAL]
    assert total.item() == pytest.approx(math.log(2), rel=1e-6)


def test_temperature_divides_the_logits_of_the_shares():
    plain = constant_head("softmax", [0.0], [1.0, 0.0, -0.5])
    warm = constant_head("softmax", [0.0], [2.0, 0.0, -1.0], temperature=2.0)
    assert torch.equal(plain, warm)
    assert warm[GREEN] / warm[DEAD] == pytest.approx(math.e, rel=1e-6)


amount = st.floats(0.5, 100.0)
photos = st.lists(st.tuples(amount, amount, amount), min_size=1, max_size=6)


def table(components: list[tuple[float, float, float]]) -> Tensor:
    """Photos with exact sums from green, dead and clover."""
    rows = [[green, dead, clover, green + clover, green + dead + clover] for green, dead, clover in components]
    return torch.tensor(rows)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)
@given(components=photos, log_target=st.booleans(), temperature=st.sampled_from([0.5, 1.0, 3.0]))
def test_start_at_makes_the_biases_predict_the_mean_of_every_target(kind, components, log_target, temperature):
    head = make_head(kind, log_target=log_target, temperature=temperature)
    zero_last_weights(head)
    grams = table(components)
    head.start_at(grams)
    prediction = head(torch.randn(3, HIDDEN))
    torch.testing.assert_close(prediction, grams.mean(dim=0).expand(3, 5), rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zero", [GREEN, DEAD, CLOVER])
def test_start_at_survives_a_column_that_is_all_zero(kind, zero, log_target):
    components = [[20.0, 10.0, 5.0], [30.0, 12.0, 1.0]]
    for photo in components:
        photo[zero] = 0.0
    grams = table([tuple(photo) for photo in components])
    head = make_head(kind, log_target=log_target)
    zero_last_weights(head)
    head.start_at(grams)
    prediction = head(torch.zeros(1, HIDDEN))[0]
    assert prediction.isfinite().all()
    mean = grams.mean(dim=0)
    assert ((prediction - mean).abs() <= 0.002 * mean[TOTAL]).all()


@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_start_at_survives_photos_without_any_grams(kind, log_target):
    head = make_head(kind, log_target=log_target)
    zero_last_weights(head)
    head.start_at(torch.zeros(4, 5))
    prediction = head(torch.zeros(1, HIDDEN))
    assert prediction.isfinite().all()
    assert (prediction <= 0.01).all()


@pytest.mark.parametrize("kind", KINDS)
def test_start_at_leaves_the_network_able_to_learn(kind):
    head = make_head(kind, log_target=False)
    head.start_at(table([(20.0, 0.0, 0.0), (30.0, 0.0, 0.0)]))
    head(torch.randn(4, HIDDEN))[:, [GREEN, DEAD]].sum().backward()
    for layer in last_layers(head):
        assert layer.weight.grad is not None and layer.weight.grad.isfinite().all()
    assert any(layer.weight.grad.abs().sum() > 0 for layer in last_layers(head))


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_in_training_only(kind):
    head = make_head(kind, log_target=False)
    hidden = torch.randn(4, HIDDEN)
    assert torch.equal(head(hidden), head(hidden))
    head.train()
    assert not torch.equal(head(hidden), head(hidden))


NO = float("nan")


@pytest.mark.parametrize(
    ("grams", "means"),
    [
        ([(10, 4, 2, 12, 16), (20, 4, 2, 22, 26)], (15, 4, 2, 17, 21)),
        ([(NO, NO, NO, NO, 12), (NO, NO, NO, NO, 24)], (6, 6, 6, 12, 18)),
        ([(10, 4, 2, 12, 16), (NO, NO, NO, NO, 20)], (10, 4, 2, 12, 18)),
        ([(NO, NO, NO, 12, NO)], (6, 6, 6, 12, 18)),
        ([(NO, 5, NO, NO, NO)], (5, 5, 5, 10, 15)),
        ([(NO, 5, NO, NO, 20)], (7.5, 5, 7.5, 15, 20)),
        ([(30, NO, NO, NO, NO), (NO, NO, NO, NO, 20)], (30, 6.666667, 0, 13.333333, 20)),
    ],
)
def test_heads_start_at_what_is_known_and_what_follows(grams, means):
    found = starting_means(torch.tensor(grams, dtype=torch.float32))
    torch.testing.assert_close(found, torch.tensor(means, dtype=torch.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_that_knows_totals_alone_starts_at_their_mean(kind):
    head = make_head(kind, log_target=False)
    zero_last_weights(head)
    head.start_at(torch.tensor([[NO, NO, NO, NO, 12.0], [NO, NO, NO, NO, 24.0]]))
    prediction = head(torch.zeros(1, HIDDEN))[0]
    assert prediction[TOTAL].item() == pytest.approx(18, rel=1e-3) and prediction.isfinite().all()
