"""The whole network: what changes an output and what must not, its parts, losses' parameters, export, locking groups."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomass_pl.errors import ConfigError
from biomass_pl.slide.coca import CaptionerConfig, SlideCaptioner
from biomass_pl.slide.text_tower import TextConfig
from tests.slide.networks import (
    CLIP,
    INPUT_DIM,
    LANGUAGE_MODEL,
    PERCEIVER,
    TIED,
    VOCABULARY,
    WITH_IMAGES,
    bags,
    captioner,
    texts,
)

NETWORKS = {name: captioner(config) for name, config in WITH_IMAGES.items()}

close = {"atol": 1e-5, "rtol": 1e-5}


def outputs(network: SlideCaptioner, features, valid, tokens, token_valid) -> tuple[torch.Tensor, ...]:
    image = network.encode_image(features, valid)
    text = network.encode_text(tokens, token_valid)
    return *image, text.embedding, network.decode(text.states, token_valid, image.memory)


@pytest.mark.parametrize("name", WITH_IMAGES)
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_order_padding_and_batch_mates_change_no_output(name, data):
    network = NETWORKS[name]
    size, length = data.draw(st.integers(1, 7)), data.draw(st.integers(2, 7))
    features, valid = bags(size, 4)
    tokens, token_valid = texts(length, 5)
    together = outputs(network, features, valid, tokens, token_valid)
    order = torch.tensor(data.draw(st.permutations(range(size))))
    tail, end = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 5))
    alone = torch.zeros(1, size + tail, INPUT_DIM)
    alone[0, :size] = features[0, order]
    alone[0, size:] = 50  # not even what stands in the padding
    text = torch.nn.functional.pad(tokens[:1, :length], (0, end), value=data.draw(st.integers(0, VOCABULARY - 1)))
    by_itself = outputs(
        network, alone, torch.arange(size + tail)[None] < size, text, torch.arange(length + end)[None] < length
    )
    for first, second in zip(together[:3], by_itself[:3], strict=True):
        torch.testing.assert_close(first[:1], second, **close)
    torch.testing.assert_close(together[3][:1, :length], by_itself[3][:, :length], **close)


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_every_vector_counts(name):
    network = NETWORKS[name]
    features, valid = bags(5)
    image = network.encode_image(features, valid)
    for place in range(5):
        fewer = valid.clone()
        fewer[0, place] = False
        other = network.encode_image(features, fewer)
        assert (other.embedding - image.embedding).abs().max() > 1e-4
        assert (other.memory - image.memory).abs().max() > 1e-4


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_logits_are_causal_and_see_the_image(name):
    network = NETWORKS[name]
    features, valid = bags(5)
    tokens, token_valid = texts(8)
    logits = outputs(network, features, valid, tokens, token_valid)[-1]
    assert logits.shape == (1, 8, VOCABULARY)
    tokens[0, 5] = (tokens[0, 5] + 1) % VOCABULARY
    moved = (outputs(network, features, valid, tokens, token_valid)[-1] - logits).abs().amax(dim=-1)[0] > 1e-5
    assert moved.tolist() == [False] * 5 + [True] * 3
    logits = outputs(network, features, valid, tokens, token_valid)[-1]
    other = outputs(network, *bags(5, seed=9), tokens, token_valid)[-1]
    assert (other - logits).abs().amax(dim=-1).min() > 1e-3


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_gradient_checkpointing_gives_the_same_gradients(name):
    gradients = []
    for checkpointing in (False, True):
        network = captioner(WITH_IMAGES[name], grad_checkpointing=checkpointing).train()
        torch.manual_seed(1)
        sum(part.square().mean() for part in outputs(network, *bags(5, 3), *texts(6, 4))).backward()
        gradients.append([weight.grad for weight in network.parameters()])
    missing = [weight is None for weight in gradients[0]]
    assert sum(missing) == 1  # the scale, which belongs to the loss
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("name", [*WITH_IMAGES, "language model"])
def test_step_by_step_logits_equal_those_of_whole_texts(name):
    network = captioner({**WITH_IMAGES, "language model": LANGUAGE_MODEL}[name])
    memory = None if name == "language model" else network.encode_image(*bags(5, 3)).memory
    tokens, token_valid = texts(7, 7)
    whole = network.decode(network.text_states(tokens, token_valid), token_valid, memory)
    cache = network.start_decoding(memory)
    steps = [network.next_logits(tokens[:, place], cache) for place in range(7)]
    torch.testing.assert_close(torch.stack(steps, dim=1), whole, **close)


def test_embeddings_are_not_normalised():
    network = captioner()
    lengths = torch.cat([network.encode_image(*bags(5, 3)).embedding, network.encode_text(*texts(5, 3)).embedding])
    assert not torch.allclose(lengths.norm(dim=-1), torch.ones(4), atol=0.1)


@pytest.mark.parametrize(
    ("sigmoid_loss", "scale", "bias"), [(False, math.log(1 / 0.07), None), (True, math.log(10), -10.0)]
)
def test_scale_and_bias_start_as_published(sigmoid_loss, scale, bias):
    network = SlideCaptioner(PERCEIVER, input_dim=INPUT_DIM, vocab_size=VOCABULARY, sigmoid_loss=sigmoid_loss)
    assert network.logit_scale.item() == pytest.approx(scale)
    assert (None if network.logit_bias is None else network.logit_bias.item()) == bias


def test_groups_of_both_towers_and_nothing_else():
    network = captioner()
    images = [id(weight) for group in network.image_groups() for weight in group]
    written = [id(weight) for group in network.text_groups() for weight in group]
    assert sorted(images) == sorted(map(id, network.image.parameters()))
    assert sorted(written) == sorted(map(id, network.text.parameters()))
    assert captioner(LANGUAGE_MODEL).image_groups() == []


def test_a_tied_head_stays_tied_in_copies_and_checkpoints(tmp_path):
    network = captioner(TIED)
    twin = copy.deepcopy(network)
    assert twin.decoder.head.weight is twin.text.tokens.weight
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other = captioner(TIED, seed=1)
    other.load_state_dict(torch.load(tmp_path / "weights.pt"))
    assert other.decoder.head.weight is other.text.tokens.weight
    inputs = (*bags(4), *texts(5))
    torch.testing.assert_close(outputs(other, *inputs), outputs(network, *inputs))


def test_parts_that_are_not_there_are_named():
    clip, language_model = captioner(CLIP), captioner(LANGUAGE_MODEL)
    text = clip.encode_text(*texts(4))
    with pytest.raises(ConfigError, match="Choose one with a decoder"):
        clip.decode(text.states, torch.ones(1, 4, dtype=torch.bool), None)
    with pytest.raises(ConfigError, match="Choose one with a decoder"):
        clip.start_decoding(None)
    with pytest.raises(ConfigError, match="sees no images"):
        language_model.encode_image(*bags(3))
    with pytest.raises(ConfigError, match="no image tower"):
        language_model.encode_text(*texts(3))
    with pytest.raises(ConfigError, match="neither an image tower nor a decoder"):
        CaptionerConfig(embed_dim=8, image=None, text=TextConfig(), decoder=None)


def test_no_weight_is_idle_whatever_the_parts():
    for config in (CLIP, LANGUAGE_MODEL, TIED):
        network = captioner(config)
        loss = network.logit_scale
        tokens, valid = texts(5, 4)
        states = network.text_states(tokens, valid)
        memory = None
        if network.image is not None:
            image, memory = network.encode_image(*bags(3, 2))
            loss = loss + image.square().sum() + network.encode_text(tokens, valid).embedding.square().sum()
        if network.decoder is not None:
            loss = loss + network.decode(states, valid, memory).square().sum()
        loss.backward()
        assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")  # tracing is on its way out
@pytest.mark.parametrize("name", WITH_IMAGES)
def test_a_traced_image_tower_takes_bags_of_other_sizes(name):
    network = NETWORKS[name]
    with torch.no_grad():
        traced = torch.jit.trace(network.image, bags(4, 2))
        for sizes in [(7,), (3, 9, 5)]:
            features, valid = bags(*sizes)
            for first, second in zip(traced(features, valid), network.image(features, valid), strict=True):
                torch.testing.assert_close(first, second, **close)


def test_half_precision_runs_from_end_to_end():
    network = captioner().bfloat16()
    features, valid = bags(4, 2)
    assert [part.dtype for part in outputs(network, features.bfloat16(), valid, *texts(4, 3))] == [torch.bfloat16] * 4
