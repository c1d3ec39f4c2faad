"""Pretrained weights of timm's networks: from its own cache, an installed package or the network, in that order."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError, safe_open
from timm.models import PretrainedCfg, get_pretrained_cfg

from biomass_pl.errors import WeightsError
from biomass_pl.training.weights_files import read_weights
from biomass_pl.training.weights_packages import WEIGHTS_PACKAGES, installed_weights

_WITHOUT_CODE = {
    "pytorch_model.bin": "model.safetensors",
    "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
}
"""Files of the hub, and those of the same weights that timm prefers."""


@dataclass(frozen=True, kw_only=True)
class PretrainedWeights:
    """Pretrained weights of a network.

    Args:
        origin: What they are and where they come from, in a few words.
        source: Entries of timm's configuration of the weights that have it take these; none: it fetches them.
    """

    origin: str
    source: Mapping[str, Any] = field(default_factory=dict)


def find_pretrained(name: str) -> PretrainedWeights:
    """The pretrained weights of a network, from the first place that has them; the network is asked last.

    Args:
        name: Name of a network in timm.

    Raises:
        WeightsError: What the cache or a package holds is damaged, or weights of another network.
    """
    config = _config(name)
    cached = None if config is None else _cached_file(config)
    if cached is not None:
        return PretrainedWeights(origin=f"pretrained weights of {name}, timm's cache", source=_source(cached))
    installed = installed_weights(_full_name(config))
    if installed is not None:
        return PretrainedWeights(
            origin=f"ImageNet weights of {name}, package {installed.package}",
            source={"state_dict": dict(installed.state), "custom_load": False},
        )
    return PretrainedWeights(origin=f"pretrained weights of {name}, fetched from the network")


def package_to_install(name: str) -> str | None:
    """The package that holds the weights of a network in timm; none where there is none."""
    package = WEIGHTS_PACKAGES.get(_full_name(_config(name)))
    return None if package is None else package.name


def _config(name: str) -> PretrainedCfg | None:
    """What timm knows of the weights of a network; none of those that it does not know."""
    try:
        return get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:  # no weights of this name
        return None


def _full_name(config: PretrainedCfg | None) -> str:
    """Name of a network, a dot and the name of its weights."""
    return "" if config is None else f"{config.architecture}.{config.tag}"


def _cached_file(config: PretrainedCfg) -> Path | None:
    """What timm has fetched before: from the hub, or, by older releases, from an address."""
    if config.hf_hub_id and str(config.custom_load) != "hf":  # a format that only timm reads
        repository, _, revision = config.hf_hub_id.partition("@")
        file = config.hf_hub_filename or "pytorch_model.bin"
        for candidate in (_WITHOUT_CODE.get(file, file), file):
            path = try_to_load_from_cache(repository, candidate, revision=revision or None)
            if isinstance(path, str):
                return Path(path)
    if isinstance(config.url, str) and not config.custom_load:
        path = Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlparse(config.url).path).name)
        return path if path.is_file() else None
    return None


def _source(path: Path) -> dict[str, Any]:
    """What has timm take weights from a file, once it is known to be whole.

    Raises:
        WeightsError: It is damaged.
    """
    advice = "Remove it, and it is fetched again."
    if path.suffix != ".safetensors":
        # Read here: older releases of timm would run code in it.
        return {"state_dict": read_weights(path, advice=advice), "custom_load": False}
    try:
        with safe_open(path, framework="pt"):
            # By its path: timm copies a state dict that it is given.
            return {"file": str(path), "custom_load": False}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} holds no weights ({error}). {advice}") from error
