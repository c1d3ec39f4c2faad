"""Which token comes next: what is allowed, how probable it is, and which one is taken."""

from dataclasses import dataclass

import torch
from torch import Tensor

from biomass_pl.errors import ConfigError
from biomass_pl.slide.tokenizer import BOS, EOS, PAD, UNK


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How reports are written; the defaults are the published ones, with a penalty that makes groups of beams differ.

    Args:
        max_seq_len: The most tokens of a report, BOS and EOS included.
        min_seq_len: Tokens before which there is no EOS, BOS included.
        top_k: A token is drawn from this many most probable ones. 1: the most probable (greedy). 0: beam search.
        top_p: Of those, only the most probable that together have this probability (nucleus sampling, Holtzman et al.
            2020).
        temperature: Scores are divided by it before a token is drawn; below 1 prefers the probable ones.
        repetition_penalty: Scores of tokens that the report has already are divided by it where positive, else
            multiplied (Keskar et al. 2019, CTRL). 1: no penalty.
        num_beams: Texts that beam search follows at a time, in all groups together.
        num_beam_groups: Groups of beams, of which later ones avoid the tokens of earlier ones.
        diversity_penalty: What a token loses for each beam of an earlier group that takes it at the same place (Hamming
            diversity, Vijayakumar et al. 2018).
        length_penalty: Finished texts are compared by their log-probability divided by their length to this power.
    """

    max_seq_len: int = 100
    min_seq_len: int = 5
    top_k: int = 50
    top_p: float = 1.0
    temperature: float = 1.0
    repetition_penalty: float = 1.0
    num_beams: int = 6
    num_beam_groups: int = 3
    diversity_penalty: float = 0.5
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ConfigError(f"Reports cannot be written like this: {problem}")

    def _problem(self) -> str | None:
        checks = (
            (
                self.max_seq_len < 3,
                f"max_seq_len {self.max_seq_len} leaves nothing between BOS and EOS; give 3 or more.",
            ),
            (
                not 0 <= self.min_seq_len < self.max_seq_len,
                f"min_seq_len {self.min_seq_len} must be from 0 to less than max_seq_len {self.max_seq_len}.",
            ),
            (self.top_k < 0, f"top_k is {self.top_k}; give 1 or more, or 0 for beam search."),
            (not 0 < self.top_p <= 1, f"top_p is {self.top_p}; give a probability above 0, up to 1."),
            (self.temperature <= 0, f"temperature is {self.temperature}; give a number above 0."),
            (self.repetition_penalty <= 0, f"repetition_penalty is {self.repetition_penalty}; give a number above 0."),
            (
                self.num_beam_groups < 1 or self.num_beams < 1 or self.num_beams % self.num_beam_groups,
                f"{self.num_beams} beams (num_beams) cannot be shared out evenly to {self.num_beam_groups} groups "
                "(num_beam_groups); give a multiple.",
            ),
            (
                self.num_beam_groups > 1 and self.diversity_penalty <= 0,
                f"with a diversity_penalty of {self.diversity_penalty}, all {self.num_beam_groups} groups of beams "
                "would find the same; give a number above 0, or one group.",
            ),
            (self.length_penalty < 0, f"length_penalty is {self.length_penalty}; give 0 or more."),
        )
        return next((message for wrong, message in checks if wrong), None)


torch.serialization.add_safe_globals([GenerationConfig])  # checkpoints of tasks made in Python hold one


def log_probabilities(logits: Tensor, texts: Tensor, settings: GenerationConfig) -> Tensor:
    """Log-probabilities of the next token, minus infinity for those that are not allowed.

    The others are not scaled up, so that those of a whole text add up to its log-probability under the network.

    Args:
        logits: Scores (R, V) of the network.
        texts: The texts so far (R, T), from BOS.
        settings: Penalty of repetitions, least and largest length.

    Returns:
        (R, V), in single precision.
    """
    logits = logits.float()
    if settings.repetition_penalty != 1:
        seen = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, texts, True)
        penalised = torch.where(logits > 0, logits / settings.repetition_penalty, logits * settings.repetition_penalty)
        logits = torch.where(seen, penalised, logits)
    length = texts.shape[1]
    forbidden = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    if length == settings.max_seq_len - 1:
        forbidden[:] = True
        forbidden[EOS] = False
    else:
        forbidden[[PAD, BOS, UNK]] = True
        forbidden[EOS] = length < settings.min_seq_len
    return logits.log_softmax(dim=-1).masked_fill(forbidden, float("-inf"))


def choose(logarithms: Tensor, numbers: Tensor, settings: GenerationConfig) -> Tensor:
    """One token (R,) for each row.

    Args:
        logarithms: Log-probabilities (R, V), minus infinity for what is not allowed.
        numbers: Random numbers (R,) from 0 to less than 1, each of which decides for its row alone.
        settings: From which tokens to draw.
    """
    if settings.top_k == 1:
        return logarithms.argmax(dim=-1)
    ordered, tokens = torch.topk(logarithms / settings.temperature, min(settings.top_k, logarithms.shape[1]))
    shares = ordered.softmax(dim=-1)
    before = shares.cumsum(dim=-1) - shares
    shares = shares.masked_fill(before >= settings.top_p, 0.0)
    ends = shares.cumsum(dim=-1)
    places = torch.searchsorted(ends, numbers[:, None] * ends[:, -1:], right=True)
    last = (shares > 0).sum(dim=-1, keepdim=True) - 1  # where rounding would lead past the end
    return tokens.gather(1, torch.minimum(places, last))[:, 0]
