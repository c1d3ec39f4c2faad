"""The hierarchical vision transformer against a plain one, its sizes, and what timm expects of a network."""

import copy
import math
import warnings
from functools import partial

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from biomass_pl.training.hvit import HierarchicalViT, ImageSizeError

SMALL = {"embed_dim": 8, "depths": (1, 2, 1), "num_heads": (1, 2, 4), "patch_size": 4, "num_classes": 3}
"""Three stages on patches of 4 px: sides are multiples of 16."""


def small(seed: int = 0, **options) -> HierarchicalViT:
    """A small network whose every parameter is random, so that none can be left out unnoticed."""
    torch.manual_seed(seed)
    network = HierarchicalViT(**{"img_size": 32, **SMALL, **options})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def pictures(height: int, width: int, count: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(1))


# The same network, written down plainly: one image, one head, one patch, one merged token at a time.


def layer_norm(tokens: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    centred = tokens - tokens.mean(dim=-1, keepdim=True)
    deviation = (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return centred / deviation * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(tokens: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    return tokens @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)


def cubic_weights(inputs: int, outputs: int) -> Tensor:
    """How much each of the inputs counts for each of the outputs (Keys 1981, a = -0.75; edges are repeated)."""
    weights = torch.zeros(outputs, inputs)
    for place in range(outputs):
        source = (place + 0.5) * inputs / outputs - 0.5
        for neighbour in range(math.floor(source) - 1, math.floor(source) + 3):
            distance = abs(source - neighbour)
            if distance <= 1:
                weight = 1.25 * distance**3 - 2.25 * distance**2 + 1
            else:
                weight = -0.75 * (distance**3 - 5 * distance**2 + 8 * distance - 4)
            weights[place, min(max(neighbour, 0), inputs - 1)] += weight
    return weights


def plain_embedding(network: HierarchicalViT, image: Tensor) -> Tensor:
    """Tokens (h, w, C) of one image."""
    state, patch = network.state_dict(), network.patch_size
    kernel, stored = state["patch_embed.proj.weight"].flatten(1), state["pos_embed"][0]
    tokens = torch.zeros(image.shape[1] // patch, image.shape[2] // patch, len(kernel))
    for row in range(tokens.shape[0]):
        for column in range(tokens.shape[1]):
            pixels = image[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            tokens[row, column] = kernel @ pixels.flatten() + state["patch_embed.proj.bias"]
    rows, columns = (cubic_weights(stored.shape[axis], tokens.shape[axis]) for axis in (0, 1))
    return layer_norm(tokens, state, "patch_embed.norm") + torch.einsum("rh,cw,hwd->rcd", rows, columns, stored)


def plain_block(tokens: Tensor, state: dict[str, Tensor], name: str, heads: int) -> tuple[Tensor, Tensor]:
    """New tokens (N, C), and the attention (N, N) of the mean head."""
    triples = linear(layer_norm(tokens, state, f"{name}.norm1"), state, f"{name}.attn.qkv")
    size, mixed, mean = tokens.shape[1] // heads, [], torch.zeros(len(tokens), len(tokens))
    for head in range(heads):
        queries, keys, values = (part[:, head * size : (head + 1) * size] for part in triples.chunk(3, dim=1))
        exponentials = (queries @ keys.T / size**0.5).exp()
        weights = exponentials / exponentials.sum(dim=1, keepdim=True)
        mixed.append(weights @ values)
        mean += weights / heads
    tokens = tokens + linear(torch.cat(mixed, dim=1), state, f"{name}.attn.proj")
    hidden = linear(layer_norm(tokens, state, f"{name}.norm2"), state, f"{name}.mlp.fc1")
    hidden = hidden / 2 * (1 + torch.erf(hidden / 2**0.5))
    return tokens + linear(hidden, state, f"{name}.mlp.fc2"), mean


def plain_merging(tokens: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """Tokens (h / 2, w / 2, 2 C) of tokens (h, w, C)."""
    merged = torch.zeros(tokens.shape[0] // 2, tokens.shape[1] // 2, 2 * tokens.shape[2])
    for row in range(merged.shape[0]):
        for column in range(merged.shape[1]):
            places = [(2 * row + down, 2 * column + right) for down, right in ((0, 0), (1, 0), (0, 1), (1, 1))]
            neighbours = torch.cat([tokens[place] for place in places])
            merged[row, column] = linear(layer_norm(neighbours, state, f"{name}.norm"), state, f"{name}.reduction")
    return merged


@torch.no_grad()
def plain_features(network: HierarchicalViT, image: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
    """Tokens (N, D) of one image after the last norm, and the mean attention of each block by stage."""
    state, tokens, attentions = network.state_dict(), plain_embedding(network, image), []
    for number, stage in enumerate(network.stages):
        grid, tokens = tokens.shape[:2], tokens.flatten(0, 1)
        attentions.append([])
        for block in range(len(stage.blocks)):
            heads = stage.blocks[block].attn.num_heads
            tokens, mean = plain_block(tokens, state, f"stages.{number}.blocks.{block}", heads)
            attentions[-1].append(mean)
        tokens = tokens.unflatten(0, grid)
        if number + 1 < len(network.stages):
            tokens = plain_merging(tokens, state, f"stages.{number}.downsample")
    return layer_norm(tokens.flatten(0, 1), state, "norm"), attentions


@torch.no_grad()
def plain_scores(network: HierarchicalViT, images: Tensor) -> Tensor:
    state = network.state_dict()
    means = torch.stack([plain_features(network, image)[0].mean(dim=0) for image in images])
    return linear(layer_norm(means, state, "fc_norm"), state, "head")


@pytest.mark.parametrize("sides", [(32, 32), (48, 48), (16, 64), (64, 16), (32, 48)])
def test_scores_are_those_of_a_plain_implementation(sides):
    network, images = small(), pictures(*sides)
    torch.testing.assert_close(network(images), plain_scores(network, images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sides", [(16, 64), (32, 32), (64, 16), (48, 80)])
def test_a_network_for_oblong_images_takes_them_and_others(sides):
    network, images = small(img_size=(16, 64)), pictures(*sides)
    torch.testing.assert_close(network(images), plain_scores(network, images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("built_for", "sides"), [(256, (256, 256)), (256, (384, 384)), (256, (256, 384)), ((128, 512), (128, 512))]
)
def test_a_published_network_gives_the_tokens_of_a_plain_implementation(built_for, sides):
    torch.manual_seed(0)
    network = timm.create_model("hvit_tiny", num_classes=7, img_size=built_for).eval()
    images = pictures(*sides, count=1)
    found, expected = network.forward_features(images)[0], plain_features(network, images[0])[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_as_many_tokens_on_another_grid_are_not_scrambled():
    square = timm.create_model("hvit_tiny", num_classes=0, img_size=256).eval()
    oblong = timm.create_model("hvit_tiny", num_classes=0, img_size=(128, 512)).eval()
    oblong.load_state_dict(square.state_dict())  # 256 positions each, on 16 x 16 and on 8 x 32
    images = pictures(128, 512)
    torch.testing.assert_close(square(images), oblong(images), rtol=1e-5, atol=1e-5)


def test_positions_of_the_own_grid_are_taken_as_they_are():
    network, images = small(), pictures(32, 32)
    tokens, grid = network.embed(images)
    assert grid == (8, 8)
    assert torch.equal(tokens, network.patch_embed(images) + network.pos_embed.flatten(1, 2))


def test_attention_is_fused():
    with torch.autograd.profiler.profile() as profile:
        small()(pictures(32, 32))
    assert sum(event.name == "aten::scaled_dot_product_attention" for event in profile.function_events) == 4


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_any_multiple_of_the_merged_patches_fits(rows, columns):
    tokens = small().forward_features(pictures(16 * rows, 16 * columns, count=1))
    assert tokens.shape == (1, rows * columns, 32) and tokens.isfinite().all()


@pytest.mark.parametrize(
    ("size", "fitting"),
    [(224, "128 or 256"), (8, "128 or 256"), (0, "128 or 256"), (-128, "128 or 256"), (300, "256 or 384")],
)
def test_a_size_that_does_not_divide_is_refused_with_those_that_do(size, fitting):
    with pytest.raises(ImageSizeError, match=f"multiples of 128 px.* {fitting} would fit") as caught:
        timm.create_model("hvit_small", img_size=size)
    assert caught.value.fitting[0] == tuple(map(int, fitting.split(" or ")))


def test_each_side_is_told_what_fits_it():
    with pytest.raises(ImageSizeError, match=r"256 x 300 .* 256 or 384 \(height\) and 256 or 384 \(width\)"):
        timm.create_model("hvit_small", img_size=(256, 300))
    with pytest.raises(ImageSizeError, match="multiples of 16 px, which 32 x 40 are not"):
        small()(pictures(32, 40))


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("hvit_tiny", {}, 10_723_399),
        ("hvit_small", {}, 27_596_647),
        ("hvit_base", {}, 86_813_831),
        ("hvit_xl", {}, 273_615_751),
        ("hvit_small", {"depths": [2, 2, 2, 2]}, 20_498_791),
        ("hvit_small", {"depths": (2, 2, 18, 2)}, 48_890_215),
        ("hvit_small", {"embed_dim": 64, "depths": [2, 2, 4, 2], "num_heads": [2, 4, 8, 16]}, 10_723_399),
        ("hvit_small", {"num_classes": 0}, 27_596_647 - 7 * 769),
        # The second stream of a network that takes four more bands.
        ("hvit_small", {"num_classes": 0, "in_chans": 4, "fc_norm": False}, 27_614_304),
        ("hvit_small", {"qkv_bias": False}, 27_596_647 - 3 * (2 * 96 + 2 * 192 + 6 * 384 + 2 * 768)),
        # Each of the first linear layers of 12 MLPs, and each of the second but for its biases.
        (
            "hvit_small",
            {"mlp_ratio": 2.0},
            27_596_647 - sum(n * 2 * c * (2 * c + 1) for n, c in ((2, 96), (2, 192), (6, 384), (2, 768))),
        ),
    ],
)
def test_networks_have_the_published_numbers_of_parameters(name, options, count):
    with torch.device("meta"):
        network = timm.create_model(name, **{"num_classes": 7, **options})
    assert parameters(network) == count


def test_the_largest_is_made_for_448_px_in_patches_of_14():
    with torch.device("meta"):
        network = timm.create_model("hvit_xl")
    assert network.pos_embed.shape == (1, 32, 32, 192)


def test_timm_knows_the_networks_and_their_input():
    assert timm.list_models("hvit_*") == ["hvit_base", "hvit_small", "hvit_tiny", "hvit_xl"]
    for name, side in (("hvit_small", 256), ("hvit_xl", 448)):
        config = timm.get_pretrained_cfg(name)
        assert config.input_size == (3, side, side) and config.fixed_input_size
        assert (config.mean, config.std) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    with pytest.raises(RuntimeError, match="No pretrained weights"):
        timm.create_model("hvit_tiny", pretrained=True)


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="drop_pathrate"):
        timm.create_model("hvit_tiny", drop_pathrate=0.1)


def test_depths_and_heads_go_together():
    with pytest.raises(ValueError, match="one number per stage"):
        timm.create_model("hvit_tiny", depths=(2, 2))


def test_features_and_head_are_the_two_halves_of_the_network():
    network, images = small(), pictures(32, 48)
    tokens = network.forward_features(images)
    assert tokens.shape == (2, 2 * 3, 32)
    assert network.num_features == network.head_hidden_size == 32
    before = network.forward_head(tokens, pre_logits=True)
    torch.testing.assert_close(before, network.fc_norm(tokens.mean(dim=1)))
    assert torch.equal(network.forward_head(tokens), network(images))
    assert torch.equal(network.head(before), network(images))


def test_without_classifier_a_network_gives_its_features():
    network, images = small(num_classes=0), pictures(32, 32)
    assert torch.equal(network(images), network.forward_head(network.forward_features(images), pre_logits=True))


def test_the_classifier_is_replaced():
    network = small().to(torch.float64)
    network.reset_classifier(5)
    assert network(pictures(32, 32).double()).shape == (2, 5)
    assert network.num_classes == 5 and network.get_classifier().out_features == 5
    network.reset_classifier(0)
    assert network(pictures(32, 32).double()).shape == (2, 32)
    assert isinstance(network.get_classifier(), nn.Identity)


def test_depth_drops_more_and_more():
    network = timm.create_model("hvit_small", drop_path_rate=0.2)
    rates = [[getattr(block.drop_path1, "drop_prob", 0) for block in stage.blocks] for stage in network.stages]
    expected = [[0, 0.0182], [0.0364, 0.0545], [0.0727, 0.0909, 0.1091, 0.1273, 0.1455, 0.1636], [0.1818, 0.2]]
    assert [[round(rate, 4) for rate in stage] for stage in rates] == expected
    for stage in network.stages:
        for block in stage.blocks:
            assert getattr(block.drop_path2, "drop_prob", 0) == getattr(block.drop_path1, "drop_prob", 0)


@pytest.mark.parametrize("option", ["drop_rate", "pos_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"])
def test_each_kind_of_dropping_changes_training_alone(option):
    images, plain, network = pictures(32, 32, count=8), small(), small(**{option: 0.5})
    assert torch.equal(network(images), plain(images))
    assert torch.equal(plain.train()(images), plain(images))
    assert not torch.equal(network.train()(images), network(images))


def test_the_classifier_drops_features_and_no_tokens():
    network, images = small(drop_rate=0.5).train(), pictures(32, 32)
    assert torch.equal(network.forward_features(images), network.forward_features(images))
    assert (network.forward_head(network.forward_features(images), pre_logits=True) == 0).any()


def test_fresh_weights_are_those_of_the_published_network():
    torch.manual_seed(0)
    network = timm.create_model("hvit_small", num_classes=1000)
    for name, parameter in network.named_parameters():
        if name == "patch_embed.proj.weight":
            assert parameter.std().item() == pytest.approx(math.sqrt(2 / (96 * 16 * 16)), rel=0.02)
        elif "norm" in name:
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight"))))
        elif name.endswith("bias"):
            assert not parameter.any()
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.03)


def gradients(network: nn.Module, images: Tensor) -> tuple[dict[str, Tensor], int]:
    """Of the sum of squares, and how many numbers were kept for them."""
    kept = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    torch.manual_seed(0)
    network.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(images).square().sum()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}, sum(kept)


@pytest.mark.parametrize("option", [{}, {"proj_drop_rate": 0.3, "drop_path_rate": 0.3}])
def test_checkpointing_gives_the_same_gradients_and_keeps_less(option):
    network, images = small(**option).train(), pictures(32, 32, count=4)
    expected, everything = gradients(network, images)
    network.set_grad_checkpointing()
    found, less = gradients(network, images)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6, msg=name)
    assert less < 0.5 * everything
    assert gradients(network.eval(), images)[1] > less  # only while training
    network.train().set_grad_checkpointing(False)
    assert gradients(network, images)[1] == everything


def test_layers_are_stem_blocks_with_their_merging_and_norms_with_the_classifier():
    network = timm.create_model("hvit_small", num_classes=7)
    layers = group_parameters(network, network.group_matcher(coarse=False))
    assert sorted(name for names in layers.values() for name in names) == sorted(dict(network.named_parameters()))
    assert len(layers) == 1 + 12 + 1
    assert {name.split(".")[0] for name in layers[0]} == {"patch_embed", "pos_embed"}
    assert {name.split(".")[0] for name in layers[13]} == {"norm", "fc_norm", "head"}
    block = {(0, 0): 1, (0, 1): 2, (1, 1): 4, (2, 5): 10, (3, 0): 11, (3, 1): 12}
    for (stage, number), layer in block.items():
        assert all(
            name.startswith((f"stages.{stage}.blocks.{number}.", f"stages.{stage}.downsample."))
            for name in layers[layer]
        )
    for stage, layer in enumerate((2, 4, 10)):
        assert f"stages.{stage}.downsample.reduction.weight" in layers[layer]


def test_coarse_layers_are_the_stages():
    network = timm.create_model("hvit_tiny", num_classes=0)
    layers = group_parameters(network, network.group_matcher(coarse=True))
    first = [
        {".".join(name.split(".")[:2]) for name in names if name.startswith("stages")} for names in layers.values()
    ]
    assert first == [set(), {"stages.0"}, {"stages.1"}, {"stages.2"}, {"stages.3"}, set()]


def test_timm_makes_groups_with_decaying_rates():
    network = timm.create_model("hvit_tiny", num_classes=7)
    groups = param_groups_layer_decay(
        network, weight_decay=0.05, layer_decay=0.5, no_weight_decay_list=network.no_weight_decay()
    )
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    found = {id(parameter): group for group in groups for parameter in group["params"]}
    assert found[id(network.head.weight)]["lr_scale"] == 1
    assert found[id(network.pos_embed)]["lr_scale"] == 0.5**11
    assert found[id(network.pos_embed)]["weight_decay"] == 0
    merging = network.stages[0].downsample.reduction.weight
    assert found[id(merging)]["lr_scale"] == found[id(network.stages[0].blocks[1].mlp.fc1.weight)]["lr_scale"]


def test_a_copy_is_a_network_of_its_own():
    network, images = small(), pictures(32, 32)
    twin = copy.deepcopy(network)
    twin.load_state_dict({name: torch.zeros_like(value) for name, value in network.state_dict().items()})
    assert network(images).any() and not twin(images).any()


def test_registering_overwrites_no_network_of_timm():
    names = {"hvit_tiny", "hvit_small", "hvit_base", "hvit_xl"}
    assert {timm.model_entrypoint(name).__module__ for name in names} == {HierarchicalViT.__module__}
    with warnings.catch_warnings(action="error"):
        partial(timm.create_model, "hvit_tiny", num_classes=0)()
