"""Reports written token by token: the most probable token, one drawn from the probable, or beams of whole texts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from biomass_pl.errors import ConfigError
from biomass_pl.slide.beam_search import beam_search
from biomass_pl.slide.coca import SlideCaptioner
from biomass_pl.slide.poolers import ImageEncoding
from biomass_pl.slide.token_choice import GenerationConfig, choose, log_probabilities
from biomass_pl.slide.tokenizer import BOS, EOS


def generate(
    network: SlideCaptioner, image: ImageEncoding | None, *, settings: GenerationConfig, seeds: Sequence[int]
) -> list[list[int]]:
    """A report for each image.

    Args:
        network: In eval mode.
        image: What `encode_image` gave for the specimens; None for a language model.
        settings: How reports are written.
        seeds: One per specimen. A drawn report depends on its own seed alone, not on the others of the batch.

    Returns:
        Tokens from BOS to EOS for each specimen.

    Raises:
        ConfigError: Reports may become longer than the network has positions, or it has no decoder.
        ValueError: There are not as many seeds as images.
    """
    positions = network.config.text.context_length
    if settings.max_seq_len > positions:
        raise ConfigError(
            f"max_seq_len is {settings.max_seq_len}, but the network has {positions} positions. "
            f"Give {positions} at most."
        )
    memory = None if image is None else image.memory
    if memory is not None and memory.shape[0] != len(seeds):
        raise ValueError(f"{memory.shape[0]} images need as many seeds, not {len(seeds)}")
    if settings.top_k == 0:
        found = beam_search(network, memory, settings=settings, specimens=len(seeds))
        return [texts[0].tokens for texts in found]
    return [_ended(text) for text in _draw_texts(network, memory, settings, seeds).tolist()]


@torch.no_grad()
def _draw_texts(
    network: SlideCaptioner, memory: Tensor | None, settings: GenerationConfig, seeds: Sequence[int]
) -> Tensor:
    """Tokens (B, T) of all texts; what stands after an EOS is of no use."""
    device = network.logit_scale.device
    numbers = torch.stack([_random_numbers(seed, settings.max_seq_len) for seed in seeds]).to(device)
    texts = torch.full((len(seeds), 1), BOS, device=device)
    ended = torch.zeros(len(seeds), dtype=torch.bool, device=device)
    cache = network.start_decoding(memory)
    for position in range(1, settings.max_seq_len):
        logarithms = log_probabilities(network.next_logits(texts[:, -1], cache), texts, settings)
        tokens = choose(logarithms, numbers[:, position], settings)
        texts = torch.cat([texts, tokens[:, None]], dim=1)
        ended = ended | (tokens == EOS)
        if ended.all():
            break
    return texts


def _random_numbers(seed: int, count: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def _ended(text: list[int]) -> list[int]:
    return text[: text.index(EOS) + 1]
