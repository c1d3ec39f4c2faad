"""Attention with masks and key-value caches, and the pre-norm transformer layers that all towers are built of.

Boolean masks are True where there is something. A query without anything to attend to gets zeros from the attention.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from biomass_pl.errors import ConfigError


class KeysValues(NamedTuple):
    """What queries attend to: keys and values (B, heads, K, D) each."""

    keys: Tensor
    values: Tensor


@dataclass(kw_only=True)
class LayerCache:
    """What a layer need not compute again for the next token.

    Attributes:
        seen: Keys and values of the tokens so far, one row per text.
        memory: Keys and values of the cross-attention, one row per specimen.
    """

    seen: KeysValues | None = None
    memory: KeysValues | None = None

    @property
    def length(self) -> int:
        """Number of tokens so far."""
        return 0 if self.seen is None else self.seen.keys.shape[2]

    def extend(self, new: KeysValues) -> KeysValues:
        """Adds further tokens, and gives all of them."""
        if self.seen is not None:
            joined = [torch.cat(pair, dim=2) for pair in zip(self.seen, new, strict=True)]
            new = KeysValues(*joined)
        self.seen = new
        return new

    def select(self, rows: Tensor) -> None:
        """Goes on with the texts of these rows (R,), which stay with their specimens."""
        if self.seen is not None:
            self.seen = KeysValues(self.seen.keys[rows], self.seen.values[rows])


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention of several heads (Vaswani et al. 2017), computed by PyTorch's fused kernels.

    Args:
        width: Length of queries and outputs.
        heads: Number of heads; divides the width.
        context_width: Length of the vectors attended to; None for `width`.
        bias: Whether the projections of queries, keys and values have biases.
        dropout: Dropout of attention weights.

    Raises:
        ConfigError: The width cannot be shared out to the heads.
    """

    def __init__(
        self, *, width: int, heads: int, context_width: int | None = None, bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(
                f"A width of {width} cannot be shared out to {heads} attention heads. "
                "Choose a number of heads that divides the width."
            )
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(context_width or width, width, bias=bias)
        self.value = nn.Linear(context_width or width, width, bias=bias)
        self.output = nn.Linear(width, width)
        for layer in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def keys_values(self, context: Tensor) -> KeysValues:
        """Keys and values of the vectors (B, K, C) that queries attend to."""
        return KeysValues(self._split(self.key(context)), self._split(self.value(context)))

    def forward(self, queries: Tensor, known: KeysValues, mask: Tensor | None = None) -> Tensor:
        """What queries find.

        Args:
            queries: (B, Q, width).
            known: What they attend to.
            mask: What each query may attend to, of a shape that broadcasts to (B, heads, Q, K); None for everything.

        Returns:
            (B, Q, width).
        """
        found = functional.scaled_dot_product_attention(
            self._split(self.query(queries)),
            known.keys,
            known.values,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        projected: Tensor = self.output(found.transpose(1, 2).flatten(2))
        return projected

    def _split(self, vectors: Tensor) -> Tensor:
        return vectors.view(*vectors.shape[:-1], self.heads, -1).transpose(1, 2)


class TransformerLayer(nn.Module):
    """Self-attention, cross-attention where asked for, and an MLP with GELU; each normalised before and added.

    Args:
        width: Length of the tokens.
        heads: Attention heads.
        hidden: Hidden width of the MLP.
        cross_attention: Whether the tokens also attend to a memory of the same width.
        bias: Whether the projections of queries, keys and values have biases.
        dropout: Dropout of what is added to the tokens, and within the MLP.
        attention_dropout: Dropout of attention weights.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        hidden: int,
        cross_attention: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width=width, heads=heads, bias=bias, dropout=attention_dropout)
        self.cross_norm = nn.LayerNorm(width) if cross_attention else None
        self.cross_attention = (
            MultiHeadAttention(width=width, heads=heads, bias=bias, dropout=attention_dropout)
            if cross_attention
            else None
        )
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Tensor, mask: Tensor | None, memory: Tensor | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        """Tokens after this layer.

        Args:
            tokens: (B, T, width). With a cache, only the tokens that are new.
            mask: Which tokens each one may attend to, of a shape that broadcasts to (B, heads, T, K).
            memory: (S, L, width) for the cross-attention; with S < B, each specimen has B / S rows one after another.
            cache: Keeps keys and values between calls.

        Returns:
            (B, T, width).
        """
        normed = self.attention_norm(tokens)
        known = self.attention.keys_values(normed)
        if cache is not None:
            known = cache.extend(known)
        tokens = tokens + self.dropout(self.attention(normed, known, mask))
        if memory is not None and self.cross_attention is not None and self.cross_norm is not None:
            tokens = tokens + self.dropout(self._recall(self.cross_norm(tokens), memory, self.cross_attention, cache))
        changed: Tensor = tokens + self.mlp(self.mlp_norm(tokens))
        return changed

    def _recall(
        self, tokens: Tensor, memory: Tensor, attention: MultiHeadAttention, cache: LayerCache | None
    ) -> Tensor:
        known = cache.memory if cache is not None else None
        if known is None:
            known = attention.keys_values(memory)
        if cache is not None:
            cache.memory = known
        # Texts of one specimen are queries beside one another, so that its memory is not copied for each.
        found: Tensor = attention(tokens.reshape(memory.shape[0], -1, tokens.shape[-1]), known)
        return found.reshape(tokens.shape)


class CausalTransformer(nn.Module):
    """Layers in which a token sees itself and what came before, and a last normalisation.

    Args:
        layers: Number of layers.
        width: Length of the tokens.
        heads: Attention heads.
        cross_attention: Whether the tokens also attend to a memory of the same width.
        dropout: Dropout of what is added to the tokens, and within the MLPs.
        attention_dropout: Dropout of attention weights.
        grad_checkpointing: Compute the activations of a layer again in the backward pass.
        final_norm: Whether the last normalisation is there; without it, the tokens are those of the last layer.
    """

    def __init__(
        self,
        *,
        layers: int,
        width: int,
        heads: int,
        cross_attention: bool,
        dropout: float,
        attention_dropout: float,
        grad_checkpointing: bool,
        final_norm: bool = True,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(
                width=width,
                heads=heads,
                hidden=4 * width,
                cross_attention=cross_attention,
                dropout=dropout,
                attention_dropout=attention_dropout,
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width) if final_norm else nn.Identity()
        self.grad_checkpointing = grad_checkpointing
        self.layers.apply(initialise_normal)

    def forward(self, tokens: Tensor, token_valid: Tensor, memory: Tensor | None = None) -> Tensor:
        """Tokens (B, T, width) after all layers, from such tokens, which of them are real (B, T), and a memory."""
        length = token_valid.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=token_valid.device).tril()
        mask = causal & token_valid[:, None, None, :]
        for layer in self.layers:
            tokens = run_block(layer, tokens, mask, memory, checkpointing=self.grad_checkpointing)
        normed: Tensor = self.norm(tokens)
        return normed

    def step(self, tokens: Tensor, caches: list[LayerCache], memory: Tensor | None = None) -> Tensor:
        """Next tokens (B, 1, width) after all layers, from such tokens, which see all that is in the caches."""
        for layer, cache in zip(self.layers, caches, strict=True):
            tokens = layer(tokens, None, memory, cache)
        normed: Tensor = self.norm(tokens)
        return normed

    def new_caches(self) -> list[LayerCache]:
        """An empty cache for each layer."""
        return [LayerCache() for _ in self.layers]


def run_block(block: Callable[..., Tensor], *inputs: Any, checkpointing: bool) -> Tensor:
    """What a block gives; with checkpointing, its activations are computed again in the backward pass."""
    if checkpointing and torch.is_grad_enabled():
        recomputed: Tensor = checkpoint(block, *inputs, use_reentrant=False)
        return recomputed
    return block(*inputs)


def initialise_normal(module: nn.Module) -> None:
    """Weights of linear layers and embeddings from a normal distribution of deviation 0.02, biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
