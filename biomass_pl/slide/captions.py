"""Reports that a network writes about specimens: each with a seed of its own, as text that tables can hold."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from biomass_pl.slide.coca import SlideCaptioner
from biomass_pl.slide.generation import generate
from biomass_pl.slide.poolers import ImageEncoding
from biomass_pl.slide.token_choice import GenerationConfig
from biomass_pl.slide.tokenizer import PAD, ReportTokenizer

_LARGEST_SEED = 2**63


def caption_tokens(
    network: SlideCaptioner, image: ImageEncoding | None, ids: Sequence[str], *, settings: GenerationConfig, seed: int
) -> Tensor:
    """Tokens (B, settings.max_seq_len) of a report on each specimen, padded.

    Args:
        network: In eval mode.
        image: What `encode_image` gave for the specimens; None for a language model.
        ids: Names of the specimens. A drawn report depends on seed and name, not on what else is in the batch.
        settings: How reports are written.
        seed: Another seed draws other reports.
    """
    found = generate(network, image, settings=settings, seeds=[specimen_seed(seed, name) for name in ids])
    tokens = torch.full((len(found), settings.max_seq_len), PAD)
    for row, text in zip(tokens, found, strict=True):
        row[: len(text)] = torch.tensor(text)
    return tokens


def specimen_seed(seed: int, name: str) -> int:
    """A number that stands for a specimen, the same on every machine."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") % _LARGEST_SEED


def caption_texts(tokenizer: ReportTokenizer, tokens: Sequence[Sequence[int]]) -> list[str]:
    """The texts of tokens, without what no table or page can show: bytes that are no characters, control codes.

    Args:
        tokenizer: The tokenizer of the network.
        tokens: Padded tokens of each text.
    """
    return [_printable(tokenizer.decode(list(text))) for text in tokens]


def _printable(text: str) -> str:
    kept = [character if character.isprintable() or character == "\n" else " " for character in text]
    return "".join(kept).strip()
