"""Scores of generated texts beside true ones: BLEU-1 to 4, ROUGE-L, CIDEr-D and, where nltk is, METEOR. No torch.

BLEU, ROUGE-L and CIDEr-D as pycocoevalcap (https://github.com/salaniz/pycocoevalcap) defines them, without Java:
Papineni et al. 2002, "BLEU"; Lin 2004, "ROUGE"; Vedantam et al. 2015, "CIDEr".
"""

import importlib
import importlib.util
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from biomass_pl.evaluation.bootstrap import Bootstrap, scores_with_intervals, weighted_mean

METEOR_NOTE = "METEOR: equal words and equal stems only (nltk, without WordNet), the mean over texts."
"""How `meteor` differs from that of the Java program; to be told wherever the score is."""

Tokens = Sequence[str]
NGram = tuple[str, ...]

_LONGEST = 4
"""N-grams of BLEU and CIDEr-D."""

_NO_MATCH, _NO_NGRAM = 1e-15, 1e-9
"""Added to the matches and to the n-grams of BLEU, as published, so that nothing is divided by 0."""

_RECALL_WEIGHT = 1.2
"""Beta of ROUGE-L."""

_LENGTH_SPREAD = 6.0
"""Sigma of the Gaussian by which CIDEr-D punishes another length."""

_CIDER_SCALE = 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class TextScores:
    """Scores of texts.

    Args:
        per_text: `bleu1` to `bleu4`, `rouge`, `cider` and, where nltk is installed, `meteor`: a value per text
            (texts,).
        corpus: The same names of all texts together, with intervals as `scores_with_intervals` names them. BLEU
            counts over the whole corpus; the others are means over the texts.
    """

    per_text: Mapping[str, np.ndarray]
    corpus: Mapping[str, float]


def text_scores(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], groups: np.ndarray, bootstrap: Bootstrap
) -> TextScores:
    """Scores generated texts.

    Args:
        candidates: What was generated, at least one text: tokens as `text_tokens.tokens` splits them.
        references: The true texts of each, one or more.
        groups: What is drawn together, such as the patient of each text (texts,). The document frequencies of CIDEr-D
            stay those of all texts, whatever is drawn.
        bootstrap: How intervals are found.
    """
    counts = np.array([_bleu_counts(text, true) for text, true in zip(candidates, references, strict=True)])
    means = {
        "rouge": np.array([rouge_l(text, true) for text, true in zip(candidates, references, strict=True)]),
        "cider": cider_d(candidates, references),
    }
    meteor = _meteor(candidates, references)
    if meteor is not None:
        means["meteor"] = meteor

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {
            **_bleu_by_name(weights @ counts),
            **{name: weighted_mean(values, weights) for name, values in means.items()},
        }

    return TextScores(
        per_text={**_bleu_by_name(counts), **means}, corpus=scores_with_intervals(scores, groups, bootstrap)
    )


