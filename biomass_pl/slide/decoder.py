"""The multimodal decoder: it continues a text, token by token, from the states of the text tower and an image."""

from dataclasses import dataclass

from torch import Tensor, nn

from biomass_pl.errors import ConfigError
from biomass_pl.slide.transformer import CausalTransformer, LayerCache, initialise_normal


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Sizes of the decoder; the defaults are the published ones.

    Args:
        layers: Transformer layers.
        heads: Attention heads of a layer.
        dropout: Dropout of what a layer adds, and within its MLP.
        attention_dropout: Dropout of attention weights.
        tied_head: Whether the weights of the vocabulary head are the token embeddings; otherwise it has its own.
    """

    layers: int = 12
    heads: int = 16
    dropout: float = 0.0
    attention_dropout: float = 0.0
    tied_head: bool = False

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ConfigError(f"A decoder with layers: {self.layers} sees no image. Give 1 or more.")


class MultimodalDecoder(nn.Module):
    """Layers of causal self-attention, cross-attention to the image and an MLP, then a score for each token.

    Args:
        config: Sizes.
        vocab_size: Number of different tokens.
        embed_dim: Length of the states, and of the vectors of the memory.
        cross_attention: Whether there is an image to attend to.
        token_embeddings: Those of the text tower, for a tied head.
        grad_checkpointing: Compute the activations of a layer again in the backward pass.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        vocab_size: int,
        embed_dim: int,
        cross_attention: bool,
        token_embeddings: nn.Embedding,
        grad_checkpointing: bool,
    ) -> None:
        super().__init__()
        self.transformer = CausalTransformer(
            layers=config.layers,
            width=embed_dim,
            heads=config.heads,
            cross_attention=cross_attention,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            grad_checkpointing=grad_checkpointing,
        )
        self.head = nn.Linear(embed_dim, vocab_size)
        initialise_normal(self.head)
        if config.tied_head:
            self.head.weight = token_embeddings.weight

    def forward(self, states: Tensor, token_valid: Tensor, memory: Tensor | None) -> Tensor:
        """Scores (B, T, V) of what comes after each token; see `SlideCaptioner.decode`."""
        logits: Tensor = self.head(self.transformer(states, token_valid, memory))
        return logits

    def step(self, states: Tensor, memory: Tensor | None, caches: list[LayerCache]) -> Tensor:
        """Scores (B, V) of what comes after the next tokens, whose states are (B, 1, E)."""
        logits: Tensor = self.head(self.transformer.step(states, caches, memory))
        return logits[:, 0]
