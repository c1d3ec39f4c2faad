"""The decoder: causality, the image's memory, its head, and the published size."""

import dataclasses

import pytest
import torch
from torch import nn

from biomass_pl.errors import ConfigError
from biomass_pl.slide.decoder import DecoderConfig, MultimodalDecoder
from tests.slide.networks import VOCABULARY, parameters, randomised

SMALL = DecoderConfig(layers=2, heads=2)


def decoder(
    config: DecoderConfig = SMALL, *, cross_attention: bool = True, checkpointing: bool = False
) -> MultimodalDecoder:
    torch.manual_seed(0)
    made = MultimodalDecoder(
        config,
        vocab_size=VOCABULARY,
        embed_dim=8,
        cross_attention=cross_attention,
        token_embeddings=nn.Embedding(VOCABULARY, 8),
        grad_checkpointing=checkpointing,
    )
    return randomised(made)


def valid(rows: int, length: int) -> torch.Tensor:
    return torch.ones(rows, length, dtype=torch.bool)


def test_the_published_decoder_has_245_million_parameters():
    with torch.device("meta"):
        made = MultimodalDecoder(
            DecoderConfig(),
            vocab_size=42384,
            embed_dim=1024,
            cross_attention=True,
            token_embeddings=nn.Embedding(42384, 1024),
            grad_checkpointing=False,
        )
    assert round(parameters(made) / 1e6, 1) == 245.0


def test_logits_see_nothing_of_what_comes_after():
    made = decoder()
    states, memory = torch.randn(1, 6, 8), torch.randn(1, 3, 8)
    logits = made(states, valid(1, 6), memory)
    states = torch.cat([states[:, :4], torch.randn(1, 2, 8)], dim=1)
    moved = (made(states, valid(1, 6), memory) - logits).abs().amax(dim=-1)[0] > 1e-5
    assert moved.tolist() == [False] * 4 + [True] * 2


def test_every_vector_of_the_memory_counts_in_any_order():
    made = decoder()
    states, memory = torch.randn(1, 2, 8), torch.randn(1, 3, 8)
    logits = made(states, valid(1, 2), memory)
    torch.testing.assert_close(made(states, valid(1, 2), memory[:, [2, 0, 1]]), logits, atol=1e-5, rtol=1e-5)
    for place in range(3):
        changed = memory.clone()
        changed[0, place] += 1
        assert (made(states, valid(1, 2), changed) - logits).abs().max() > 1e-4


def test_a_language_model_has_no_attention_to_images():
    made = decoder(cross_attention=False)
    assert not any("cross" in name for name, _ in made.named_parameters())
    made(torch.randn(2, 4, 8), valid(2, 4), None).square().sum().backward()
    assert [name for name, weight in made.named_parameters() if weight.grad is None] == []


def test_a_tied_head_is_the_table_of_embeddings_with_a_bias_of_its_own():
    embeddings = nn.Embedding(VOCABULARY, 8)
    made = MultimodalDecoder(
        dataclasses.replace(SMALL, tied_head=True),
        vocab_size=VOCABULARY,
        embed_dim=8,
        cross_attention=True,
        token_embeddings=embeddings,
        grad_checkpointing=False,
    )
    assert made.head.weight is embeddings.weight
    assert decoder().head.weight is not embeddings.weight
    states = torch.randn(1, 2, 8)
    made.head.bias.data += 3
    hidden = made.transformer(states, valid(1, 2))
    torch.testing.assert_close(made(states, valid(1, 2), None), hidden @ embeddings.weight.T + 3)


def test_recomputed_activations_give_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        made = decoder(checkpointing=checkpointing).train()
        made(torch.ones(1, 3, 8), valid(1, 3), torch.ones(1, 2, 8)).square().sum().backward()
        gradients.append([weight.grad for weight in made.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("setting", ["dropout", "attention_dropout"])
def test_dropout_is_where_the_settings_say(setting):
    made = decoder(dataclasses.replace(SMALL, **{setting: 0.5})).train()
    states = torch.randn(1, 6, 8)
    assert not torch.equal(made(states, valid(1, 6), None), made(states, valid(1, 6), None))


def test_no_layers_are_refused():
    with pytest.raises(ConfigError, match="layers: 0"):
        DecoderConfig(layers=0)
