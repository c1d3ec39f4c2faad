"""Tiny networks, bags and texts that the tests of the towers share."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from biomass_pl.slide.attention_tower import AttentionTowerConfig, PoolerOnlyConfig
from biomass_pl.slide.coca import CaptionerConfig, SlideCaptioner
from biomass_pl.slide.decoder import DecoderConfig
from biomass_pl.slide.perceiver import PerceiverConfig
from biomass_pl.slide.text_tower import TextConfig
from biomass_pl.slide.tokenizer import BOS, EOS, PAD

INPUT_DIM = 6
VOCABULARY = 17

PERCEIVER = CaptionerConfig(
    embed_dim=16,
    image=PerceiverConfig(latents=5, width=8, blocks=3, self_layers=2, cross_heads=1, self_heads=2),
    text=TextConfig(layers=2, heads=2, context_length=24, pooler_heads=2),
    decoder=DecoderConfig(layers=2, heads=2),
)
ATTENTION = replace(PERCEIVER, image=AttentionTowerConfig(depth=2, heads=2, pooler_heads=2, matrix_queries=4))
POOLER_ONLY = replace(PERCEIVER, image=PoolerOnlyConfig(pooler_heads=2, matrix_queries=4))
CLIP = replace(PERCEIVER, decoder=None)
LANGUAGE_MODEL = replace(PERCEIVER, image=None)
TIED = replace(PERCEIVER, decoder=DecoderConfig(layers=2, heads=2, tied_head=True))

WITH_IMAGES = {"perceiver": PERCEIVER, "attention": ATTENTION, "pooler_only": POOLER_ONLY}


def randomised(network: nn.Module, seed: int = 0, deviation: float = 0.3) -> nn.Module:
    """The same network in eval mode with every weight moved at random, so that none can be left out unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(deviation * torch.randn(weight.shape, generator=generator))
    return network.eval()


def captioner(config: CaptionerConfig = PERCEIVER, *, seed: int = 0, **options: bool) -> SlideCaptioner:
    torch.manual_seed(seed)
    return randomised(SlideCaptioner(config, input_dim=INPUT_DIM, vocab_size=VOCABULARY, **options), seed)


def bags(*sizes: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Bags of random vectors, padded with zeros, and where there are vectors."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.zeros(len(sizes), max(sizes), INPUT_DIM)
    valid = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    features[valid] = torch.randn(sum(sizes), INPUT_DIM, generator=generator)
    return features, valid


def texts(*lengths: int, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Random texts of so many tokens from BOS to EOS, padded, and where there are tokens."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in zip(tokens, lengths, strict=True):
        row[:length] = torch.randint(4, VOCABULARY, (length,), generator=generator)
        row[0], row[length - 1] = BOS, EOS
    return tokens, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def parameters(*modules: nn.Module) -> int:
    return sum(weight.numel() for module in modules for weight in module.parameters())
