"""The causal text tower: token and position embeddings, transformer layers, and a pooled vector for the whole text."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from biomass_pl.errors import ConfigError
from biomass_pl.slide.poolers import AttentionalPooler
from biomass_pl.slide.transformer import CausalTransformer, LayerCache, initialise_normal


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Sizes of the text tower; the defaults are the published ones.

    Args:
        layers: Transformer layers.
        heads: Attention heads of a layer.
        context_length: Positions, which is the most tokens that a text can have, BOS and EOS included.
        pooler_heads: Heads of the attentional pooler.
        dropout: Dropout of the embeddings, of what a layer adds, and within its MLP.
        attention_dropout: Dropout of attention weights in the layers.
        final_norm: Normalise the states. Otherwise a decoder gets them as the last layer leaves them, like the next
            layer of one language model, and only what the pooler reads is normalised.
    """

    layers: int = 12
    heads: int = 16
    context_length: int = 1024
    pooler_heads: int = 8
    dropout: float = 0.0
    attention_dropout: float = 0.0
    final_norm: bool = True

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ConfigError(f"A text tower with layers: {self.layers} reads nothing. Give 1 or more.")
        if self.context_length < 2:
            raise ConfigError(
                f"A text tower with context_length: {self.context_length} has no place for a beginning and an end. "
                "Give 2 or more."
            )


class TextEncoding(NamedTuple):
    """What a network makes of a text.

    Attributes:
        embedding: One vector (B, E) per text, not normalised, to be compared with those of images.
        states: A vector (B, T, E) per token, which depends on this token and those before it.
    """

    embedding: Tensor
    states: Tensor


class TextTower(nn.Module):
    """Embeddings scaled by the root of their length, learned positions, causal layers, and an attentional pooler.

    Args:
        config: Sizes.
        vocab_size: Number of different tokens.
        embed_dim: Length of the tokens, and of the vector that is given.
        pooled: Whether there is an image tower, with whose vectors a pooled one is compared.
        grad_checkpointing: Compute the activations of a layer again in the backward pass.
    """

    def __init__(
        self, config: TextConfig, *, vocab_size: int, embed_dim: int, pooled: bool, grad_checkpointing: bool
    ) -> None:
        super().__init__()
        self.scale = math.sqrt(embed_dim)
        self.tokens = nn.Embedding(vocab_size, embed_dim)
        self.positions = nn.Embedding(config.context_length, embed_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.transformer = CausalTransformer(
            layers=config.layers,
            width=embed_dim,
            heads=config.heads,
            cross_attention=False,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            grad_checkpointing=grad_checkpointing,
            final_norm=config.final_norm,
        )
        self.pooler = AttentionalPooler(width=embed_dim, heads=config.pooler_heads, queries=1) if pooled else None
        self.pooler_norm = nn.LayerNorm(embed_dim) if pooled and not config.final_norm else nn.Identity()
        initialise_normal(self.tokens)
        initialise_normal(self.positions)

    def forward(self, tokens: Tensor, token_valid: Tensor) -> Tensor:
        """States (B, T, E) of tokens (B, T), of which those where `token_valid` (B, T) are real.

        Raises:
            ConfigError: The texts have more tokens than there are positions.
        """
        states: Tensor = self.transformer(self._embed(tokens, start=0), token_valid)
        return states

    def pool(self, states: Tensor, token_valid: Tensor) -> Tensor:
        """The embedding (B, E) of texts with these states (B, T, E).

        Raises:
            ConfigError: The network has no image tower, and so no vector to compare with an image's.
        """
        if self.pooler is None:
            raise ConfigError(
                "This network has no image tower, so its texts have no embedding. Choose a network of images and texts."
            )
        answers: Tensor = self.pooler(self.pooler_norm(states), token_valid)
        return answers[:, 0]

    def step(self, tokens: Tensor, caches: list[LayerCache]) -> Tensor:
        """States (B, 1, E) of the next tokens (B,), which see all that is in the caches."""
        return self.transformer.step(self._embed(tokens[:, None], start=caches[0].length), caches)

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """All weights, from those next to the input to those next to the output."""
        *early, last = (list(layer.parameters()) for layer in self.transformer.layers)
        last += self.transformer.norm.parameters()
        pooler = [] if self.pooler is None else [[*self.pooler_norm.parameters(), *self.pooler.parameters()]]
        return [[*self.tokens.parameters(), *self.positions.parameters()], *early, last, *pooler]

    def _embed(self, tokens: Tensor, *, start: int) -> Tensor:
        end = start + tokens.shape[1]
        if end > self.positions.num_embeddings:
            raise ConfigError(
                f"A text of {end} tokens does not fit the {self.positions.num_embeddings} positions of the text tower. "
                "Cut texts to fewer tokens, or give the text tower a larger context_length."
            )
        places = torch.arange(start, end, device=tokens.device)
        embedded: Tensor = self.dropout(self.scale * self.tokens(tokens) + self.positions(places))
        return embedded
