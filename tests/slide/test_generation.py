"""Reports written by a network: caching, seeds, lengths, and what is refused."""

import dataclasses

import pytest
import torch

from biomass_pl.errors import ConfigError
from biomass_pl.slide.coca import SlideCaptioner
from biomass_pl.slide.generation import generate
from biomass_pl.slide.poolers import ImageEncoding
from biomass_pl.slide.token_choice import GenerationConfig
from biomass_pl.slide.tokenizer import BOS, EOS, PAD, UNK
from tests.slide.networks import CLIP, LANGUAGE_MODEL, TIED, WITH_IMAGES, bags, captioner

GREEDY = GenerationConfig(max_seq_len=12, min_seq_len=4, top_k=1, num_beams=4, num_beam_groups=2)
DRAWN = dataclasses.replace(GREEDY, top_k=8, top_p=0.9, temperature=1.5)
BEAMS = dataclasses.replace(GREEDY, top_k=0)

NETWORK = captioner()


def written_without_cache(network: SlideCaptioner, image: ImageEncoding, settings: GenerationConfig) -> list[list[int]]:
    """Greedy texts, with the whole text computed anew for each token, one specimen at a time."""
    texts = []
    for memory in image.memory:
        text = [BOS]
        while text[-1] != EOS:
            tokens = torch.tensor([text])
            valid = torch.ones_like(tokens, dtype=torch.bool)
            scores = network.decode(network.text_states(tokens, valid), valid, memory[None])[0, -1]
            scores[[PAD, BOS, UNK]] = -1e9
            if len(text) < settings.min_seq_len:
                scores[EOS] = -1e9
            last = len(text) == settings.max_seq_len - 1
            text.append(EOS if last else scores.argmax().item())
        texts.append(text)
    return texts


@pytest.mark.parametrize("name", [*WITH_IMAGES, "tied"])
def test_cached_generation_equals_uncached(name):
    network = captioner({**WITH_IMAGES, "tied": TIED}[name])
    with torch.no_grad():
        image = network.encode_image(*bags(5, 3, 4, 6))
        expected = written_without_cache(network, image, GREEDY)
    assert generate(network, image, settings=GREEDY, seeds=range(4)) == expected


@pytest.mark.parametrize("settings", [GREEDY, DRAWN, BEAMS])
def test_reports_begin_and_end_within_the_lengths(settings):
    for text in generate(NETWORK, NETWORK.encode_image(*bags(5, 3, 4)), settings=settings, seeds=[1, 2, 3]):
        assert (text[0], text[-1]) == (BOS, EOS)
        assert not {PAD, BOS, EOS, UNK} & set(text[1:-1])
        assert settings.min_seq_len < len(text) <= settings.max_seq_len


@pytest.mark.parametrize("settings", [GREEDY, DRAWN, BEAMS])
def test_a_report_depends_on_its_own_image_and_seed_alone(settings):
    features, valid = bags(5, 3, 4)
    together = generate(NETWORK, NETWORK.encode_image(features, valid), settings=settings, seeds=[7, 8, 9])
    for rows in ([1], [2, 0], [2, 1, 0]):
        image = NETWORK.encode_image(features[rows], valid[rows])
        texts = generate(NETWORK, image, settings=settings, seeds=[7 + row for row in rows])
        assert texts == [together[row] for row in rows]


def test_seeds_decide_what_is_drawn_whatever_the_global_state():
    image = NETWORK.encode_image(*bags(4))
    torch.manual_seed(0)
    first = [generate(NETWORK, image, settings=DRAWN, seeds=[seed])[0] for seed in range(6)]
    state = torch.get_rng_state()
    assert [generate(NETWORK, image, settings=DRAWN, seeds=[seed])[0] for seed in range(6)] == first
    assert torch.equal(torch.get_rng_state(), state)
    assert len(set(map(tuple, first))) > 3


def test_each_place_has_a_random_number_of_its_own():
    flat = captioner()
    with torch.no_grad():
        for weight in flat.decoder.head.parameters():
            weight.zero_()
    settings = dataclasses.replace(DRAWN, top_k=50, min_seq_len=11)
    (text,) = generate(flat, flat.encode_image(*bags(4)), settings=settings, seeds=[3])
    assert len(set(text[1:-1])) > 4


def test_a_repetition_penalty_leads_to_fewer_repetitions():
    image = NETWORK.encode_image(*bags(5, 3, 4))
    repeats = []
    for penalty in (1.0, 50.0):
        settings = dataclasses.replace(GREEDY, repetition_penalty=penalty, min_seq_len=11)
        texts = generate(NETWORK, image, settings=settings, seeds=[0, 0, 0])
        repeats.append(sum(len(text) - len(set(text)) for text in texts))
    assert repeats[0] > repeats[1]


@pytest.mark.parametrize("settings", [GREEDY, DRAWN, BEAMS])
def test_a_language_model_writes_without_images(settings):
    texts = generate(captioner(LANGUAGE_MODEL), None, settings=settings, seeds=[1, 2])
    assert len(texts) == 2
    assert settings is DRAWN or texts[0] == texts[1]


def test_what_cannot_be_written_is_refused():
    image = NETWORK.encode_image(*bags(5))
    with pytest.raises(ConfigError, match="max_seq_len is 25, but the network has 24 positions"):
        generate(NETWORK, image, settings=dataclasses.replace(GREEDY, max_seq_len=25), seeds=[0])
    clip = captioner(CLIP)
    with pytest.raises(ConfigError, match="Choose one with a decoder"):
        generate(clip, clip.encode_image(*bags(5)), settings=GREEDY, seeds=[0])
    with pytest.raises(ValueError, match="1 images need as many seeds, not 2"):
        generate(NETWORK, image, settings=GREEDY, seeds=[0, 1])


def test_writing_leaves_no_gradients():
    generate(NETWORK, NETWORK.encode_image(*bags(4)), settings=GREEDY, seeds=[0])
    assert all(weight.grad is None for weight in NETWORK.parameters())
