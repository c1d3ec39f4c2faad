"""NT-Xent against its definition, its exact values, and over two processes; alignment and uniformity."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from biomass_pl.training.contrastive import alignment, nt_xent, uniformity

TEMPERATURE = 0.07


def views(count: int, width: int = 16, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, count, width, generator=generator).unbind()
    return first.requires_grad_(), second.requires_grad_()


def by_definition(first: torch.Tensor, second: torch.Tensor, temperature: float) -> float:
    """The sum over all views, term by term."""
    vectors = [vector / vector.norm() for vector in [*first.detach().double(), *second.detach().double()]]
    count, total = len(first), 0.0
    for anchor in range(2 * count):
        partner = anchor + count if anchor < count else anchor - count
        weights = [math.exp(float(vectors[anchor] @ other) / temperature) for other in vectors]
        total -= math.log(weights[partner] / (sum(weights) - weights[anchor]))
    return total / (2 * count)


@given(st.integers(1, 6), st.sampled_from([0.07, 0.1, 0.5, 2.0]), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_the_loss_is_the_published_sum(count, temperature, seed):
    first, second = (vectors.detach() for vectors in views(count, seed=seed))
    expected = by_definition(first, second, temperature)
    assert float(nt_xent(first.double(), second.double(), temperature)) == pytest.approx(expected, abs=1e-7)
    assert float(nt_xent(first, second, temperature)) == pytest.approx(expected, abs=3e-6, rel=1e-6)


@pytest.mark.parametrize("count", [2, 5, 64])
def test_without_any_skill_the_loss_is_that_of_chance(count):
    """All vectors are the same: each view has 2B - 1 equally good partners."""
    same = torch.ones(count, 8)
    assert float(nt_xent(same, same, TEMPERATURE)) == pytest.approx(math.log(2 * count - 1), rel=1e-6)


def test_unequal_photos_with_equal_views_have_their_exact_value():
    """Similarity 1 to the partner, 0 to the 2B - 2 views of other photos."""
    vectors = 3 * torch.eye(5)
    expected = math.log(1 + 8 * math.exp(-1 / 0.5))
    assert float(nt_xent(vectors, vectors, 0.5)) == pytest.approx(expected, abs=1e-6)
    # Far from the loss that takes a view for its own partner, which learns nothing.
    assert float(nt_xent(vectors, vectors, TEMPERATURE)) == pytest.approx(8 * math.exp(-1 / TEMPERATURE), abs=1e-6)


def test_only_directions_count():
    first, second = (vectors.detach() for vectors in views(6))
    scales = torch.linspace(0.1, 10, 6).unsqueeze(1)
    assert float(nt_xent(scales * first, second / scales, 0.1)) == pytest.approx(float(nt_xent(first, second, 0.1)))


def test_the_views_can_change_places_and_the_photos_too():
    first, second = (vectors.detach() for vectors in views(6))
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    loss = float(nt_xent(first, second, 0.1))
    assert float(nt_xent(second, first, 0.1)) == pytest.approx(loss, rel=1e-6)
    assert float(nt_xent(first[order], second[order], 0.1)) == pytest.approx(loss, rel=1e-6)


def test_half_precision_does_not_round_the_similarities():
    first, second = (vectors.detach() for vectors in views(8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, even = nt_xent(first, second, TEMPERATURE), uniformity(first)
    assert loss.dtype == even.dtype == torch.float32
    assert float(loss) == pytest.approx(float(nt_xent(first, second, TEMPERATURE)))
    assert float(even) == pytest.approx(float(uniformity(first)))


def test_a_gradient_step_brings_views_of_a_photo_together():
    first, second = views(8)
    before, loss = alignment(first, second).mean().item(), nt_xent(first, second, 0.5)
    loss.backward()
    with torch.no_grad():
        first -= first.grad
        second -= second.grad
    assert alignment(first, second).mean().item() < before
    assert nt_xent(first, second, 0.5).item() < loss.item()


def test_one_photo_has_nothing_to_be_told_from():
    first, second = views(1)
    loss = nt_xent(first, second, TEMPERATURE)
    loss.backward()
    assert loss.item() == 0 and not first.grad.any()


# Two processes


def in_a_process(rank: int, folder: str, count: int) -> None:
    """Gradients of one process's half of the photos, averaged as DDP averages them."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    first, second = views(count)
    layer = linear()
    own = slice(rank * count // 2, (rank + 1) * count // 2)
    loss = nt_xent(layer(first[own]), layer(second[own]), TEMPERATURE)
    loss.backward()
    even = uniformity(layer(first[own]))
    gathered = [layer.weight.grad, loss.detach(), even.detach()]
    for value in gathered:
        torch.distributed.all_reduce(value)
        value /= 2
    torch.save(gathered, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def linear() -> torch.nn.Linear:
    torch.manual_seed(1)
    return torch.nn.Linear(16, 8)


def test_two_processes_have_the_gradient_of_one_large_batch(tmp_path: Path):
    torch.multiprocessing.spawn(in_a_process, args=(str(tmp_path), 12), nprocs=2)
    first, second = views(12)
    layer = linear()
    loss = nt_xent(layer(first), layer(second), TEMPERATURE)
    loss.backward()
    expected = layer.weight.grad, loss.detach(), uniformity(layer(first))
    for rank in range(2):
        for value, alone in zip(torch.load(tmp_path / f"{rank}.pt"), expected, strict=True):
            assert torch.allclose(value, alone, atol=1e-5, rtol=1e-5)
    half = nt_xent(layer(first[:6]), layer(second[:6]), TEMPERATURE)
    assert abs(half.item() - loss.item()) > 1e-2  # without the other process it would be another loss


# What the vectors are like


def test_alignment_is_the_squared_distance_of_the_directions():
    first = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    second = torch.tensor([[5.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert alignment(first, second).tolist() == pytest.approx([0, 2, 4])


def test_uniformity_of_few_vectors_by_hand():
    assert float(uniformity(torch.ones(4, 3))) == pytest.approx(0, abs=1e-6)
    assert float(uniformity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))) == pytest.approx(-8)
    # A right angle and two of 45 degrees: squared distances 2 and 2 - sqrt(2).
    corner = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    expected = math.log((math.exp(-4) + 2 * math.exp(-2 * (2 - math.sqrt(2)))) / 3)
    assert float(uniformity(corner)) == pytest.approx(expected, rel=1e-5)


def test_uniformity_needs_a_pair_and_no_gradient():
    assert math.isnan(uniformity(torch.ones(1, 3)))
    assert not uniformity(views(4)[0]).requires_grad


def test_spread_vectors_are_more_uniform_than_bundled_ones():
    spread, _ = views(64)
    bundled = functional.normalize(spread.detach(), dim=1) + 3
    assert float(uniformity(spread)) < -1 < float(uniformity(bundled))
