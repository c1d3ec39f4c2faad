"""Weights of a BioGPT that are not those of its configuration."""

import pytest
import torch

from biomass_pl.errors import WeightsError
from biomass_pl.slide.biogpt import LocalBioGpt, read_biogpt
from biomass_pl.slide.biogpt_files import read_state
from biomass_pl.slide.biogpt_settings import BioGptConfig
from biomass_pl.slide.biogpt_weights import load_biogpt
from biomass_pl.slide.coca import SlideCaptioner
from biomass_pl.slide.tokenizer import BOS, PAD
from tests.slide.networks import PERCEIVER
from tests.slide.tiny_biogpt import tiny_biogpt


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> LocalBioGpt:
    folder = tmp_path_factory.mktemp("biogpt")
    tiny_biogpt(folder)
    return read_biogpt(folder, BioGptConfig(folder=folder))


def network(local: LocalBioGpt) -> SlideCaptioner:
    return SlideCaptioner(local.biogpt.of(PERCEIVER), input_dim=6, vocab_size=local.tokenizer.vocab_size)


def test_every_weight_has_one_place_and_the_rest_is_left_alone(local):
    made = network(local)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    path, state = read_state(local.folder)
    load_biogpt(made, state, local.biogpt.sizes, source=path)
    changed = {name for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert len(changed) == len(state) + 1  # the tied head is also the table
    assert not any("cross" in name or "pooler" in name or name.startswith(("image.", "logit")) for name in changed)
    tokens = state["embed_tokens.weight"]
    assert torch.equal(made.text.tokens.weight[[PAD, BOS, 2, 3]], tokens[[1, 0, 2, 3]])
    assert torch.equal(made.text.positions.weight, state["embed_positions.weight"][2:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers.1.fc1.weight": None}, r"lacks layers\.1\.fc1\.weight, unlike the BioGPT of its config\.json"),
        ({"layers.4.fc1.weight": torch.zeros(64, 16)}, r"also holds layers\.4\.fc1\.weight"),
        ({"layers.0.fc2.weight": torch.zeros(16, 60)}, r"layers\.0\.fc2\.weight has the shape \(16, 60\)"),
        ({"layer_norm.bias": torch.zeros(1)}, r"layer_norm\.bias has the shape \(1,\)"),
        ({"embed_tokens.weight": torch.zeros(5, 16)}, r"embed_tokens\.weight has the shape \(5, 16\)"),
        ({"embed_positions.weight": torch.zeros(128, 16)}, r"embed_positions\.weight has the shape \(128, 16\)"),
        ({"embed_tokens.weight": torch.zeros(1)}, r"embed_tokens\.weight has the shape \(1,\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_weights_of_another_network_are_refused(change, message, local):
    path, state = read_state(local.folder)
    other = {name: value for name, value in (dict(state) | change).items() if value is not None}
    with pytest.raises(WeightsError, match=message):
        load_biogpt(network(local), other, local.biogpt.sizes, source=path)
