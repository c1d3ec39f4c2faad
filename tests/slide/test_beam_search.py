"""Beam search: against all texts there are, scores that are log-probabilities, groups that differ."""

import dataclasses
import itertools

import pytest
import torch

from biomass_pl.slide.beam_search import BeamSearch, beam_search
from biomass_pl.slide.coca import DecodingCache, SlideCaptioner
from biomass_pl.slide.generation import generate
from biomass_pl.slide.token_choice import GenerationConfig
from biomass_pl.slide.tokenizer import BOS, EOS
from tests.slide.networks import LANGUAGE_MODEL, VOCABULARY, bags, captioner

ONE = GenerationConfig(max_seq_len=10, min_seq_len=3, top_k=0, num_beams=1, num_beam_groups=1)
SIX = dataclasses.replace(ONE, num_beams=6)
GROUPS = dataclasses.replace(SIX, num_beam_groups=3, diversity_penalty=2.0)

NETWORK = captioner()
with torch.no_grad():
    NETWORK.decoder.head.bias[EOS] += 3  # so that texts end at different places
MEMORY = NETWORK.encode_image(*bags(5, 3, 4)).memory.detach()


def log_probability(network: SlideCaptioner, text: list[int], memory: torch.Tensor | None) -> float:
    """Of a whole text at once, as the loss would compute it."""
    tokens = torch.tensor([text])
    valid = torch.ones_like(tokens, dtype=torch.bool)
    with torch.no_grad():
        logits = network.decode(network.text_states(tokens, valid), valid, memory)
    return logits.log_softmax(dim=-1)[0, :-1].gather(1, tokens[0, 1:, None]).sum().item()


def search(settings: GenerationConfig, memory: torch.Tensor = MEMORY):
    return beam_search(NETWORK, memory, settings=settings, specimens=len(memory))


@pytest.mark.parametrize("settings", [ONE, SIX, GROUPS])
def test_scores_are_the_log_probabilities_of_the_texts(settings):
    for found, memory in zip(search(settings), MEMORY, strict=True):
        assert len(found) >= settings.num_beams
        for text in found:
            assert (text.tokens[0], text.tokens[-1], text.tokens.count(EOS)) == (BOS, EOS, 1)
            expected = log_probability(NETWORK, text.tokens, memory[None])
            assert text.log_probability == pytest.approx(expected, abs=1e-4)
            assert text.score == pytest.approx(expected / (len(text.tokens) - 1), abs=1e-4)
        assert [text.score for text in found] == sorted((text.score for text in found), reverse=True)


def test_one_beam_is_greedy():
    for min_seq_len in (0, 3, 8):
        settings = dataclasses.replace(ONE, min_seq_len=min_seq_len)
        image = NETWORK.encode_image(*bags(5, 3, 4))
        greedy = generate(NETWORK, image, settings=dataclasses.replace(settings, top_k=1), seeds=[0, 0, 0])
        assert [found[0].tokens for found in search(settings)] == greedy


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_enough_beams_find_the_best_of_all_texts(length_penalty):
    network = captioner(LANGUAGE_MODEL, seed=4)
    wide = GenerationConfig(
        max_seq_len=4, min_seq_len=3, top_k=0, num_beams=13**2, num_beam_groups=1, length_penalty=length_penalty
    )
    (found,) = beam_search(network, None, settings=wide, specimens=1)
    words = range(4, VOCABULARY)
    every = [[BOS, *text, EOS] for text in itertools.product(words, repeat=2)]
    scores = {tuple(text): log_probability(network, text, None) / 3**length_penalty for text in every}
    assert tuple(found[0].tokens) == max(scores, key=scores.__getitem__)
    assert {tuple(text.tokens) for text in found} == set(scores)


def test_more_beams_find_more_probable_texts():
    plain = dataclasses.replace(SIX, length_penalty=0.0, num_beams=12)
    best = [found[0].log_probability for found in search(plain)]
    greedy = [found[0].log_probability for found in search(dataclasses.replace(plain, num_beams=1))]
    assert all(more >= less - 1e-5 for more, less in zip(best, greedy, strict=True))
    assert sum(best) > sum(greedy)


def test_texts_of_a_group_are_different_and_end_when_they_are_done():
    assert {len(text.tokens) for found in search(SIX) for text in found} >= {4, 5, 6, 10}
    for found in search(SIX):
        assert len({tuple(text.tokens) for text in found}) == len(found)


def test_groups_differ_and_the_first_is_what_it_would_be_alone():
    alone = search(dataclasses.replace(ONE, num_beams=2))
    for found, single in zip(search(GROUPS), alone, strict=True):
        groups = [{tuple(text.tokens) for text in found if text.group == group} for group in range(3)]
        assert groups[0] == {tuple(text.tokens) for text in single}
        assert not groups[0] & groups[1] and not groups[0] & groups[2]
        assert min(map(len, groups)) >= 2


def test_groups_of_one_avoid_the_first_token_of_those_before():
    far = dataclasses.replace(GROUPS, num_beams=3, diversity_penalty=1e6)
    for found in search(far):
        assert len({text.tokens[1] for text in found}) == 3


def test_a_group_that_is_done_is_not_avoided():
    settings = dataclasses.replace(GROUPS, num_beams=2, num_beam_groups=2, diversity_penalty=10.0, min_seq_len=0)
    beams = BeamSearch(settings, specimens=1, device=torch.device("cpu"))
    cache = DecodingCache(memory=None, text=[], decoder=[])
    wanted = torch.zeros(2, 7)
    wanted[:, [EOS, 4, 5]] = torch.tensor([3.0, 2.0, 1.0])
    beams.advance(wanted, cache)  # the first group ends, which the second avoids
    assert beams.done.tolist() == [[True, False]]
    assert beams.texts[0, 1].tolist() == [BOS, 4]
    wanted[:, [EOS, 4, 5]] = torch.tensor([0.0, 2.0, 1.0])
    beams.advance(wanted, cache)  # what the first group would have gone on with is of no concern
    assert beams.texts[0, 1].tolist() == [BOS, 4, 4]
    beams.advance(5 * torch.eye(7)[[EOS, EOS]], cache)
    assert [(text.tokens, text.group) for text in beams.results()[0]] == [([BOS, EOS], 0), ([BOS, 4, 4, EOS], 1)]


def test_a_small_penalty_changes_little_and_is_no_part_of_a_score():
    close = dataclasses.replace(GROUPS, num_beams=3, diversity_penalty=1e-6)
    for found in search(close):
        assert len({tuple(text.tokens) for text in found}) == 1
        assert found[0].log_probability == pytest.approx(found[-1].log_probability, abs=1e-5)


@pytest.mark.parametrize("settings", [SIX, GROUPS])
def test_batch_mates_change_nothing(settings):
    together = search(settings)
    for number in range(3):
        (alone,) = search(settings, MEMORY[number : number + 1])
        assert [text.tokens for text in alone] == [text.tokens for text in together[number]]


def test_a_longer_text_gains_from_the_length_penalty():
    lengths = []
    for penalty in (0.0, 3.0):
        settings = dataclasses.replace(SIX, min_seq_len=0, length_penalty=penalty)
        lengths.append(sum(len(texts[0].tokens) for texts in search(settings)))
    assert lengths[0] < lengths[1]


def test_the_network_sees_the_image_of_its_own_specimen():
    found = [texts[0].tokens for texts in search(SIX)]
    turned = [texts[0].tokens for texts in search(SIX, MEMORY.flip(0))]
    assert turned == found[::-1]
    assert len(set(map(tuple, found))) > 1
