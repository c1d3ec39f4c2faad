"""Attentional pooling: learned queries ask a set of vectors, and what they find stands for the set."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from biomass_pl.slide.transformer import MultiHeadAttention


class ImageEncoding(NamedTuple):
    """What a network makes of a bag.

    Attributes:
        embedding: One vector (B, E) per bag, not normalised, to be compared with those of texts.
        memory: Vectors (B, L, E) that a decoder attends to; without a decoder, L may be 0.
    """

    embedding: Tensor
    memory: Tensor


class AttentionalPooler(nn.Module):
    """Learned queries attend to all vectors of a set; the answers are normalised.

    Args:
        width: Length of the vectors, and of the answers.
        heads: Attention heads.
        queries: Number of learned queries.
    """

    def __init__(self, *, width: int, heads: int, queries: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.attention = MultiHeadAttention(width=width, heads=heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        """Answers (B, queries, width) from vectors (B, N, width), of which those where `valid` (B, N) count."""
        queries = self.queries.expand(vectors.shape[0], -1, -1)
        found = self.attention(queries, self.attention.keys_values(vectors), valid[:, None, None, :])
        answers: Tensor = self.norm(found)
        return answers


class VectorAndMatrixPooler(nn.Module):
    """One answer that stands for the set, and a matrix of answers for a decoder, each with weights of its own.

    Args:
        width: Length of the vectors, and of the answers.
        heads: Attention heads of each pooler.
        matrix_queries: Vectors for the decoder; 0 where there is none.
    """

    def __init__(self, *, width: int, heads: int, matrix_queries: int) -> None:
        super().__init__()
        self.vector = AttentionalPooler(width=width, heads=heads, queries=1)
        self.matrix = AttentionalPooler(width=width, heads=heads, queries=matrix_queries) if matrix_queries else None

    def forward(self, vectors: Tensor, valid: Tensor) -> ImageEncoding:
        """What stands for vectors (B, N, width), of which those where `valid` (B, N) count."""
        embedding = self.vector(vectors, valid)[:, 0]
        memory = vectors[:, :0] if self.matrix is None else self.matrix(vectors, valid)
        return ImageEncoding(embedding, memory)
