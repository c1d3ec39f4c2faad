"""Bags and their reports through a network: what losses, scores and predictions are made of."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biomass_pl.slide.coca import SlideCaptioner
from biomass_pl.slide.tokenizer import PAD, ReportTokenizer
from biomass_pl.training.image_text_loss import token_nll

_TEXTS_AT_ONCE = 64

IMAGE, TEXT, MEMORY, NLL, TOKENS = "image", "text", "memory", "nll", "tokens"
"""What `encode_pairs` gives: vectors of both towers, what a decoder sees of a bag, and parts of the caption loss."""


def token_batch(tokenizer: ReportTokenizer, texts: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens (B, T) of texts from BOS to EOS, padded, and where there are tokens (B, T)."""
    rows = [torch.tensor(tokenizer.encode(text)) for text in texts]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
    lengths = torch.tensor([len(row) for row in rows])
    valid = torch.arange(tokens.shape[1]) < lengths[:, None]
    return tokens.to(device), valid.to(device)


def encode_pairs(
    features: Tensor, valid: Tensor, tokens: Tensor, token_valid: Tensor, *, network: SlideCaptioner, captions: bool
) -> dict[str, Tensor]:
    """What a network makes of bags and their reports, as far as it has towers for them.

    Args:
        features: Bags (B, N, D).
        valid: Where there is a vector (B, N).
        tokens: Reports (B, T).
        token_valid: Where there is a token (B, T).
        network: The network.
        captions: Whether the decoder reads the reports as well.

    Returns:
        `image` and `text` (B, E), and `memory` (B, L, E), of a network with images; `nll`, the sum of the negative
        log-likelihoods of the reports' tokens after BOS, and their number, `tokens`, where captions are asked for.
    """
    found: dict[str, Tensor] = {}
    if network.image is None:
        states, memory = network.text_states(tokens, token_valid), None
    else:
        image, text = network.encode_image(features, valid), network.encode_text(tokens, token_valid)
        states, memory = text.states, image.memory
        found = {IMAGE: image.embedding, TEXT: text.embedding, MEMORY: image.memory}
    if captions:
        logits = network.decode(states[:, :-1], token_valid[:, :-1], memory)
        found[NLL], found[TOKENS] = token_nll(logits, tokens[:, 1:], pad=PAD)
    return found


def text_vectors(network: SlideCaptioner, tokenizer: ReportTokenizer, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """The vector of each text."""
    found: dict[str, np.ndarray] = {}
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = texts[start : start + _TEXTS_AT_ONCE]
        embedding = network.encode_text(*token_batch(tokenizer, part, network.logit_scale.device)).embedding
        found |= zip(part, as_array(embedding), strict=True)
    return found


def image_vectors(network: SlideCaptioner, batches: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The vector of each specimen of batches, by its name."""
    found: dict[str, np.ndarray] = {}
    device = network.logit_scale.device
    for batch in batches:
        embedding = network.encode_image(batch["features"].to(device), batch["valid"].to(device)).embedding
        found |= zip(batch["id"], as_array(embedding), strict=True)
    return found


def as_array(vectors: Tensor) -> np.ndarray:
    """Vectors as float32, whatever the precision."""
    return vectors.detach().float().cpu().numpy()
