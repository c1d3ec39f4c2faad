"""Any timm network as a feature extractor for tiles."""

import difflib
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models import get_pretrained_cfg, load_state_dict
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from biomass_pl.errors import ConfigError, WeightsError

logger = logging.getLogger(__name__)

_TILES_IN_CACHE = 32
"""Tiles that a CPU without gradients takes at once; measured with a ViT, a fifth faster than 64."""


class Backbone(nn.Module):
    """Tiles of 0 to 255 in, one feature vector per tile out.

    Normalisation with the network's own mean and standard deviation happens here, on the device.

    Args:
        name: Name of a timm network.
        tile_size: Side of a tile in pixels.
        pretrained: Fetch timm's weights for this name.
        weights: Local weights file (safetensors or a state dict), used instead of timm's.
        grad_checkpointing: Compute activations again in the backward pass instead of keeping them.
        tile_batch: Tiles that go through the network at once; 0 takes all.

    Raises:
        ConfigError: No network has this name, or it cannot take tiles of this size.
        WeightsError: The weights cannot be fetched, read or fitted.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        name: str,
        tile_size: int,
        pretrained: bool = False,
        weights: Path | None = None,
        grad_checkpointing: bool = False,
        tile_batch: int = 0,
    ) -> None:
        super().__init__()
        self.name = name
        self.tile_size = tile_size
        self.tile_batch = tile_batch
        # Convolutions run faster with the channels last; ViTs, of a fixed input size, have but one.
        config = get_pretrained_cfg(name, allow_unregistered=True) if _is_known(name) else None
        fixed = config is not None and config.fixed_input_size
        self.memory_format = torch.contiguous_format if fixed else torch.channels_last
        self.network = _create(name, tile_size, pretrained=pretrained and weights is None)
        if weights is not None:
            _load(self.network, weights)
        statistics = resolve_model_data_config(self.network)  # type: ignore[no-untyped-call]
        for key in ("mean", "std"):
            # Not in the state dict: they belong to the network's name, not to what was learned.
            self.register_buffer(key, 255 * torch.tensor(statistics[key]).view(3, 1, 1), persistent=False)
        self.num_features: int = _feature_count(self.network, name, tile_size)
        if grad_checkpointing:
            _checkpoint_gradients(self.network, name)

    def forward(self, tiles: Tensor) -> Tensor:
        """Features of tiles.

        Args:
            tiles: uint8 or float values 0 to 255, (..., 3, S, S).

        Returns:
            Features (..., num_features).
        """
        flat = tiles.flatten(end_dim=-4)
        learns = torch.is_grad_enabled() and self._learns()
        # What one layer leaves for the next stays in the caches of a CPU when the tiles are few.
        at_once = self.tile_batch or (len(flat) if learns or flat.device.type != "cpu" else _TILES_IN_CACHE)
        parts = torch.split(flat, max(1, at_once))
        if len(parts) > 1 and learns:
            # What a part keeps for the backward pass would add up to what all tiles keep at once.
            features = [checkpoint(self._encode, part, use_reentrant=False) for part in parts]
        else:
            features = [self._encode(part) for part in parts]
        return torch.cat(features).reshape(*tiles.shape[:-3], -1)

    def fingerprint(self) -> str:
        """Names the network and its weights: equal for equal features, whatever trained them."""
        digest = hashlib.sha256(f"{self.name} {self.tile_size}".encode())
        for name, tensor in [*self.state_dict().items(), ("mean", self.mean), ("std", self.std)]:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def has_batch_statistics(self) -> bool:
        """Whether the network learns from the statistics of its batches, as batch normalisation does."""
        return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.modules())

    def _encode(self, tiles: Tensor) -> Tensor:
        pixels = tiles.to(self.mean.dtype)
        normalised = ((pixels - self.mean) / self.std).contiguous(memory_format=self.memory_format)
        features: Tensor = self.network(normalised)
        return features

    def _learns(self) -> bool:
        return any(parameter.requires_grad for parameter in self.parameters())


def _create(name: str, tile_size: int, *, pretrained: bool) -> nn.Module:
    if not _is_known(name):
        similar = difflib.get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()], n=3)
        hint = f"Did you mean {', '.join(similar)}?" if similar else "timm.list_models() lists all."
        raise ConfigError(f"timm has no network '{name}' (model.backbone). {hint}")
    config = get_pretrained_cfg(name, allow_unregistered=True)
    # Networks with a fixed input size, such as ViTs, are built for the tiles; the others take any size.
    sized: dict[str, Any] = {"img_size": tile_size} if config is not None and config.fixed_input_size else {}
    if pretrained:
        logger.info("Loading the pretrained weights of '%s'; the first time they are fetched", name)
    try:
        with _quiet_hub():
            network = timm.create_model(name, pretrained=pretrained, num_classes=0, **sized)
    except (ValueError, AssertionError) as error:
        raise ConfigError(_size_message(name, tile_size, error)) from error
    except (OSError, RuntimeError, KeyError) as error:
        if not pretrained:
            raise ConfigError(_size_message(name, tile_size, error)) from error
        raise WeightsError(
            f"The pretrained weights of '{name}' cannot be had ({_first_line(error)}). "
            "Set model.pretrained: false, or give a local file as model.backbone_weights."
        ) from error
    if not isinstance(network, nn.Module):
        msg = f"timm gave a {type(network)} for '{name}'"
        raise TypeError(msg)
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if sized and patch is not None and tile_size % patch[0]:
        fitting = max(1, tile_size // patch[0]) * patch[0]
        raise ConfigError(
            f"'{name}' cuts its input into patches of {patch[0]} px, which do not fill tiles of {tile_size} px. "
            f"Set data.tile_size (data.image_size) to {fitting} or {fitting + patch[0]}."
        )
    return network


def _is_known(name: str) -> bool:
    """Whether timm has the network and, where the name goes on with a dot, its weights of that name."""
    if not timm.is_model(name):
        return False
    try:
        get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:
        return False
    return True


def _checkpoint_gradients(network: nn.Module, name: str) -> None:
    switch: Any = getattr(network, "set_grad_checkpointing", None)
    try:
        if switch is None:
            msg = "it has no such switch"
            raise AssertionError(msg)  # as timm does where the switch is there but does nothing
        switch(True)
    except AssertionError as error:
        raise ConfigError(
            f"'{name}' cannot checkpoint its gradients ({_first_line(error)}). Set model.grad_checkpointing: false."
        ) from error


def _feature_count(network: nn.Module, name: str, tile_size: int) -> int:
    """Length of the feature vector, found by trying one tile."""
    training = network.training
    try:
        with torch.inference_mode():
            features = network.eval()(torch.zeros(1, 3, tile_size, tile_size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(_size_message(name, tile_size, error)) from error
    network.train(training)
    if features.ndim != 2:
        raise ConfigError(f"'{name}' gives features of shape {tuple(features.shape)}, not one vector per tile.")
    return int(features.shape[1])


def _load(network: nn.Module, path: Path) -> None:
    """Loads a local file, strictly but for the classifier that a feature extractor does not have."""
    if not path.is_file():
        raise WeightsError(f"Weights file {path} does not exist. Correct model.backbone_weights.")
    try:
        state = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        raise WeightsError(
            f"{path} holds no weights ({_first_line(error)}). Give a safetensors file or a saved state dict."
        ) from error
    config: Any = network.pretrained_cfg
    classifiers = config.get("classifier") or ()
    for classifier in (classifiers,) if isinstance(classifiers, str) else classifiers:
        for part in ("weight", "bias"):
            state.pop(f"{classifier}.{part}", None)
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(
            f"The weights in {path} do not fit the backbone and tile size:\n{_beginning(error)}\n"
            "Set model.backbone and data.tile_size (data.image_size) to those the weights were made for."
        ) from error


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Keeps the hub client's retries off the terminal; what they end in is reported once."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        hub.setLevel(level)


def _size_message(name: str, tile_size: int, error: BaseException) -> str:
    return (
        f"'{name}' cannot take tiles of {tile_size} px ({_first_line(error)}). Choose another data.tile_size "
        "(data.image_size), such as the network's own."
    )


def _beginning(error: BaseException) -> str:
    """The first mismatches of a state dict; a large network has hundreds."""
    lines = str(error).splitlines()
    return "\n".join(f"{line[:200]}..." if len(line) > 200 else line for line in lines[:4])


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
