"""Contrastive captioning (CoCa, Yu et al. 2022, arXiv 2205.01917) for bags of feature vectors and their reports."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biomass_pl.errors import ConfigError
from biomass_pl.slide.attention_tower import AttentionTower, AttentionTowerConfig, PoolerOnlyConfig, PoolerOnlyTower
from biomass_pl.slide.decoder import DecoderConfig, MultimodalDecoder
from biomass_pl.slide.perceiver import Perceiver, PerceiverConfig
from biomass_pl.slide.poolers import ImageEncoding
from biomass_pl.slide.text_tower import TextConfig, TextEncoding, TextTower
from biomass_pl.slide.transformer import LayerCache

SOFTMAX_SCALE = 1 / 0.07
SIGMOID_SCALE = 10.0
SIGMOID_BIAS = -10.0
"""What similarities are multiplied with at first, and what is then added (SigLIP, Zhai et al. 2023)."""

ImageConfig = PerceiverConfig | AttentionTowerConfig | PoolerOnlyConfig


@dataclass(frozen=True, kw_only=True)
class CaptionerConfig:
    """Which parts a network has, and their sizes.

    Args:
        embed_dim: Length of the embeddings, of the tokens, and of the vectors that the decoder attends to.
        image: The image tower; None for a language model of the reports alone.
        text: The text tower.
        decoder: The multimodal decoder; None for embeddings alone (CLIP).
    """

    embed_dim: int
    image: ImageConfig | None
    text: TextConfig
    decoder: DecoderConfig | None

    def __post_init__(self) -> None:
        if self.image is None and self.decoder is None:
            raise ConfigError(
                "A network with neither an image tower nor a decoder learns nothing. Give it one of them."
            )


torch.serialization.add_safe_globals(  # checkpoints of tasks made in Python hold them
    [CaptionerConfig, PerceiverConfig, AttentionTowerConfig, PoolerOnlyConfig, TextConfig, DecoderConfig]
)


@dataclass(kw_only=True)
class DecodingCache:
    """What need not be computed again for the next token of growing texts.

    Attributes:
        memory: Vectors (S, L, E) of the images; None for a language model.
        text: A cache for each layer of the text tower.
        decoder: A cache for each layer of the decoder.
    """

    memory: Tensor | None
    text: list[LayerCache]
    decoder: list[LayerCache]

    def select(self, rows: Tensor) -> None:
        """Goes on with the texts of these rows (R,); a row must stay with its specimen."""
        for cache in (*self.text, *self.decoder):
            cache.select(rows)


class SlideCaptioner(nn.Module):
    """An image tower, a text tower and a decoder that writes reports.

    Images are bags of vectors without order or positions. Nothing but the vectors and tokens that are marked as valid
    changes an output. Embeddings are not normalised.

    Args:
        config: Parts and sizes.
        input_dim: Length of the vectors of a bag.
        vocab_size: Number of different tokens.
        sigmoid_loss: Start scale and bias for the sigmoid loss; without it there is no bias.
        grad_checkpointing: Compute activations again in the backward pass, which saves memory and costs time.

    Attributes:
        logit_scale: Logarithm of what similarities are multiplied with.
        logit_bias: What is then added; None without `sigmoid_loss`.

    Raises:
        ConfigError: A width cannot be shared out to its attention heads.
    """

    def __init__(
        self,
        config: CaptionerConfig,
        *,
        input_dim: int,
        vocab_size: int,
        sigmoid_loss: bool = False,
        grad_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.image = _image_tower(config, input_dim, grad_checkpointing)
        self.text = TextTower(
            config.text,
            vocab_size=vocab_size,
            embed_dim=config.embed_dim,
            pooled=config.image is not None,
            grad_checkpointing=grad_checkpointing,
        )
        self.decoder: MultimodalDecoder | None = None
        if config.decoder is not None:
            self.decoder = MultimodalDecoder(
                config.decoder,
                vocab_size=vocab_size,
                embed_dim=config.embed_dim,
                cross_attention=config.image is not None,
                token_embeddings=self.text.tokens,
                grad_checkpointing=grad_checkpointing,
            )
        scale = SIGMOID_SCALE if sigmoid_loss else SOFTMAX_SCALE
        self.logit_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.logit_bias = nn.Parameter(torch.tensor(SIGMOID_BIAS)) if sigmoid_loss else None

    def encode_image(self, features: Tensor, valid: Tensor) -> ImageEncoding:
        """Embedding (B, E) and memory (B, L, E) of bags.

        Args:
            features: (B, N, input_dim), padded to the longest bag.
            valid: (B, N), True where there is a vector; at least one in each row.

        Raises:
            ConfigError: The network has no image tower.
        """
        if self.image is None:
            raise ConfigError("This network is a language model and sees no images. Choose one with an image tower.")
        encoding: ImageEncoding = self.image(features, valid)
        return encoding

    def encode_text(self, tokens: Tensor, token_valid: Tensor) -> TextEncoding:
        """Embedding (B, E) and states (B, T, E) of whole texts.

        Args:
            tokens: (B, T), from BOS to EOS, then padding.
            token_valid: (B, T), True where there is a token.

        Raises:
            ConfigError: The network has no image tower, so that texts need no embedding (see `text_states`); or a text
                has more tokens than there are positions.
        """
        states = self.text_states(tokens, token_valid)
        return TextEncoding(self.text.pool(states, token_valid), states)

    def text_states(self, tokens: Tensor, token_valid: Tensor) -> Tensor:
        """States (B, T, E) of texts, which are all that the decoder needs."""
        states: Tensor = self.text(tokens, token_valid)
        return states

    def decode(self, states: Tensor, token_valid: Tensor, memory: Tensor | None) -> Tensor:
        """Scores (B, T, V) of what comes after each token, given all tokens up to it and the image.

        Args:
            states: (B, T, E), of the text tower.
            token_valid: (B, T), True where there is a token.
            memory: (B, L, E), of the image tower; None for a language model.

        Raises:
            ConfigError: The network has no decoder.
        """
        logits: Tensor = self._writer()(states, token_valid, memory)
        return logits

    def start_decoding(self, memory: Tensor | None) -> DecodingCache:
        """An empty cache for texts about images with this memory (S, L, E); None for a language model.

        Raises:
            ConfigError: The network has no decoder.
        """
        decoder = self._writer()
        return DecodingCache(
            memory=memory, text=self.text.transformer.new_caches(), decoder=decoder.transformer.new_caches()
        )

    def next_logits(self, tokens: Tensor, cache: DecodingCache) -> Tensor:
        """Scores (R, V) of what comes after the next tokens (R,), which the cache then also holds.

        The first call gives each text its BOS. There are as many texts for each specimen, one after another.
        """
        return self._writer().step(self.text.step(tokens, cache.text), cache.memory, cache.decoder)

    def image_groups(self) -> list[list[nn.Parameter]]:
        """Weights of the image tower in groups, from those next to the input to those next to the output."""
        return [] if self.image is None else self.image.parameter_groups()

    def text_groups(self) -> list[list[nn.Parameter]]:
        """Weights of the text tower in groups, from those next to the input to those next to the output.

        A tied vocabulary head belongs to the first.
        """
        return self.text.parameter_groups()

    def _writer(self) -> MultimodalDecoder:
        if self.decoder is None:
            raise ConfigError("This network compares images and texts and writes none. Choose one with a decoder.")
        return self.decoder


def _image_tower(
    config: CaptionerConfig, input_dim: int, grad_checkpointing: bool
) -> Perceiver | AttentionTower | PoolerOnlyTower | None:
    sizes, embed_dim, has_decoder = config.image, config.embed_dim, config.decoder is not None
    if sizes is None:
        return None
    if isinstance(sizes, PerceiverConfig):
        return Perceiver(sizes, input_dim=input_dim, embed_dim=embed_dim, grad_checkpointing=grad_checkpointing)
    if isinstance(sizes, AttentionTowerConfig):
        return AttentionTower(
            sizes,
            input_dim=input_dim,
            embed_dim=embed_dim,
            has_decoder=has_decoder,
            grad_checkpointing=grad_checkpointing,
        )
    return PoolerOnlyTower(sizes, input_dim=input_dim, embed_dim=embed_dim, has_decoder=has_decoder)
