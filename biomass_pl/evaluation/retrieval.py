"""How well an item is found among all others by the vector of its text, and its text by its own vector. No torch.

Mean rank, median rank and recall at K are those of image-text retrieval, as in Radford et al. 2021, "Learning
Transferable Visual Models From Natural Language Supervision", but for ties: there, only what is better counts before
an item, so that a network whose vectors are all the same would be perfect.
"""

from dataclasses import dataclass

import numpy as np

from biomass_pl.evaluation.bootstrap import Bootstrap, scores_with_intervals, weighted_mean

RECALL_AT = (1, 5, 10)
"""Ranks up to which an item counts as found."""

_TIE = 1e-6
"""Cosines this near to each other are equal: vectors of single precision tell no less apart."""

_SMALLEST_LENGTH = 1e-8

_MOST_SIMILARITIES = 2**24
"""Cosines held at once: 64 MB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalRanks:
    """Rank of what belongs to each item among all candidates, from 1; of equal candidates the mean of their ranks.

    Args:
        image_to_text: Rank of the item's own text by its image (items,).
        text_to_image: Rank of the item's own image by its text (items,).
    """

    image_to_text: np.ndarray
    text_to_image: np.ndarray


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1 in single precision; one of zeros stays what it is.

    Args:
        vectors: A vector per row (items, D).
    """
    single = vectors.astype(np.float32)
    return np.asarray(single / np.maximum(np.linalg.norm(single, axis=1, keepdims=True), _SMALLEST_LENGTH))


def retrieval_ranks(image: np.ndarray, text: np.ndarray) -> RetrievalRanks:
    """Ranks in both directions by cosine similarity.

    Args:
        image: A vector per item (items, D).
        text: Vectors of the same items in the same order (items, D).

    Returns:
        The ranks; all NaN where a vector is not finite.
    """
    if not (np.isfinite(image).all() and np.isfinite(text).all()):
        undefined = np.full(len(image), np.nan)
        return RetrievalRanks(image_to_text=undefined, text_to_image=undefined)
    images, texts = unit_vectors(image), unit_vectors(text)
    return RetrievalRanks(image_to_text=_ranks(images, texts), text_to_image=_ranks(texts, images))


def retrieval_scores(ranks: RetrievalRanks, groups: np.ndarray, bootstrap: Bootstrap) -> dict[str, float]:
    """Scores of both directions; the candidates stay all items, whatever is drawn.

    Args:
        ranks: What `retrieval_ranks` returned, of at least one item.
        groups: What is drawn together, such as the patient of each item (items,).
        bootstrap: How intervals are found.

    Returns:
        With `image_to_text_` and `text_to_image_` before them: `mean_rank`, `median_rank` (rounded down) and `R@1`,
        `R@5`, `R@10`, the shares of items whose rank is no more; intervals as `scores_with_intervals` names them.
    """

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        directions = {"image_to_text": ranks.image_to_text, "text_to_image": ranks.text_to_image}
        return {
            f"{direction}_{name}": values
            for direction, found in directions.items()
            for name, values in _rank_scores(found, weights).items()
        }

    return scores_with_intervals(scores, groups, bootstrap)


def _rank_scores(ranks: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of one direction for each draw."""
    names = ("mean_rank", "median_rank", *(f"R@{most}" for most in RECALL_AT))
    if not np.isfinite(ranks).all():
        return {name: np.full(len(weights), np.nan) for name in names}
    recalls = (weighted_mean(ranks <= most, weights) for most in RECALL_AT)
    return dict(zip(names, (weighted_mean(ranks, weights), _median_rank(ranks, weights), *recalls), strict=True))


def _median_rank(ranks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Median for each draw, rounded down (draws,)."""
    order = np.argsort(ranks)
    reached = weights[:, order].cumsum(axis=1)
    items = reached[:, -1]
    # With an even number of items, the mean of the two in the middle.
    middle = [ranks[order][(reached > place[:, None]).argmax(axis=1)] for place in ((items - 1) // 2, items // 2)]
    return np.asarray(np.floor((middle[0] + middle[1]) / 2))


def _ranks(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Rank of the candidate in the same row as each query (items,), from unit vectors, some queries at a time."""
    ranks = np.empty(len(queries))
    rows = max(1, _MOST_SIMILARITIES // len(queries)) if len(queries) else 1
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        similarity = queries[part] @ candidates.T
        own = similarity[np.arange(len(similarity)), np.arange(start, start + len(similarity))]
        above = similarity - own[:, None]
        better = (above > _TIE).sum(axis=1)
        equal = (np.abs(above) <= _TIE).sum(axis=1)  # its own among them
        ranks[part] = better + (equal + 1) / 2
    return ranks
