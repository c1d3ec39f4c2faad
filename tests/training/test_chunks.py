"""A batch in chunks: the same values, the same gradient, dropped out alike, and less memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from biomass_pl.training.chunks import in_chunks
from biomass_pl.training.image_text_loss import ImageTextLoss, token_nll

LOSS = ImageTextLoss()


class Network(nn.Module):
    """Two towers and a decoder of one layer each."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Sequential(nn.Linear(12, 32), nn.GELU(), nn.Dropout(dropout), nn.Linear(32, 8))
        self.text = nn.Sequential(nn.Embedding(20, 16), nn.Dropout(dropout), nn.Linear(16, 8))
        self.words = nn.Linear(8, 20)
        self.log_scale = nn.Parameter(torch.tensor(2.0))
        self.calls = 0

    def towers(self, features: torch.Tensor, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        self.calls += 1
        image, states = self.image(features), self.text(tokens)
        nll, count = token_nll(self.words(states + image.unsqueeze(1))[:, :-1], tokens[:, 1:], pad=0)
        return {"image": image, "text": states.mean(dim=1), "nll": nll, "tokens": count}

    def loss(self, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
        contrastive = LOSS.contrastive(
            outputs["image"], outputs["text"], log_scale=self.log_scale, across_processes=True
        )
        return contrastive + LOSS.caption(outputs["nll"], outputs["tokens"], across_processes=True)

    def gradient(self, loss: torch.Tensor) -> torch.Tensor:
        self.zero_grad()
        loss.backward()
        return torch.cat([weight.grad.flatten() for weight in self.parameters()])


def batch(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 20, (count, 9), generator=generator)
    lengths = torch.randint(2, 10, (count, 1), generator=generator)
    return torch.randn(count, 12, generator=generator), tokens * (torch.arange(9) < lengths)


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert float((found - expected).norm()) <= 1e-6 * float(expected.norm())


@given(st.integers(1, 17), st.integers(1, 20), st.integers(0, 100))
@settings(deadline=None, max_examples=25)
def test_chunks_have_the_gradient_of_the_whole_batch(count, chunks, seed):
    network, inputs = Network().double(), batch(count, seed)
    inputs = inputs[0].double(), inputs[1]
    whole, parts = network.towers(*inputs), in_chunks(network.towers, *inputs, chunks=chunks)
    for name, value in whole.items():
        assert torch.allclose(parts[name], value)
    assert_same(network.gradient(network.loss(parts)), network.gradient(network.loss(whole)))


def test_in_single_precision_as_well():
    network, inputs = Network(), batch(24)
    expected = network.gradient(network.loss(network.towers(*inputs)))
    for chunks in (2, 4, 24):
        assert_same(network.gradient(network.loss(in_chunks(network.towers, *inputs, chunks=chunks))), expected)


def test_what_was_dropped_is_dropped_again_in_the_backward_pass():
    """The chunks are those of a forward pass that keeps its activations, one after the other."""
    network, inputs = Network(dropout=0.5), batch(12)
    torch.manual_seed(3)
    kept = [network.towers(*(tensor[start : start + 4] for tensor in inputs)) for start in (0, 4, 8)]
    whole = {name: torch.cat([part[name] for part in kept]) for name in ("image", "text")}
    whole |= {name: sum(part[name] for part in kept) for name in ("nll", "tokens")}
    expected = network.gradient(network.loss(whole))
    after = torch.rand(1)
    torch.manual_seed(3)
    found = network.gradient(network.loss(in_chunks(network.towers, *inputs, chunks=3)))
    assert_same(found, expected)
    assert torch.equal(torch.rand(1), after)  # going back draws nothing of its own


def test_in_half_precision_the_backward_pass_computes_as_the_forward_pass():
    network, inputs = Network(), batch(12)
    gradients = []
    for chunks in (1, 3):
        with torch.autocast("cpu", torch.bfloat16):
            loss = network.loss(in_chunks(network.towers, *inputs, chunks=chunks))
        gradients.append(network.gradient(loss))
    assert float((gradients[1] - gradients[0]).norm()) <= 1e-2 * float(gradients[0].norm())


def bytes_kept(network: Network, inputs: tuple[torch.Tensor, ...], chunks: int) -> int:
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = in_chunks(network.towers, *inputs, chunks=chunks)
    del outputs
    return sum(kept.values())


def test_chunks_keep_no_activations():
    network, inputs = Network(), batch(64)
    assert 3 * bytes_kept(network, inputs, 4) < bytes_kept(network, inputs, 1)


@pytest.mark.parametrize(("chunks", "training", "calls"), [(1, True, 1), (3, True, 6), (3, False, 3)])
def test_activations_are_computed_again_only_where_there_is_a_backward_pass(chunks, training, calls):
    network = Network()
    with torch.set_grad_enabled(training):
        loss = network.loss(in_chunks(network.towers, *batch(6), chunks=chunks))
        if training:
            loss.backward()
    assert network.calls == calls
