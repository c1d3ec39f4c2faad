"""The perceiver: the published size and order of layers, which weights are shared, and what enters an output."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

from biomass_pl.errors import ConfigError
from biomass_pl.slide.perceiver import BagReader, GatedMLP, Perceiver, PerceiverConfig
from tests.slide.networks import INPUT_DIM, bags, parameters, randomised

SMALL = PerceiverConfig(latents=5, width=8, blocks=4, self_layers=2, cross_heads=1, self_heads=2)


def perceiver(config: PerceiverConfig = SMALL, *, checkpointing: bool = False, embed_dim: int = 3) -> Perceiver:
    torch.manual_seed(0)
    made = Perceiver(config, input_dim=INPUT_DIM, embed_dim=embed_dim, grad_checkpointing=checkpointing)
    return randomised(made)


def test_the_published_tower_has_83_million_parameters_that_all_blocks_share():
    with torch.device("meta"):
        published = Perceiver(PerceiverConfig(), input_dim=1024, embed_dim=1024, grad_checkpointing=False)
        deeper = Perceiver(PerceiverConfig(blocks=20), input_dim=1024, embed_dim=1024, grad_checkpointing=False)
        narrower = Perceiver(PerceiverConfig(), input_dim=384, embed_dim=1024, grad_checkpointing=False)
    assert round(parameters(published) / 1e6, 1) == 82.7
    assert parameters(deeper) == parameters(published)
    assert round((parameters(published) - parameters(narrower)) / 1e6, 1) == 3.3  # 527.8 - 524.5 million


def test_blocks_follow_one_another_as_published():
    made = perceiver()
    features, valid = bags(6, 4)
    mask = valid[:, None, None, :]
    latents = made.latents.expand(2, -1, -1)
    for reader in (made.first_reader, made.later_reader, made.later_reader, made.later_reader):
        latents = reader(latents, reader.keys_values(features), mask)
        for layer in made.self_layers:
            latents = layer(latents, None)
    embedding, memory = made(features, valid)
    torch.testing.assert_close(embedding, made.projection(latents)[:, 0])
    torch.testing.assert_close(memory, made.projection(latents)[:, 1:])
    assert memory.shape == (2, 4, 3)


def test_keys_and_values_of_the_bag_are_computed_twice_whatever_the_blocks():
    made = perceiver()
    calls = {reader: 0 for reader in (made.first_reader, made.later_reader)}
    for reader in calls:
        reader.bag_norm.register_forward_hook(lambda *_, reader=reader: calls.update({reader: calls[reader] + 1}))
    made(*bags(3))
    assert list(calls.values()) == [1, 1]


def test_what_a_reader_finds_replaces_the_latents():
    reader = randomised(BagReader(width=8, input_dim=INPUT_DIM, heads=1))
    features, valid = bags(1)  # a single vector is found whatever the latents ask
    found = [
        reader(latents, reader.keys_values(features), valid[:, None, None, :])
        for latents in (torch.randn(1, 2, 8), torch.randn(1, 2, 8))
    ]
    torch.testing.assert_close(*found)


def test_the_mlp_is_gated():
    mlp = GatedMLP(width=2)
    with torch.no_grad():
        mlp.hidden.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [2, 0], [0, 2]]))
        mlp.hidden.bias.zero_()
        mlp.output.weight.copy_(torch.eye(2))
        mlp.output.bias.zero_()
    vector = torch.tensor([3.0, -1.0])
    torch.testing.assert_close(mlp(vector), vector * functional.gelu(2 * vector))


def test_weights_start_as_published():
    torch.manual_seed(0)
    made = Perceiver(
        dataclasses.replace(SMALL, latents=64, width=64), input_dim=INPUT_DIM, embed_dim=64, grad_checkpointing=False
    )
    assert 0.019 < made.latents.std() < 0.021
    linear = [module for module in made.modules() if isinstance(module, nn.Linear)]
    assert {layer.bias is None or not layer.bias.any().item() for layer in linear} == {True}
    for layer in linear:  # Kaiming: the bound is the root of 3 / inputs
        bound = (3 / layer.in_features) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound


def test_attention_projections_have_no_biases_but_the_output():
    attentions = [perceiver().first_reader.attention, perceiver().self_layers[0].attention]
    for attention in attentions:
        assert [part.bias is None for part in (attention.query, attention.key, attention.value)] == [True] * 3
        assert attention.output.bias is not None


def test_groups_hold_every_weight_once_from_input_to_output():
    made = perceiver()
    groups = made.parameter_groups()
    assert [sum(weight.numel() for weight in group) for group in groups] == [
        made.latents.numel() + parameters(made.first_reader),
        *(parameters(part) for part in (made.later_reader, *made.self_layers, made.projection)),
    ]
    flat = [id(weight) for group in groups for weight in group]
    assert sorted(flat) == sorted(map(id, made.parameters()))


def test_recomputed_activations_give_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        made = perceiver(checkpointing=checkpointing).train()
        embedding, memory = made(*bags(5, 3))
        (embedding.sum() + memory.square().sum()).backward()
        gradients.append([weight.grad for weight in made.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_an_empty_bag_gives_numbers():
    features, valid = bags(3, 2)
    embedding, memory = perceiver()(features, valid & torch.tensor([[True], [False]]))
    assert embedding.isfinite().all() and memory.isfinite().all()


@pytest.mark.parametrize(("size", "message"), [({"latents": 1}, "latents: 1"), ({"blocks": 1}, "blocks: 1")])
def test_sizes_that_leave_something_out_are_refused(size, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **size)
