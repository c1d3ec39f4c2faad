"""The timm backbone: features of tiles, weights from a file, and what is refused."""

import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from biomass_pl.errors import ConfigError, WeightsError
from biomass_pl.training.backbone import Backbone, load_encoder
from tests.training.weights_sources import MakesAFolder

VIT, CNN = "test_vit.r160_in1k", "test_resnet.r160_in1k"
IMAGENET = "test_byobnet.r160_in1k"  # as tiny, but normalised with ImageNet's statistics
SIZE = 32


def backbone(name: str = VIT, tile_size: int = SIZE, *, weights: Path | None = None) -> Backbone:
    return Backbone(name=name, tile_size=tile_size, pretrained=False, weights=weights).eval()


def tiles(*lead: int, size: int = SIZE) -> Tensor:
    return torch.randint(0, 256, (*lead, 3, size, size), dtype=torch.uint8)


@torch.no_grad()
def features(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels)


def refused(weights: Path) -> str:
    """The message with which a weights file is refused; it always names the file."""
    with pytest.raises(WeightsError) as caught:
        backbone(weights=weights)
    assert str(weights) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "length"), [(VIT, 64), (CNN, 96)])
@pytest.mark.parametrize("lead", [(5,), (2, 3), (2, 2, 4)])
def test_each_tile_gives_one_vector(name, length, lead):
    network = backbone(name)
    assert network.num_features == length
    assert features(network, tiles(*lead)).shape == (*lead, length)


def test_vectors_stay_in_the_place_of_their_tile():
    network, pixels = backbone(), tiles(2, 2, 3)
    together = features(network, pixels)
    for place in [(0, 0, 0), (0, 1, 2), (1, 0, 1)]:
        torch.testing.assert_close(together[place], features(network, pixels[place][None])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [VIT, CNN, IMAGENET])
def test_pixels_are_normalised_with_the_networks_own_statistics(name):
    network, pixels = backbone(name), tiles(3)
    config = get_pretrained_cfg(name)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
    by_hand = features(network.network, (pixels / 255 - mean) / std)
    torch.testing.assert_close(features(network, pixels), by_hand, rtol=1e-4, atol=1e-5)


def test_bytes_and_floats_up_to_255_give_the_same():
    network, pixels = backbone(), tiles(3)
    assert torch.equal(features(network, pixels), features(network, pixels.float()))


def test_statistics_are_not_in_the_state_dict():
    network = backbone()
    assert network.mean.shape == (3, 1, 1)
    assert all(key.startswith("network.") for key in network.state_dict())


