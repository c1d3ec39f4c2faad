"""Networks by name: they can be built and used, and have the sizes that they are known for."""

import pytest
import torch

from biomass_pl.slide.coca import SlideCaptioner
from biomass_pl.slide.presets import PRESETS
from tests.slide.networks import parameters

BIOGPT_VOCABULARY = 42384


def test_the_presets_are_those_of_the_recipes():
    assert set(PRESETS) == {"coca_stage_1", "coca_stage_2_perceiver", "coca_attention", "clip", "lm", "lm_baseline"}


def test_the_published_perceiver_has_528_million_parameters():
    with torch.device("meta"):
        network = SlideCaptioner(
            PRESETS["coca_stage_2_perceiver"], input_dim=1024, vocab_size=BIOGPT_VOCABULARY, grad_checkpointing=True
        )
    assert round(parameters(network) / 1e6, 1) == 527.5  # the published one without adapters
    assert round(parameters(network.image) / 1e6, 1) == 82.7
    assert len(network.image_groups()) == 9 and len(network.text_groups()) == 14


def test_the_published_attention_tower_is_two_wide_layers():
    preset = PRESETS["coca_attention"]
    with torch.device("meta"):
        network = SlideCaptioner(preset, input_dim=192, vocab_size=BIOGPT_VOCABULARY)
    layers = parameters(*network.image.layers)
    assert layers == 2 * (4 * (1024 + 1) * 1024 + (1024 + 1) * 4096 + (4096 + 1) * 1024 + 4 * 1024)
    assert network.image(torch.zeros(2, 5, 192, device="meta"), torch.ones(2, 5, device="meta") > 0).memory.shape == (
        2,
        256,
        1024,
    )
    assert (preset.image.attention_dropout, preset.text.attention_dropout) == (0.5, 0.5)


def test_the_default_is_small():
    network = SlideCaptioner(PRESETS["coca_stage_1"], input_dim=384, vocab_size=1000)
    assert 1e6 < parameters(network) < 3e6


def test_the_published_language_model_has_24_layers():
    preset = PRESETS["lm_baseline"]
    assert preset.image is None and preset.text.layers + preset.decoder.layers == 24
    assert (preset.text.attention_dropout, preset.decoder.attention_dropout) == (0.5, 0)


@pytest.mark.parametrize("name", ["clip", "lm"])
def test_the_comparisons_are_parts_of_the_default(name):
    preset, default = PRESETS[name], PRESETS["coca_stage_1"]
    assert preset.text == default.text
    assert (preset.image, preset.decoder) == {"clip": (default.image, None), "lm": (None, default.decoder)}[name]
    SlideCaptioner(preset, input_dim=384, vocab_size=1000)
