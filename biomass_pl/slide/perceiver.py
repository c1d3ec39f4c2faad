"""The perceiver resampler: a fixed number of latent vectors reads a bag of any size, in any order.

Jaegle et al. 2021 (arXiv 2103.03206); its use on slides: Shaikovski et al. 2024, PRISM (arXiv 2405.10254).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from biomass_pl.errors import ConfigError
from biomass_pl.slide.poolers import ImageEncoding
from biomass_pl.slide.transformer import KeysValues, MultiHeadAttention, TransformerLayer, run_block


@dataclass(frozen=True, kw_only=True)
class PerceiverConfig:
    """Sizes of a perceiver; the defaults are the published ones.

    Args:
        latents: Learned vectors that read the bag: one becomes the embedding, the others the decoder's memory.
        width: Length of the latent vectors.
        blocks: How often the bag is read.
        self_layers: Self-attention layers after each reading; all blocks share their weights.
        cross_heads: Heads of the attention to the bag.
        self_heads: Heads of the attention among the latents.
    """

    latents: int = 512
    width: int = 1280
    blocks: int = 8
    self_layers: int = 6
    cross_heads: int = 1
    self_heads: int = 8

    def __post_init__(self) -> None:
        if self.latents < 2:
            raise ConfigError(
                f"A perceiver with latents: {self.latents} has none for the decoder; the first is the embedding. "
                "Give 2 or more."
            )
        if self.blocks < 2:
            raise ConfigError(
                f"A perceiver with blocks: {self.blocks} has no block for its second reader. Give 2 or more."
            )


class GatedMLP(nn.Module):
    """An MLP whose hidden values are gated by a GELU of others (GEGLU, Shazeer 2020), as wide as its input.

    Args:
        width: Length of the vectors.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def forward(self, vectors: Tensor) -> Tensor:
        """(..., width) of (..., width)."""
        values, gates = self.hidden(vectors).chunk(2, dim=-1)
        changed: Tensor = self.output(values * functional.gelu(gates))
        return changed


class BagReader(nn.Module):
    """Cross-attention of the latents to a bag; what they find replaces them, and an MLP is added to it.

    Args:
        width: Length of the latent vectors.
        input_dim: Length of the vectors of the bag.
        heads: Attention heads.
    """

    def __init__(self, *, width: int, input_dim: int, heads: int) -> None:
        super().__init__()
        self.latent_norm = nn.LayerNorm(width)
        self.bag_norm = nn.LayerNorm(input_dim)
        self.attention = MultiHeadAttention(width=width, heads=heads, context_width=input_dim, bias=False)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = GatedMLP(width=width)

    def keys_values(self, bag: Tensor) -> KeysValues:
        """What the latents attend to, of a bag (B, N, input_dim)."""
        return self.attention.keys_values(self.bag_norm(bag))

    def forward(self, latents: Tensor, known: KeysValues, mask: Tensor) -> Tensor:
        """Latents (B, L, width) of latents (B, L, width)."""
        found = self.attention(self.latent_norm(latents), known, mask)
        changed: Tensor = found + self.mlp(self.mlp_norm(found))
        return changed


class Perceiver(nn.Module):
    """Blocks of reading the bag and of self-attention among the latents; no positions enter anywhere.

    The first block has a reader of its own, all later ones share another; keys and values of the bag are therefore
    computed only twice. All blocks share the self-attention layers.

    Args:
        config: Sizes.
        input_dim: Length of the vectors of a bag.
        embed_dim: Length of the vectors that are given.
        grad_checkpointing: Compute the activations of a block again in the backward pass.
    """

    def __init__(self, config: PerceiverConfig, *, input_dim: int, embed_dim: int, grad_checkpointing: bool) -> None:
        super().__init__()
        width = config.width
        self.blocks = config.blocks
        self.grad_checkpointing = grad_checkpointing
        self.latents = nn.Parameter(0.02 * torch.randn(config.latents, width))
        self.first_reader = BagReader(width=width, input_dim=input_dim, heads=config.cross_heads)
        self.later_reader = BagReader(width=width, input_dim=input_dim, heads=config.cross_heads)
        self.self_layers = nn.ModuleList(
            TransformerLayer(width=width, heads=config.self_heads, hidden=width, bias=False)
            for _ in range(config.self_layers)
        )
        self.projection = nn.Linear(width, embed_dim)
        self.apply(_initialise)

    def forward(self, features: Tensor, valid: Tensor) -> ImageEncoding:
        """Embedding and memory (B, latents - 1, E) of bags (B, N, input_dim), valid (B, N) where there is a vector."""
        mask = valid[:, None, None, :]
        latents = self.latents.expand(features.shape[0], -1, -1)
        for block in range(self.blocks):
            reader = self.later_reader if block else self.first_reader
            if block < 2:  # the later blocks attend to the same keys and values as the second
                known = reader.keys_values(features)
            latents = run_block(self._block, reader, latents, known, mask, checkpointing=self.grad_checkpointing)
        vectors = self.projection(latents)
        return ImageEncoding(vectors[:, 0], vectors[:, 1:])

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """All weights, from those next to the input to those next to the output."""
        layers = [self.later_reader, *self.self_layers, self.projection]
        return [[self.latents, *self.first_reader.parameters()], *(list(layer.parameters()) for layer in layers)]

    def _block(self, reader: BagReader, latents: Tensor, known: KeysValues, mask: Tensor) -> Tensor:
        latents = reader(latents, known, mask)
        for layer in self.self_layers:
            latents = layer(latents, None)
        return latents


def _initialise(module: nn.Module) -> None:
    """Published: uniform after Kaiming for linear units, no biases."""
    if isinstance(module, nn.Linear):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="linear")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