def test_the_trial_tile_leaves_the_network_as_it_was():
    network = Backbone(name=CNN, tile_size=SIZE, pretrained=False, weights=None)
    assert network.training and network.network.training
    counts = [value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")]
    assert counts and all(count == 0 for count in counts)


@pytest.mark.parametrize("name", [VIT, CNN])
def test_a_backbone_learns(name):
    network = Backbone(name=name, tile_size=SIZE, pretrained=False, weights=None)
    network(tiles(4)).square().sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def save(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", [VIT, CNN])
def test_weights_from_a_file_reproduce_the_features_exactly(name, suffix, tmp_path):
    source, pixels = backbone(name), tiles(3)
    restored = backbone(name, weights=save(source.network.state_dict(), tmp_path / f"weights{suffix}"))
    assert torch.equal(features(restored, pixels), features(source, pixels))
    assert not torch.equal(features(backbone(name), pixels), features(source, pixels))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", [VIT, CNN])
def test_a_classifier_in_the_file_is_left_out(name, suffix, tmp_path):
    sized = {"img_size": SIZE} if name == VIT else {}
    classifier = timm.create_model(name, pretrained=False, num_classes=7, **sized).eval()
    path = save(classifier.state_dict(), tmp_path / f"classifier{suffix}")
    restored, pixels = backbone(name, weights=path), tiles(3)
    classifier.reset_classifier(0)
    expected = features(classifier, (pixels / 255 - 0.5) / 0.5)
    torch.testing.assert_close(features(restored, pixels), expected, rtol=1e-4, atol=1e-5)


def test_a_local_file_is_used_instead_of_pretrained_weights(tmp_path):
    source, pixels = backbone(), tiles(2)
    path = save(source.network.state_dict(), tmp_path / "weights.pth")
    restored = Backbone(name=VIT, tile_size=SIZE, pretrained=True, weights=path).eval()  # fetches nothing
    assert torch.equal(features(restored, pixels), features(source, pixels))


def test_a_missing_weight_is_named(tmp_path):
    state = backbone().network.state_dict()
    del state["norm.bias"]
    message = refused(save(state, tmp_path / "part.pth"))
    assert "norm.bias" in message and "model.backbone" in message


def test_a_weight_too_many_is_named(tmp_path):
    state = backbone().network.state_dict() | {"surprise": torch.zeros(1)}
    assert "surprise" in refused(save(state, tmp_path / "more.safetensors"))


def test_a_weight_of_another_shape_is_named(tmp_path):
    state = backbone().network.state_dict() | {"norm.bias": torch.zeros(3)}
    message = refused(save(state, tmp_path / "shape.pth"))
    assert "norm.bias" in message and "data.tile_size" in message


def test_weights_for_another_tile_size_are_refused(tmp_path):
    path = save(backbone(tile_size=64).network.state_dict(), tmp_path / "for_64.pth")
    message = refused(path)
    assert "pos_embed" in message and "data.tile_size" in message


def test_weights_of_another_network_are_refused(tmp_path):
    message = refused(save(backbone(CNN).network.state_dict(), tmp_path / "cnn.pth"))
    assert "model.backbone" in message


HVIT, HVIT_SIZE = "hvit_tiny", 128


def hierarchical(seed: int = 0, *, weights: Path | None = None, tile_size: int = HVIT_SIZE) -> Backbone:
    torch.manual_seed(seed)
    return Backbone(name=HVIT, tile_size=tile_size, weights=weights).eval()


def test_a_hierarchical_vit_is_a_backbone():
    network = Backbone(name=HVIT, tile_size=HVIT_SIZE, args={"drop_path_rate": 0.2}, grad_checkpointing=True)
    assert network.num_features == 512
    network(tiles(2, size=HVIT_SIZE)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def state_files(names: list[str]) -> dict[str, dict[str, Tensor] | None]:
    """Entries of a checkpoint, each with its own weights."""
    return {name: hierarchical(seed=seed + 1).network.state_dict() for seed, name in enumerate(names)}


@pytest.mark.parametrize(
    ("names", "preferred"),
    [
        (["model_backbone_state_dict"], 0),
        (["model_state_dict", "model_backbone_state_dict"], 0),
        (["model_backbone_state_dict", "model_state_dict", "ema_state_dict"], 2),
    ],
)
def test_averaged_weights_of_a_published_checkpoint_come_first(names, preferred, tmp_path, caplog):
    caplog.set_level("INFO")
    entries = state_files(names)
    checkpoint = {"epoch": 3, "best_val_metric": 0.5, "config": {"device": "cpu"}, "scaler_state_dict": {}}
    path = save(checkpoint | {"ema_state_dict": None} | entries, tmp_path / "best_model.pth")
    loaded = hierarchical(weights=path).network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in entries[names[preferred]].items())
    assert f"Of {path}, the weights under '{names[preferred]}' are loaded" in caplog.text


def test_names_of_compiled_and_parallel_networks_are_understood(tmp_path):
    state = hierarchical(seed=1).network.state_dict()
    for number, prefix in enumerate(("_orig_mod.", "module.")):
        wrapped = {prefix + key: value for key, value in state.items()}
        loaded = hierarchical(weights=save({"model_state_dict": wrapped}, tmp_path / f"{number}.pth")).network
        assert torch.equal(loaded.pos_embed, state["pos_embed"])


@pytest.mark.parametrize("content", [{"ema_state_dict": 3}, {"model_state_dict": [1, 2]}])
def test_a_published_checkpoint_without_weights_says_what_to_give(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    assert "Give a safetensors file or a saved state dict" in refused(tmp_path / "other.pth")


def test_weights_of_another_size_of_tile_fit_a_hierarchical_vit(tmp_path):
    path = save(hierarchical(seed=1, tile_size=256).network.state_dict(), tmp_path / "for_256.pth")
    assert hierarchical(weights=path).network.pos_embed.shape[1:3] == (8, 8)


def test_weights_of_two_streams_are_refused_in_words(tmp_path):
    state = hierarchical().network.state_dict()
    published = {"rgb_pos_embed": state.pop("pos_embed").flatten(1, 2)}
    path = save(state | published | {"spectral_pos_embed": torch.zeros(1, 64, 64)}, tmp_path / "two.pth")
    with pytest.raises(WeightsError, match="two streams") as caught:
        hierarchical(weights=path)
    assert str(path) in str(caught.value)


def test_an_encoder_is_loaded_from_weights_at_hand():
    source, target = hierarchical(seed=1), hierarchical(seed=2)
    state = source.network.state_dict()
    classifier = {"head.weight": torch.zeros(3, 512), "head.bias": torch.zeros(3)}
    load_encoder(target.network, state | classifier, origin="fold 0 of a run")
    assert torch.equal(target.network.pos_embed, source.network.pos_embed)
    del state["norm.bias"]
    with pytest.raises(WeightsError, match=r"The weights in fold 0 of a run do not fit[\s\S]*norm\.bias"):
        load_encoder(target.network, state, origin="fold 0 of a run")
    assert "norm.bias" not in state and set(state) < set(source.network.state_dict())


def test_normalised_tiles_are_what_the_network_itself_takes():
    network, pixels = backbone(IMAGENET), tiles(2)
    torch.testing.assert_close(features(network.network, network.normalise(pixels)), features(network, pixels))


def test_a_missing_weights_file_says_which_setting_to_correct(tmp_path):
    assert "model.backbone_weights" in refused(tmp_path / "nothing.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"<html>404</html>", b"PK\x03\x04abc", b"\x80\x02K\x01.", b"\x80\x02R" + b"a" * 20, b"\xff" * 64],
)
def test_a_file_that_is_no_weights_says_what_to_give(name, content, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    assert "Give a safetensors file or a saved state dict" in refused(path)


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {1: torch.zeros(2)}, {"state_dict": 3}])
def test_a_saved_something_else_says_what_to_give(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    assert "Give a safetensors file or a saved state dict" in refused(tmp_path / "other.pth")


def test_half_a_file_says_what_to_give(tmp_path):
    path = save(backbone().network.state_dict(), tmp_path / "half.pth")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "Give a safetensors file or a saved state dict" in refused(path)


def pickled(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("writer", [torch.save, pickled])
def test_code_in_a_weights_file_is_refused_and_not_run(writer, tmp_path):
    folder = tmp_path / "made_by_the_weights_file"
    writer({"norm.bias": MakesAFolder(folder)}, tmp_path / "evil.pth")
    refused(tmp_path / "evil.pth")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("test_vitt", "test_vit"),
        ("test_vit.r160_in1", "test_vit.r160_in1k"),
        ("test_vitt.r160_in1k", "test_vit.r160_in1k"),
        ("vit_base_patch14_reg4_dinov2.lvd142", "vit_base_patch14_reg4_dinov2.lvd142m"),
    ],
)
def test_an_unknown_network_is_named_with_a_suggestion(wrong, right):
    with pytest.raises(ConfigError, match=r"model\.backbone") as caught:
        backbone(wrong)
    assert f"'{wrong}'" in str(caught.value)
    assert right in str(caught.value).split("Did you mean ")[1].rstrip("?").split(", ")


def test_a_network_unlike_any_points_to_the_list():
    with pytest.raises(ConfigError, match=r"timm\.list_models\(\)"):
        backbone("qqqqqqqqqqqqqqqqqqqq")


@pytest.mark.parametrize(("size", "fitting"), [(100, "96 or 112"), (33, "32 or 48"), (8, "16 or 32"), (17, "16 or 32")])
def test_tiles_that_patches_do_not_fill_are_refused_with_sizes_that_work(size, fitting):
    with pytest.raises(ConfigError, match=f"data.tile_size .* to {fitting}") as caught:
        backbone(VIT, size)
    assert VIT in str(caught.value) and f"{size} px" in str(caught.value)
    for works in fitting.split(" or "):
        assert backbone(VIT, int(works)).num_features == 64


@pytest.mark.parametrize("size", [17, 33, 50])
def test_a_convolutional_network_takes_any_tile_size(size):
    assert features(backbone(CNN, size), tiles(2, size=size)).shape == (2, 96)


@pytest.mark.parametrize("name", [VIT, CNN])
@pytest.mark.parametrize("size", [0, -16])
def test_tiles_too_small_for_a_network_are_refused(name, size):
    with pytest.raises(ConfigError, match=r"data\.tile_size") as caught:
        backbone(name, size)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", [VIT, CNN])
def test_pretrained_weights_without_a_network_name_the_two_ways_on(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        Backbone(name=name, tile_size=SIZE, pretrained=True, weights=None)
    message = str(caught.value)
    assert name in message and "model.pretrained: false" in message and "model.backbone_weights" in message


@pytest.mark.parametrize("learns", [True, False])
def test_tiles_in_batches_give_the_features_and_gradients_of_all_at_once(learns):
    tiles = torch.randint(0, 256, (2, 2, 3, 3, 32, 32), dtype=torch.uint8)
    torch.manual_seed(0)
    whole = Backbone(name="test_vit.r160_in1k", tile_size=32)
    parts = Backbone(name="test_vit.r160_in1k", tile_size=32, tile_batch=5)
    parts.load_state_dict(whole.state_dict())
    for backbone in (whole, parts):
        backbone.requires_grad_(learns)
    expected, found = whole(tiles), parts(tiles)
    assert found.shape == (2, 2, 3, whole.num_features)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    if not learns:
        assert not found.requires_grad
        return
    expected.square().sum().backward()
    found.square().sum().backward()
    for (name, weight), other in zip(whole.named_parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(other.grad, weight.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_the_fingerprint_tells_networks_weights_options_and_sizes_apart():
    def build(name="test_vit.r160_in1k", size=32, seed=0, args=None):
        torch.manual_seed(seed)
        return Backbone(name=name, tile_size=size, args=args)

    first = build()
    assert build().fingerprint() == first.fingerprint()
    options = [{"drop_path_rate": 0.1}, {"global_pool": "avg"}]
    others = [
        build(seed=1),
        build(size=64),
        build(name="test_resnet.r160_in1k"),
        *(build(args=args) for args in options),
    ]
    assert len({first.fingerprint(), *(other.fingerprint() for other in others)}) == 6
    assert build(args={}).fingerprint() == first.fingerprint()
    both = [
        build(args={"drop_rate": 0.1, "drop_path_rate": 0.2}),
        build(args={"drop_path_rate": 0.2, "drop_rate": 0.1}),
    ]
    assert both[0].fingerprint() == both[1].fingerprint()
    before = first.fingerprint()
    with torch.no_grad():
        next(first.parameters()).flatten()[0] += 1e-3
    assert first.fingerprint() != before


def test_a_compiled_backbone_keeps_the_names_of_its_weights():
    backbone = Backbone(name="test_vit.r160_in1k", tile_size=32)
    names = list(backbone.state_dict())
    backbone.network.compile()
    assert list(backbone.state_dict()) == names
