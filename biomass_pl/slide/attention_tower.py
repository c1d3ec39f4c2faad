"""Image towers with attentional poolers: a small transformer over the bag, or a projection alone."""

from dataclasses import dataclass

from torch import Tensor, nn

from biomass_pl.errors import ConfigError
from biomass_pl.slide.poolers import ImageEncoding, VectorAndMatrixPooler
from biomass_pl.slide.transformer import TransformerLayer, run_block

_MLP_RATIO = 4
_FINAL_NORM_EPS = 1e-6
"""Published settings of the transformer."""


@dataclass(frozen=True, kw_only=True)
class PoolerOnlyConfig:
    """Sizes of a projection with poolers; the defaults are the published ones.

    Args:
        pooler_heads: Heads of each attentional pooler.
        matrix_queries: Vectors in the memory of the decoder.
    """

    pooler_heads: int = 8
    matrix_queries: int = 256

    def __post_init__(self) -> None:
        if self.matrix_queries < 1:
            raise ConfigError(f"matrix_queries: {self.matrix_queries} leaves the decoder nothing. Give 1 or more.")


@dataclass(frozen=True, kw_only=True)
class AttentionTowerConfig(PoolerOnlyConfig):
    """Sizes of a transformer with poolers; the defaults are the published ones.

    Time and memory grow with the square of the bag, so it suits bags of a few hundred vectors.

    Args:
        pooler_heads: Heads of each attentional pooler.
        matrix_queries: Vectors in the memory of the decoder.
        depth: Transformer layers.
        heads: Attention heads of a layer.
        dropout: Dropout after the projection of the input, of what a layer adds, and within its MLP.
        attention_dropout: Dropout of attention weights in the layers.
    """

    depth: int = 2
    heads: int = 4
    dropout: float = 0.0
    attention_dropout: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth < 1:
            raise ConfigError(f"depth: {self.depth} leaves no transformer layers. Give 1 or more.")


class PoolerOnlyTower(nn.Module):
    """Every vector is projected by itself, then they are pooled.

    Args:
        config: Sizes.
        input_dim: Length of the vectors of a bag.
        embed_dim: Length of the vectors that are given.
        has_decoder: Whether there is a decoder to pool a memory for.
    """

    def __init__(self, config: PoolerOnlyConfig, *, input_dim: int, embed_dim: int, has_decoder: bool) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.Linear(input_dim, embed_dim), nn.GELU())
        self.poolers = VectorAndMatrixPooler(
            width=embed_dim, heads=config.pooler_heads, matrix_queries=config.matrix_queries if has_decoder else 0
        )
        self.projection.apply(_initialise)

    def forward(self, features: Tensor, valid: Tensor) -> ImageEncoding:
        """Embedding and memory of bags (B, N, input_dim), valid (B, N) where there is a vector."""
        encoding: ImageEncoding = self.poolers(self.projection(features), valid)
        return encoding

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """All weights, from those next to the input to those next to the output."""
        return [list(part.parameters()) for part in (self.projection, self.poolers)]


class AttentionTower(nn.Module):
    """A projection, pre-norm transformer layers over the bag without positions, then poolers.

    Args:
        config: Sizes.
        input_dim: Length of the vectors of a bag.
        embed_dim: Length of the tokens, and of the vectors that are given.
        has_decoder: Whether there is a decoder to pool a memory for.
        grad_checkpointing: Compute the activations of a layer again in the backward pass.
    """

    def __init__(
        self,
        config: AttentionTowerConfig,
        *,
        input_dim: int,
        embed_dim: int,
        has_decoder: bool,
        grad_checkpointing: bool,
    ) -> None:
        super().__init__()
        self.grad_checkpointing = grad_checkpointing
        self.projection = nn.Sequential(nn.Linear(input_dim, embed_dim), nn.GELU(), nn.Dropout(config.dropout))
        self.layers = nn.ModuleList(
            TransformerLayer(
                width=embed_dim,
                heads=config.heads,
                hidden=_MLP_RATIO * embed_dim,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=_FINAL_NORM_EPS)
        self.poolers = VectorAndMatrixPooler(
            width=embed_dim, heads=config.pooler_heads, matrix_queries=config.matrix_queries if has_decoder else 0
        )
        self.projection.apply(_initialise)
        self.layers.apply(_initialise)

    def forward(self, features: Tensor, valid: Tensor) -> ImageEncoding:
        """Embedding and memory of bags (B, N, input_dim), valid (B, N) where there is a vector."""
        tokens = self.projection(features)
        for layer in self.layers:
            tokens = run_block(layer, tokens, valid[:, None, None, :], checkpointing=self.grad_checkpointing)
        encoding: ImageEncoding = self.poolers(self.norm(tokens), valid)
        return encoding

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """All weights, from those next to the input to those next to the output."""
        *early, last = (list(layer.parameters()) for layer in self.layers)
        last += self.norm.parameters()
        return [list(self.projection.parameters()), *early, last, list(self.poolers.parameters())]


def _initialise(module: nn.Module) -> None:
    """Published: truncated normal linear layers, no biases."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
