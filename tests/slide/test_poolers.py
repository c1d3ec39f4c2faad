"""Attentional poolers: the formula, masks, and what each of the two poolers is for."""

import torch

from biomass_pl.slide.poolers import AttentionalPooler, VectorAndMatrixPooler
from tests.slide.networks import parameters, randomised


def test_learned_queries_attend_to_the_valid_vectors_alone():
    pooler = randomised(AttentionalPooler(width=6, heads=3, queries=2))
    vectors = torch.randn(1, 5, 6)
    valid = torch.tensor([[True, False, True, True, False]])
    kept = vectors[:, [0, 2, 3]]
    expected = pooler.norm(pooler.attention(pooler.queries[None], pooler.attention.keys_values(kept)))
    torch.testing.assert_close(pooler(vectors, valid), expected)


def test_one_vector_is_answered_whatever_the_question():
    pooler = randomised(AttentionalPooler(width=4, heads=2, queries=3))
    answers = pooler(torch.randn(1, 1, 4), torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(answers[:, 0], answers[:, 2])


def test_a_vector_for_the_comparison_and_a_matrix_for_the_decoder():
    pooler = randomised(VectorAndMatrixPooler(width=8, heads=2, matrix_queries=3))
    vectors, valid = torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    embedding, memory = pooler(vectors, valid)
    torch.testing.assert_close(embedding, pooler.vector(vectors, valid)[:, 0])
    torch.testing.assert_close(memory, pooler.matrix(vectors, valid))
    assert memory.shape == (2, 3, 8)


def test_without_a_decoder_there_is_no_matrix_pooler():
    pooler = VectorAndMatrixPooler(width=8, heads=2, matrix_queries=0)
    assert parameters(pooler) == parameters(pooler.vector)
    assert pooler(torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)).memory.shape == (2, 0, 8)


def test_queries_have_the_published_spread():
    torch.manual_seed(0)
    queries = AttentionalPooler(width=64, heads=1, queries=64).queries
    assert 0.95 < queries.std() < 1.05
