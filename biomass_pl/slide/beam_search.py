"""Beam search over whole texts, in groups that differ (Vijayakumar et al. 2018, Diverse Beam Search)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from biomass_pl.slide.coca import DecodingCache, SlideCaptioner
from biomass_pl.slide.token_choice import GenerationConfig, log_probabilities
from biomass_pl.slide.tokenizer import BOS, EOS


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A finished text.

    Attributes:
        tokens: From BOS to EOS.
        log_probability: Sum of the log-probabilities of all tokens after BOS.
        score: By which texts are compared: `log_probability` divided by a power of their number.
        group: The group of beams that found it.
    """

    tokens: list[int]
    log_probability: float
    score: float
    group: int


class BeamSearch:
    """Beams of all specimens, which take one token at a time.

    A group of beams is done as soon as it has finished as many texts as it has beams.

    Args:
        settings: Numbers of beams and groups, penalties, lengths.
        specimens: Number of specimens.
        device: Where the network computes.
    """

    def __init__(self, settings: GenerationConfig, *, specimens: int, device: torch.device) -> None:
        beams, groups = settings.num_beams, settings.num_beam_groups
        self.settings = settings
        self.size = beams // groups
        self.texts = torch.full((specimens, beams, 1), BOS, device=device)
        # All beams of a group begin alike; the first of them alone is continued.
        start = torch.full((groups, self.size), float("-inf"), device=device)
        start[:, 0] = 0
        self.totals = start.flatten().repeat(specimens, 1)
        self.done = torch.zeros(specimens, groups, dtype=torch.bool, device=device)
        self.finished: list[list[list[Hypothesis]]] = [[[] for _ in range(groups)] for _ in range(specimens)]

    def advance(self, logits: Tensor, cache: DecodingCache) -> None:
        """Continues all beams by one token.

        Args:
            logits: Scores (specimens * beams, V) of what comes after the texts so far.
            cache: Follows the beams that go on.
        """
        specimens, beams, _ = self.texts.shape
        logarithms = log_probabilities(logits, self.texts.flatten(0, 1), self.settings).view(specimens, beams, -1)
        taken = torch.zeros(specimens, logarithms.shape[2], device=logits.device)
        steps = [self._advance_group(group, logarithms, taken) for group in range(self.settings.num_beam_groups)]
        parents, tokens, self.totals = (torch.cat(parts, dim=1) for parts in zip(*steps, strict=True))
        texts = self.texts.gather(1, parents[:, :, None].expand_as(self.texts))
        self.texts = torch.cat([texts, tokens[:, :, None]], dim=2)
        offsets = beams * torch.arange(specimens, device=parents.device)[:, None]
        cache.select((parents + offsets).flatten())

    def results(self) -> list[list[Hypothesis]]:
        """The finished texts of each specimen, best first."""
        return [
            sorted((text for group in groups for text in group), key=lambda text: text.score, reverse=True)
            for groups in self.finished
        ]

    def _advance_group(self, group: int, logarithms: Tensor, taken: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Parents, tokens and log-probabilities (specimens, size) of the beams that go on.

        `taken` (specimens, V) counts the tokens of earlier groups at this place, and is added to.
        """
        first, size, vocabulary = group * self.size, self.size, logarithms.shape[2]
        totals = self.totals[:, first : first + size, None] + logarithms[:, first : first + size]
        wished = totals - self.settings.diversity_penalty * taken[:, None]
        # Each beam has one EOS at most, so that enough of twice as many candidates go on.
        _, places = wished.flatten(1).topk(2 * size, dim=1)
        parents, tokens = first + places // vocabulary, places % vocabulary
        candidates = totals.flatten(1).gather(1, places)
        taken.scatter_add_(1, tokens[:, :size], (~self.done[:, group, None]).expand(-1, size).to(taken.dtype))
        self._finish(group, parents, tokens, candidates)
        going_on = (tokens == EOS).int().argsort(dim=1, stable=True)[:, :size]
        return parents.gather(1, going_on), tokens.gather(1, going_on), candidates.gather(1, going_on)

    def _finish(self, group: int, parents: Tensor, tokens: Tensor, candidates: Tensor) -> None:
        """Keeps the texts that end among the best candidates, and marks the groups that are done."""
        size = self.size
        ends = (tokens[:, :size] == EOS) & candidates[:, :size].isfinite() & ~self.done[:, group, None]
        for specimen, place in ends.nonzero().tolist():
            text = [*self.texts[specimen, parents[specimen, place]].tolist(), EOS]
            total = candidates[specimen, place].item()
            found = self.finished[specimen][group]
            score = total / (len(text) - 1) ** self.settings.length_penalty
            found.append(Hypothesis(tokens=text, log_probability=total, score=score, group=group))
            if len(found) >= size:
                self.done[specimen, group] = True


@torch.no_grad()
def beam_search(
    network: SlideCaptioner, memory: Tensor | None, *, settings: GenerationConfig, specimens: int
) -> list[list[Hypothesis]]:
    """The most probable texts that beams find, best first for each specimen.

    Args:
        network: In eval mode.
        memory: Of the images (specimens, L, E); None for a language model.
        settings: Numbers of beams and groups, penalties, lengths.
        specimens: Number of specimens.
    """
    search = BeamSearch(settings, specimens=specimens, device=network.logit_scale.device)
    cache = network.start_decoding(memory)
    for _ in range(settings.max_seq_len - 1):
        logits = network.next_logits(search.texts[:, :, -1].flatten(), cache)
        search.advance(logits, cache)
        if search.done.all():
            break
    return search.results()
