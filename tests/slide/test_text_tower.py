"""The text tower: embeddings, causality, pooling, groups, and texts that are too long."""

import dataclasses

import pytest
import torch

from biomass_pl.errors import ConfigError
from biomass_pl.slide.text_tower import TextConfig, TextTower
from tests.slide.networks import VOCABULARY, parameters, randomised, texts

SMALL = TextConfig(layers=3, heads=2, context_length=12, pooler_heads=2)


def tower(config: TextConfig = SMALL, *, pooled: bool = True, checkpointing: bool = False) -> TextTower:
    torch.manual_seed(0)
    made = TextTower(config, vocab_size=VOCABULARY, embed_dim=16, pooled=pooled, grad_checkpointing=checkpointing)
    return randomised(made)


def test_the_published_tower_has_200_million_parameters():
    with torch.device("meta"):
        made = TextTower(TextConfig(), vocab_size=42384, embed_dim=1024, pooled=True, grad_checkpointing=False)
    assert round(parameters(made) / 1e6, 1) == 199.8  # published: 200.1, of which 0.3 are adapters


def test_embeddings_are_scaled_and_have_positions():
    made = tower()
    tokens, valid = texts(5, 3)
    embedded = 4 * made.tokens.weight[tokens] + made.positions.weight[:5]
    torch.testing.assert_close(made(tokens, valid), made.transformer(embedded, valid))


def test_a_state_depends_on_its_token_and_those_before_it():
    made = tower()
    tokens, valid = texts(8)
    states = made(tokens, valid)
    changed = tokens.clone()
    changed[0, 4] = (tokens[0, 4] + 1) % VOCABULARY
    moved = (made(changed, valid) - states).abs().amax(dim=-1)[0] > 1e-5
    assert moved.tolist() == [False] * 4 + [True] * 4


def test_padding_and_batch_mates_change_neither_states_nor_embedding():
    made = tower()
    tokens, valid = texts(4, 9)
    states = made(tokens, valid)
    alone = made(tokens[:1, :4], valid[:1, :4])
    torch.testing.assert_close(states[:1, :4], alone, atol=1e-5, rtol=1e-5)
    pooled, pooled_alone = made.pool(states, valid)[:1], made.pool(alone, valid[:1, :4])
    torch.testing.assert_close(pooled, pooled_alone, atol=1e-5, rtol=1e-5)


def test_beginning_and_end_belong_to_the_pooled_text():
    made = tower()
    tokens, valid = texts(6)
    states = made(tokens, valid)
    everything = made.pool(states, valid)
    for place in (0, 5):
        without = valid.clone()
        without[0, place] = False
        assert (made.pool(states, without) - everything).abs().max() > 1e-3


def test_steps_equal_the_whole_and_count_positions_on():
    made = tower()
    tokens, valid = texts(6, 6)
    caches = made.transformer.new_caches()
    steps = torch.cat([made.step(tokens[:, place], caches) for place in range(6)], dim=1)
    torch.testing.assert_close(steps, made(tokens, valid), atol=1e-5, rtol=1e-5)


def test_a_text_longer_than_the_positions_is_refused_whole_or_in_steps():
    made = tower()
    made(*texts(12))
    with pytest.raises(ConfigError, match="13 tokens does not fit the 12 positions"):
        made(*texts(13))
    tokens, _ = texts(13)
    caches = made.transformer.new_caches()
    for place in range(12):
        made.step(tokens[:, place], caches)
    with pytest.raises(ConfigError, match="13 tokens does not fit the 12 positions"):
        made.step(tokens[:, 12], caches)


def test_groups_hold_every_weight_once_from_input_to_output():
    made = tower()
    *early, last = made.transformer.layers
    parts = [[made.tokens, made.positions], *([layer] for layer in early), [last, made.transformer.norm], [made.pooler]]
    groups = made.parameter_groups()
    assert [sum(weight.numel() for weight in group) for group in groups] == [parameters(*part) for part in parts]
    assert sorted(id(weight) for group in groups for weight in group) == sorted(map(id, made.parameters()))


def test_a_language_model_has_no_pooler_that_would_be_idle():
    made = tower(pooled=False)
    tokens, valid = texts(5)
    made(tokens, valid).square().sum().backward()
    assert [name for name, weight in made.named_parameters() if weight.grad is None] == []
    assert len(made.parameter_groups()) == 4
    with pytest.raises(ConfigError, match="no image tower"):
        made.pool(torch.zeros(1, 5, 16), valid)


def test_dropout_is_where_the_settings_say():
    tokens, valid = texts(5)
    for setting in ("dropout", "attention_dropout"):
        made = tower(dataclasses.replace(SMALL, **{setting: 0.5})).train()
        assert not torch.equal(made(tokens, valid), made(tokens, valid))
    made = tower().train()
    assert torch.equal(made(tokens, valid), made(tokens, valid))


def test_recomputed_activations_give_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        made = tower(checkpointing=checkpointing).train()
        tokens, valid = texts(5, 3)
        made.pool(made(tokens, valid), valid).sum().backward()
        gradients.append([weight.grad for weight in made.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(
    ("size", "message"), [({"layers": 0}, "layers: 0"), ({"context_length": 1}, "context_length: 1")]
)
def test_sizes_that_leave_something_out_are_refused(size, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **size)