def corpus_bleu(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """BLEU-1 to BLEU-4 of a corpus (4,): n-grams and lengths are counted over all texts.

    Args:
        candidates: What was generated.
        references: The true texts of each; the one of nearest length counts for the length, of equals the shorter.
    """
    counts = [_bleu_counts(text, true) for text, true in zip(candidates, references, strict=True)]
    return _bleu(np.sum(counts, axis=0))


def rouge_l(candidate: Tokens, references: Sequence[Tokens]) -> float:
    """F-score of the longest common subsequence, with the best precision and the best recall among the references.

    Args:
        candidate: What was generated.
        references: The true texts.
    """
    common = [_longest_common_subsequence(candidate, true) for true in references]
    precision = max(common) / max(len(candidate), 1)
    recall = max(length / max(len(true), 1) for length, true in zip(common, references, strict=True))
    if not precision:
        return 0.0
    squared = _RECALL_WEIGHT**2
    return (1 + squared) * precision * recall / (recall + squared * precision)


def cider_d(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """CIDEr-D of each text, from 0 to 10 (texts,); the corpus's is their mean.

    Args:
        candidates: What was generated.
        references: The true texts of each, in which n-grams are counted for their weights: those that all texts hold
            weigh nothing, so that a single text scores 0.
    """
    true_counts = [[_ngrams(true) for true in several] for several in references]
    documents = Counter(ngram for several in true_counts for ngram in set().union(*several))
    size = math.log(max(len(references), 1))
    weights = {ngram: size - math.log(count) for ngram, count in documents.items()}
    return np.array(
        [
            np.mean([_cider_similarity(_ngrams(text), true, weights, size) for true in several])
            for text, several in zip(candidates, true_counts, strict=True)
        ]
    )


def _ngrams(tokens: Tokens) -> Counter[NGram]:
    """How often each n-gram of 1 to 4 tokens occurs."""
    return Counter(
        tuple(tokens[start : start + n]) for n in range(1, _LONGEST + 1) for start in range(len(tokens) - n + 1)
    )


def _bleu_counts(candidate: Tokens, references: Sequence[Tokens]) -> np.ndarray:
    """What BLEU sums over texts: matches and n-grams by n, the length and the nearest true length (10,)."""
    found, true = _ngrams(candidate), [_ngrams(reference) for reference in references]
    matches = np.zeros(_LONGEST)
    for ngram, count in found.items():
        matches[len(ngram) - 1] += min(count, max(counts[ngram] for counts in true))
    length = len(candidate)
    nearest = min((abs(len(reference) - length), len(reference)) for reference in references)[1]
    possible = [max(length - n + 1, 0) for n in range(1, _LONGEST + 1)]
    return np.array([*matches, *possible, length, nearest])


def _bleu(counts: np.ndarray) -> np.ndarray:
    """BLEU-1 to BLEU-4 (..., 4) of counts (..., 10)."""
    matches, possible = counts[..., :_LONGEST], counts[..., _LONGEST : 2 * _LONGEST]
    precision = np.cumprod((matches + _NO_MATCH) / (possible + _NO_NGRAM), axis=-1)
    lengths = (counts[..., -2] + _NO_MATCH) / (counts[..., -1] + _NO_NGRAM)
    brevity = np.exp(np.minimum(1 - 1 / lengths, 0))
    return np.asarray(precision ** (1 / np.arange(1, _LONGEST + 1)) * brevity[..., None])


def _bleu_by_name(counts: np.ndarray) -> dict[str, np.ndarray]:
    return {f"bleu{n + 1}": values for n, values in enumerate(_bleu(counts).T)}


def _longest_common_subsequence(first: Tokens, second: Tokens) -> int:
    """Its length, a row of the table at once in the bits of a number (Hyyro 2004, bit-parallel LCS-length)."""
    places: dict[str, int] = {}
    for place, token in enumerate(second):
        places[token] = places.get(token, 0) | 1 << place
    everywhere = (1 << len(second)) - 1
    row = everywhere
    for token in first:
        matches = row & places.get(token, 0)
        row = (row + matches | row - matches) & everywhere
    return len(second) - row.bit_count()


def _cider_similarity(
    candidate: Counter[NGram], reference: Counter[NGram], weights: Mapping[NGram, float], unseen: float
) -> float:
    """Mean over n of the clipped cosines of two texts' weighted n-grams, times 10, less where lengths differ.

    Args:
        candidate: N-grams of what was generated.
        reference: N-grams of a true text.
        weights: Weight of each n-gram of the corpus.
        unseen: Weight of any other.
    """
    products, candidate_squares, reference_squares = np.zeros((3, _LONGEST))
    for ngram, count in candidate.items():
        n, weight = len(ngram) - 1, weights.get(ngram, unseen)
        products[n] += min(count, reference[ngram]) * reference[ngram] * weight**2
        candidate_squares[n] += (count * weight) ** 2
    for ngram, count in reference.items():
        reference_squares[len(ngram) - 1] += (count * weights[ngram]) ** 2
    norms = np.sqrt(candidate_squares * reference_squares)
    cosines = np.divide(products, norms, out=np.zeros(_LONGEST), where=norms > 0)
    difference = _length(candidate) - _length(reference)
    return float(_CIDER_SCALE * cosines.mean() * math.exp(-(difference**2) / (2 * _LENGTH_SPREAD**2)))


def _length(ngrams: Counter[NGram]) -> int:
    """Tokens of a text."""
    return sum(count for ngram, count in ngrams.items() if len(ngram) == 1)


class _NoSynonyms:
    """Stands where nltk expects WordNet, a download."""

    @staticmethod
    def synsets(word: str) -> Iterable[Any]:
        """No set of synonyms for any word."""
        return ()


def _meteor(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray | None:
    """METEOR of each text by equal words and stems (texts,); None without nltk."""
    if importlib.util.find_spec("nltk") is None:
        return None
    score = importlib.import_module("nltk.translate.meteor_score").meteor_score
    pairs = zip(candidates, references, strict=True)
    return np.array([score(several, text, wordnet=_NoSynonyms()) for text, several in pairs])
