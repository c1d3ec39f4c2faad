"""Attention against its formula, masks, caches, and recomputed activations."""

import pytest
import torch

from biomass_pl.errors import ConfigError
from biomass_pl.slide.transformer import CausalTransformer, MultiHeadAttention, TransformerLayer, run_block
from tests.slide.networks import randomised


def transformer(
    *, cross_attention: bool = True, checkpointing: bool = False, dropout: float = 0.0
) -> CausalTransformer:
    torch.manual_seed(0)
    made = CausalTransformer(
        layers=2,
        width=8,
        heads=2,
        cross_attention=cross_attention,
        dropout=dropout,
        attention_dropout=dropout,
        grad_checkpointing=checkpointing,
    )
    return randomised(made)


def test_attention_is_the_published_formula():
    attention = randomised(MultiHeadAttention(width=6, heads=2, context_width=4))
    queries, context = torch.randn(2, 3, 6), torch.randn(2, 5, 4)
    mask = torch.tensor([True, True, False, True, False]).expand(2, 1, 1, 5)
    q, k, v = attention.query(queries), attention.key(context), attention.value(context)
    heads = []
    for head in (slice(0, 3), slice(3, 6)):
        scores = q[..., head] @ k[..., head].transpose(1, 2) / 3**0.5
        heads.append(scores.masked_fill(~mask[:, 0], float("-inf")).softmax(dim=-1) @ v[..., head])
    expected = attention.output(torch.cat(heads, dim=-1))
    torch.testing.assert_close(attention(queries, attention.keys_values(context), mask), expected)


def test_a_query_without_anything_to_attend_to_gets_the_bias_of_the_output():
    attention = randomised(MultiHeadAttention(width=4, heads=2))
    vectors = torch.randn(1, 3, 4)
    found = attention(vectors, attention.keys_values(vectors), torch.zeros(1, 1, 3, 3, dtype=torch.bool))
    torch.testing.assert_close(found, attention.output.bias.expand(1, 3, 4))


def test_dropout_of_attention_weights_is_off_in_eval_mode():
    attention = MultiHeadAttention(width=4, heads=1, dropout=0.5)
    vectors = torch.randn(1, 9, 4)
    known = attention.keys_values(vectors)
    assert not torch.equal(attention(vectors, known), attention(vectors, known))
    attention.eval()
    assert torch.equal(attention(vectors, known), attention(vectors, known))


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match="A width of 10 cannot be shared out to 4 attention heads"):
        MultiHeadAttention(width=10, heads=4)


def test_a_layer_adds_attention_memory_and_mlp_one_after_another():
    layer = randomised(TransformerLayer(width=8, heads=2, hidden=12, cross_attention=True))
    tokens, memory = torch.randn(2, 3, 8), torch.randn(2, 4, 8)
    normed = layer.attention_norm(tokens)
    expected = tokens + layer.attention(normed, layer.attention.keys_values(normed))
    recalled = layer.cross_attention(layer.cross_norm(expected), layer.cross_attention.keys_values(memory))
    expected = expected + recalled
    expected = expected + layer.mlp(layer.mlp_norm(expected))
    torch.testing.assert_close(layer(tokens, None, memory), expected)


def test_no_token_sees_what_comes_after_or_is_not_valid():
    made = transformer(cross_attention=False)
    tokens, valid = torch.randn(1, 6, 8), torch.tensor([[True, True, False, True, True, True]])
    before = made(tokens, valid)
    for place, seen in ((2, [2]), (3, [3, 4, 5])):
        changed = tokens.clone()
        changed[0, place] += torch.randn(8)
        moved = (made(changed, valid) - before).abs().amax(dim=-1)[0] > 1e-5
        assert moved.nonzero().flatten().tolist() == seen


@pytest.mark.parametrize("cross_attention", [True, False])
def test_steps_with_caches_equal_the_whole(cross_attention):
    made = transformer(cross_attention=cross_attention)
    tokens = torch.randn(3, 6, 8)
    memory = torch.randn(3, 4, 8) if cross_attention else None
    whole = made(tokens, torch.ones(3, 6, dtype=torch.bool), memory)
    caches = made.new_caches()
    steps = [made.step(tokens[:, place : place + 1], caches, memory) for place in range(6)]
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=1e-5, rtol=1e-5)
    assert caches[0].length == 6


def test_several_texts_of_a_specimen_share_its_memory():
    made = transformer()
    tokens, memory = torch.randn(6, 2, 8), torch.randn(2, 4, 8)
    apart = made(tokens, torch.ones(6, 2, dtype=torch.bool), memory.repeat_interleave(3, dim=0))
    caches = made.new_caches()
    steps = [made.step(tokens[:, place : place + 1], caches, memory) for place in range(2)]
    torch.testing.assert_close(torch.cat(steps, dim=1), apart, atol=1e-5, rtol=1e-5)
    assert caches[0].memory.keys.shape[0] == 2


def test_a_cache_goes_on_with_the_selected_rows():
    made = transformer(cross_attention=False)
    tokens = torch.randn(3, 4, 8)
    rows = torch.tensor([2, 0, 0])
    caches = made.new_caches()
    for place in range(3):
        made.step(tokens[:, place : place + 1], caches)
    for cache in caches:
        cache.select(rows)
    followed = torch.cat([tokens[rows, :3], tokens[:, 3:]], dim=1)
    whole = made(followed, torch.ones(3, 4, dtype=torch.bool))
    torch.testing.assert_close(made.step(tokens[:, 3:], caches)[:, 0], whole[:, 3], atol=1e-5, rtol=1e-5)


def test_recomputed_activations_give_the_same_gradients_with_dropout_too():
    gradients = []
    for checkpointing in (False, True):
        made = transformer(checkpointing=checkpointing, dropout=0.3).train()
        torch.manual_seed(5)
        made(torch.ones(2, 3, 8), torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 4, 8)).square().sum().backward()
        gradients.append([weight.grad for weight in made.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(("checkpointing", "calls"), [(False, 1), (True, 2)])
def test_activations_are_computed_again_only_when_asked(checkpointing, calls):
    seen = []

    def block(tensor):
        seen.append(tensor)
        return tensor.exp()

    run_block(block, torch.ones(2, requires_grad=True), checkpointing=checkpointing).sum().backward()
    assert len(seen) == calls
