"""The transformer with poolers and the projection with poolers: order of layers, groups, recomputation, settings."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

from biomass_pl.errors import ConfigError
from biomass_pl.slide.attention_tower import AttentionTower, AttentionTowerConfig, PoolerOnlyConfig, PoolerOnlyTower
from tests.slide.networks import INPUT_DIM, bags, parameters, randomised

SMALL = AttentionTowerConfig(depth=3, heads=2, pooler_heads=2, matrix_queries=4)


def tower(*, checkpointing: bool = False, has_decoder: bool = True) -> AttentionTower:
    torch.manual_seed(0)
    made = AttentionTower(
        SMALL, input_dim=INPUT_DIM, embed_dim=8, has_decoder=has_decoder, grad_checkpointing=checkpointing
    )
    return randomised(made)


def pooler_only() -> PoolerOnlyTower:
    config = PoolerOnlyConfig(pooler_heads=2, matrix_queries=4)
    return randomised(PoolerOnlyTower(config, input_dim=INPUT_DIM, embed_dim=8, has_decoder=True))


def test_projection_layers_norm_and_poolers_follow_one_another():
    made = tower()
    features, valid = bags(6, 4)
    tokens = functional.gelu(made.projection[0](features))
    for layer in made.layers:
        tokens = layer(tokens, valid[:, None, None, :])
    expected = made.poolers(made.norm(tokens), valid)
    torch.testing.assert_close(made(features, valid), expected)
    assert [expected.embedding.shape, expected.memory.shape] == [(2, 8), (2, 4, 8)]


def test_norms_have_the_published_precision():
    made = tower()
    assert made.norm.eps == 1e-6
    assert {layer.mlp_norm.eps for layer in made.layers} == {1e-5}


def test_a_projection_alone_is_pooled():
    made = pooler_only()
    features, valid = bags(6, 4)
    expected = made.poolers(functional.gelu(made.projection[0](features)), valid)
    torch.testing.assert_close(made(features, valid), expected)


def test_weights_start_small_and_without_biases():
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, heads=4)
    made = AttentionTower(config, input_dim=64, embed_dim=64, has_decoder=True, grad_checkpointing=False)
    for module in (*made.projection.modules(), *made.layers.modules()):
        if isinstance(module, nn.Linear):
            assert 0.018 < module.weight.std() < 0.022
            assert not module.bias.any()


def test_groups_hold_every_weight_once_from_input_to_output():
    made = tower()
    *early, last = made.layers
    parts = [[made.projection], *([layer] for layer in early), [last, made.norm], [made.poolers]]
    groups = made.parameter_groups()
    assert [sum(weight.numel() for weight in group) for group in groups] == [parameters(*part) for part in parts]
    assert sorted(id(weight) for group in groups for weight in group) == sorted(map(id, made.parameters()))
    made = pooler_only()
    assert [len(group) for group in made.parameter_groups()] == [2, len(list(made.poolers.parameters()))]


def test_recomputed_activations_give_the_same_gradients_with_dropout_too():
    gradients = []
    for checkpointing in (False, True):
        made = tower(checkpointing=checkpointing).train()
        torch.manual_seed(3)
        embedding, memory = made(*bags(5, 3))
        (embedding.square().sum() + memory.square().sum()).backward()
        gradients.append([weight.grad for weight in made.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_without_a_decoder_no_weight_is_idle():
    made = tower(has_decoder=False)
    encoding = made(*bags(5, 3))
    assert encoding.memory.shape == (2, 0, 8)
    encoding.embedding.square().sum().backward()
    assert [name for name, weight in made.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize(
    ("size", "message"), [({"depth": 0}, "depth: 0"), ({"matrix_queries": 0}, "matrix_queries: 0")]
)
def test_sizes_that_leave_something_out_are_refused(size, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **size)
