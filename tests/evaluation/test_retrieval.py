"""Retrieval in both directions: worked by hand, against a plain count, and what must not flatter."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.evaluation import retrieval as module
from biomass_pl.evaluation.bootstrap import Bootstrap
from biomass_pl.evaluation.retrieval import RetrievalRanks, retrieval_ranks, retrieval_scores, unit_vectors

NAMES = ("mean_rank", "median_rank", "R@1", "R@5", "R@10")


def at_angles(*degrees: float) -> np.ndarray:
    """Vectors of length 1 in the plane: the nearer two angles, the greater the cosine."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def scores_of(ranks: list[float], *, draws: int = 1) -> dict[str, float]:
    both = RetrievalRanks(image_to_text=np.array(ranks), text_to_image=np.array(ranks[::-1]))
    return retrieval_scores(both, np.arange(len(ranks)), Bootstrap(draws=draws))


def test_ranks_worked_by_hand():
    images, texts = at_angles(0, 40, 90), at_angles(10, 5, 80)
    # Image 0 is nearer to text 1 (5) than to its own (10). Image 1: 10 is nearest (30), its own next (35). Image 2: 80.
    # Text 0 at 10: image 0. Text 1 at 5: image 0 before its own. Text 2 at 80: image 2.
    ranks = retrieval_ranks(images, texts)
    assert ranks.image_to_text.tolist() == [2, 2, 1]
    assert ranks.text_to_image.tolist() == [1, 2, 1]


def test_scores_worked_by_hand():
    scores = scores_of([1, 1, 3, 5, 6, 20])
    expected = {"mean_rank": 6, "median_rank": 4, "R@1": 2 / 6, "R@5": 4 / 6, "R@10": 5 / 6}
    for direction in ("image_to_text", "text_to_image"):
        assert [scores[f"{direction}_{name}"] for name in NAMES] == pytest.approx(list(expected.values()))
    assert len(scores) == 10


@pytest.mark.parametrize(("ranks", "median"), [([3], 3), ([1, 2], 1), ([1, 4], 2), ([1, 2, 9], 2), ([1.5, 1.5], 1)])
def test_the_median_is_rounded_down(ranks, median):
    assert scores_of(ranks)["image_to_text_median_rank"] == median


def test_directions_are_told_apart():
    ranks = RetrievalRanks(image_to_text=np.array([1.0, 1.0]), text_to_image=np.array([2.0, 2.0]))
    scores = retrieval_scores(ranks, np.arange(2), Bootstrap())
    assert scores["image_to_text_R@1"] == 1 and scores["text_to_image_R@1"] == 0


@pytest.mark.parametrize("noise", [0, 1e-8])
def test_a_collapsed_network_is_no_better_than_chance(noise):
    generator = np.random.default_rng(0)
    vectors = np.tile(generator.normal(size=16), (50, 1)) + noise * generator.normal(size=(50, 16))
    ranks = retrieval_ranks(vectors, vectors[0] + noise * generator.normal(size=(50, 16)))
    scores = retrieval_scores(ranks, np.arange(50), Bootstrap())
    for direction in ("image_to_text", "text_to_image"):
        assert scores[f"{direction}_mean_rank"] == 25.5
        assert scores[f"{direction}_R@1"] == scores[f"{direction}_R@10"] == 0


def test_equal_texts_share_their_ranks():
    ranks = retrieval_ranks(at_angles(0, 1, 90), at_angles(0, 0, 90))
    assert ranks.image_to_text.tolist() == [1.5, 1.5, 1]
    assert ranks.text_to_image.tolist() == [1, 2, 1]


@given(st.integers(1, 30), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_ranks_are_a_plain_count(items, seed):
    generator = np.random.default_rng(seed)
    image, text = generator.integers(-2, 3, size=(2, items, 3)).astype(float)  # many ties, some vectors of zeros
    lengths = [np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-8) for vectors in (image, text)]
    similarity = ((image / lengths[0]) @ (text / lengths[1]).T).round(9)
    for found, table in zip(vars(retrieval_ranks(image, text)).values(), (similarity, similarity.T), strict=True):
        for number, row in enumerate(table):
            places = [1 + place for place, other in enumerate(sorted(row, reverse=True)) if other == row[number]]
            assert found[number] == np.mean(places)


def test_lengths_of_vectors_say_nothing():
    generator = np.random.default_rng(0)
    image, text = generator.normal(size=(2, 20, 8))
    scaled = retrieval_ranks(image * generator.uniform(0.1, 1e4, size=(20, 1)), 1e-3 * text)
    assert np.array_equal(scaled.image_to_text, retrieval_ranks(image, text).image_to_text)


def test_parts_are_ranked_as_all_at_once(monkeypatch):
    image, text = np.random.default_rng(0).normal(size=(2, 41, 8))
    expected = retrieval_ranks(image, text)
    monkeypatch.setattr(module, "_MOST_SIMILARITIES", 41 * 7)
    found = retrieval_ranks(image, text)
    assert np.array_equal(found.image_to_text, expected.image_to_text)
    assert np.array_equal(found.text_to_image, expected.text_to_image)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_has_no_rank(value):
    vectors = np.eye(3)
    broken = vectors.copy()
    broken[1, 1] = value
    for ranks in (retrieval_ranks(vectors, broken), retrieval_ranks(broken, vectors)):
        scores = retrieval_scores(ranks, np.arange(3), Bootstrap(draws=5))
        assert np.isnan([*ranks.image_to_text, *ranks.text_to_image, *scores.values()]).all()


def test_intervals_of_each_draw_are_those_of_repeated_rows():
    ranks = RetrievalRanks(image_to_text=np.array([1.0, 7.0, 2.5]), text_to_image=np.array([3.0, 1.0, 30.0]))
    weights = np.array([[2, 0, 1], [0, 3, 0], [1, 1, 1], [2, 2, 0]])
    found = module._rank_scores(ranks.image_to_text, weights)
    for draw, times in enumerate(weights):
        rows = np.repeat(ranks.image_to_text, times)
        repeated = scores_of(rows.tolist())
        assert [found[name][draw] for name in NAMES] == pytest.approx(
            [repeated[f"image_to_text_{name}"] for name in NAMES]
        )


def test_all_specimens_of_a_patient_are_drawn_together():
    ranks = RetrievalRanks(image_to_text=np.array([1.0, 9.0, 1.0, 9.0]), text_to_image=np.ones(4))
    together = retrieval_scores(ranks, np.array(["p", "p", "q", "q"]), Bootstrap(draws=200))
    assert together["image_to_text_R@1_ci_lower"] == together["image_to_text_R@1_ci_upper"] == 0.5
    apart = retrieval_scores(ranks, np.arange(4), Bootstrap(draws=200))
    assert apart["image_to_text_R@1_ci_lower"] < 0.5 < apart["image_to_text_R@1_ci_upper"]


def test_vectors_of_half_precision_do_not_overflow():
    assert np.linalg.norm(unit_vectors(np.full((1, 4), 6e4, dtype=np.float16)), axis=1) == pytest.approx(1)
