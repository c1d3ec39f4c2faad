"""Colours and further bands, each with an encoder of its own, brought together token by token."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

from biomass_pl.errors import ConfigError
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.timm_networks import has_fixed_size

_HEADS = 12
_DROPOUT = 0.1
_HIDDEN_RATIO = 4
"""Published settings of the fusion by attention."""


class CrossAttentionFusion(nn.Module):
    """Tokens of the colours ask those of the bands: the published DFCA, one post-norm layer of cross-attention.

    The published "disease mask" is a learned vector that is added to all tokens of the bands alike. It cancels in the
    attention weights, and what is left of it the biases can express; it is here so that weights and counts agree.

    Args:
        width: Length of the tokens; a multiple of 12, the heads.

    Raises:
        ConfigError: The width cannot be shared out to the heads.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        if width % _HEADS:
            raise ConfigError(
                f"model.use_dfca shares tokens out to {_HEADS} heads, and those of this backbone have {width} numbers. "
                "Choose a backbone whose width is a multiple of 12, or set model.use_dfca: false."
            )
        self.mask = nn.Parameter(torch.zeros(1, 1, width))
        self.attention = nn.MultiheadAttention(width, _HEADS, dropout=_DROPOUT, batch_first=True)
        self.dropout = nn.Dropout(_DROPOUT)
        self.norm1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, _HIDDEN_RATIO * width),
            nn.GELU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_HIDDEN_RATIO * width, width),
            nn.Dropout(_DROPOUT),
        )
        self.norm2 = nn.LayerNorm(width)

    def forward(self, colours: Tensor, bands: Tensor) -> Tensor:
        """Fused tokens (B, N, D) of those of the colours (B, N, D) and of the bands (B, M, D)."""
        known = bands + self.mask
        attended, _ = self.attention(colours, known, known, need_weights=False)
        tokens = self.norm1(colours + self.dropout(attended))
        fused: Tensor = self.norm2(tokens + self.mlp(tokens))
        return fused


class ConcatenationFusion(nn.Module):
    """Tokens of the same place side by side, projected to the width of one.

    Args:
        width: Length of the tokens.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(2 * width, width)

    def forward(self, colours: Tensor, bands: Tensor) -> Tensor:
        """Fused tokens (B, N, D) of those of the colours and of the bands, (B, N, D) each."""
        fused: Tensor = self.projection(torch.cat([colours, bands], dim=-1))
        return fused


class BandStream(nn.Module):
    """The encoder of the bands, and how they meet the colours.

    Bands are standardised by the statistics of the training photos, which `standardise_by` tells.

    Args:
        backbone: Encoder of the colours; that of the bands is another one of the same kind, with random weights.
        channels: Number of bands.
        by_attention: Fuse by cross-attention (DFCA); otherwise by concatenation.
        grad_checkpointing: Compute the activations of the encoder again in the backward pass.

    Raises:
        ConfigError: The backbone gives no tokens.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, backbone: Backbone, channels: int, by_attention: bool, grad_checkpointing: bool) -> None:
        super().__init__()
        self.channels = channels
        self.encoder = _band_encoder(backbone, channels)
        if grad_checkpointing:
            self.encoder.set_grad_checkpointing(True)
        width = backbone.num_features
        self.fusion = CrossAttentionFusion(width=width) if by_attention else ConcatenationFusion(width=width)
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    def standardise_by(self, mean: Tensor, std: Tensor) -> None:
        """Sets mean and standard deviation of the bands, (C,) each; a band that never changes is only shifted."""
        self.mean.copy_(mean.view(-1, 1, 1))
        self.std.copy_(torch.where(std > 0, std, 1.0).view(-1, 1, 1))

    def forward(self, backbone: Backbone, tiles: Tensor, bands: Tensor) -> Tensor:
        """Features (B, D) of tiles (B, 3, S, S) of 0 to 255 and their bands (B, C, S, S)."""
        network: Any = backbone.network
        colours = network.forward_features(backbone.normalise(tiles))
        tokens = self.encoder.forward_features((bands - self.mean) / self.std)
        features: Tensor = network.forward_head(self.fusion(colours, tokens), pre_logits=True)
        return features


def _band_encoder(backbone: Backbone, channels: int) -> Any:
    side = backbone.tile_size
    sized: dict[str, Any] = {"img_size": side} if has_fixed_size(backbone.name) else {}
    encoder: Any = timm.create_model(backbone.name, num_classes=0, in_chans=channels, **sized, **backbone.args)
    if hasattr(encoder, "fc_norm"):
        encoder.fc_norm = nn.Identity()  # normalises what is classified, which is the fused tokens
    with torch.inference_mode():
        tokens = encoder.eval().forward_features(torch.zeros(1, channels, side, side))
    encoder.train()
    if tokens.ndim != 3:
        raise ConfigError(
            f"'{backbone.name}' gives no tokens that bands could be brought together with. Choose a vision transformer "
            "such as hvit_small as model.backbone, or set model.spectral_channels: 0."
        )
    return encoder
