"""Published checkpoints of the hierarchical ViT: their names, what is left out, and positions of other sizes."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from timm.models import load_checkpoint
from torch import Tensor, nn

from biomass_pl.training.hvit import HierarchicalViT
from biomass_pl.training.hvit_weights import resize_positions
from tests.training.test_hvit import cubic_weights, pictures, small

PUBLISHED = {
    "patch_embed": "rgb_patch_embed",
    "norm": "norm_rgb_final_encoder",
    "fc_norm": "classifier_head_norm",
    "head": "classifier_head",
}


def published(network: HierarchicalViT) -> dict[str, Tensor]:
    """The weights of a network as the published program names and shapes them."""
    state = {}
    for name, value in network.state_dict().items():
        first, _, rest = name.partition(".")
        if name == "pos_embed":
            state["rgb_pos_embed"] = value.reshape(1, -1, value.shape[-1])
        elif first == "stages":
            state[f"rgb_stages.{rest.replace('downsample', 'downsample_layer')}"] = value
        else:
            state[f"{PUBLISHED[first]}.{rest}"] = value
    return state


def linear_weights(*parts: str) -> dict[str, Tensor]:
    return {f"{part}.{kind}": torch.zeros(3) for part in parts for kind in ("weight", "bias")}


UNUSED = linear_weights(
    "contrastive_projector.0", "contrastive_projector.2", "mae_decoder_rgb.decoder_pred.0", "aux_head_rgb"
)
SECOND_STREAM = linear_weights(
    *("spectral_patch_embed.proj", "spectral_stages.0.blocks.0.norm1", "norm_spectral_final_encoder"),
    *("dfca_module.norm1", "rgb_to_dfca_proj", "spectral_to_dfca_proj", "simple_fusion_projector"),
    *("mae_decoder_spectral.decoder_pred.0", "aux_head_spectral"),
) | {"spectral_pos_embed": torch.zeros(1, 64, 8), "dfca_module.disease_mask": torch.zeros(1, 1, 8)}


def same(network: nn.Module, other: nn.Module, names: Iterable[str] | None = None) -> bool:
    states = network.state_dict(), other.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in names or states[0])


def test_the_published_names_are_those_of_the_specification():
    names = published(HierarchicalViT(num_classes=7))
    assert len(names) == 164
    assert {"rgb_patch_embed.proj.weight", "rgb_pos_embed", "rgb_stages.0.blocks.1.attn.qkv.bias"} < set(names)
    assert {"rgb_stages.2.downsample_layer.reduction.weight", "norm_rgb_final_encoder.bias"} < set(names)


def test_published_weights_are_loaded():
    source, network = small(seed=1), small(seed=2)
    state = published(source)
    names = list(state)
    network.load_state_dict(state)
    assert same(network, source)
    assert list(state) == names  # the caller's own is left as it was


@pytest.mark.parametrize("translate", [published, HierarchicalViT.state_dict])
def test_a_network_without_classifier_takes_the_rest(translate):
    source, network = small(seed=1), small(seed=2, num_classes=0)
    network.load_state_dict(translate(source))
    assert same(network, source, network.state_dict())


def test_parts_that_do_not_classify_are_left_out():
    source, network = small(seed=1), small(seed=2)
    network.load_state_dict(published(source) | UNUSED)
    assert same(network, source)


def test_timm_loads_a_published_file(tmp_path):
    source, network = small(seed=1), small(seed=2)
    torch.save({"state_dict": published(source)}, tmp_path / "weights.pth")
    load_checkpoint(network, str(tmp_path / "weights.pth"))
    assert same(network, source)


def test_weights_within_a_larger_network_are_loaded():
    source, outer = small(seed=1), nn.ModuleDict({"encoder": small(seed=2), "other": nn.Linear(2, 2)})
    state = {f"encoder.{name}": value for name, value in published(source).items()}
    outer.load_state_dict(state | {f"other.{name}": value for name, value in outer["other"].state_dict().items()})
    assert same(outer["encoder"], source)


def refused(network: nn.Module, state: dict[str, Tensor]) -> str:
    with pytest.raises(RuntimeError) as caught:
        network.load_state_dict(state)
    return str(caught.value)


def test_a_missing_weight_is_named():
    state = published(small())
    del state["rgb_stages.1.blocks.0.norm1.bias"]
    assert "stages.1.blocks.0.norm1.bias" in refused(small(), state)


@pytest.mark.parametrize("surprise", ["rgb_stages.5.norm.weight", "unheard_of"])
def test_a_weight_too_many_is_named(surprise):
    message = refused(small(), published(small()) | {surprise: torch.zeros(1)})
    assert surprise.removeprefix("rgb_") in message


@pytest.mark.parametrize("part", SECOND_STREAM)
def test_any_part_of_a_second_stream_is_refused(part):
    message = refused(small(), published(small()) | {part: SECOND_STREAM[part]})
    assert "two streams" in message and part in message


def test_a_network_of_two_streams_is_refused_in_one_line():
    lines = refused(small(), published(small()) | SECOND_STREAM).splitlines()
    assert len(lines) == 2 and f"({next(iter(SECOND_STREAM))} and {len(SECOND_STREAM) - 1} others)" in lines[1]


def resized(table: Tensor, height: int, width: int) -> Tensor:
    return torch.einsum(
        "rh,cw,bhwd->brcd", cubic_weights(table.shape[1], height), cubic_weights(table.shape[2], width), table
    )


@pytest.mark.parametrize("translate", [published, HierarchicalViT.state_dict])
@pytest.mark.parametrize("size", [16, 64, (16, 48), (16, 64)])
def test_positions_of_another_size_are_interpolated(translate, size):
    source, network = small(seed=1), small(seed=2, img_size=size)
    network.load_state_dict(translate(source))
    expected = resized(source.pos_embed, *network.pos_embed.shape[1:3])
    torch.testing.assert_close(network.pos_embed, expected, rtol=1e-5, atol=1e-5)
    assert same(network, source, set(network.state_dict()) - {"pos_embed"})


def test_positions_tell_their_own_grid():
    source, network = small(seed=1, img_size=(16, 64)), small(seed=2)  # 64 patches each
    network.load_state_dict(source.state_dict())
    torch.testing.assert_close(network.pos_embed, resized(source.pos_embed, 8, 8), rtol=1e-5, atol=1e-5)
    images = pictures(16, 64)
    # As if there were no second interpolation: positions of 4 x 16 patches, made 8 x 8, made 4 x 16 again.
    source.pos_embed.data = resized(resized(source.pos_embed.data, 8, 8), 4, 16)
    torch.testing.assert_close(network(images), source(images), rtol=1e-4, atol=1e-4)


def test_published_positions_of_an_oblong_fit_the_same_oblong_alone():
    source = small(seed=1, img_size=(16, 32))
    network = small(seed=2, img_size=(16, 32))
    network.load_state_dict(published(source))
    assert same(network, source)
    assert "32 positions, of a grid that is not square" in refused(small(), published(source))


@pytest.mark.parametrize("shape", [(1, 8, 8, 5), (1, 64, 5), (8, 8), (64,)])
def test_positions_of_another_kind_are_refused(shape):
    assert "pos_embed" in refused(small(), small().state_dict() | {"pos_embed": torch.zeros(shape)})


def test_positions_keep_their_precision():
    table = torch.randn(1, 4, 4, 2, dtype=torch.float16)
    assert resize_positions(table, (8, 8)).dtype == torch.float16
    assert resize_positions(table, (4, 4)) is table


def test_interpolation_is_told(caplog):
    caplog.set_level("INFO")
    small(img_size=64).load_state_dict(published(small()))
    assert "Positions of 8 x 8 patches are interpolated to 16 x 16" in caplog.text


def test_a_saved_copy_is_loaded_as_it_is(tmp_path: Path):
    source, network = small(seed=1), small(seed=2)
    torch.save(source.state_dict(), tmp_path / "own.pth")
    network.load_state_dict(torch.load(tmp_path / "own.pth", weights_only=True))
    assert same(network, source)
