"""Any timm network as a feature extractor for tiles."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from timm.data.config import resolve_model_data_config
from timm.models import clean_state_dict
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from biomass_pl.errors import ConfigError, WeightsError
from biomass_pl.training.patch_features import patch_features
from biomass_pl.training.pretrained_weights import find_pretrained
from biomass_pl.training.timm_networks import create_network, first_line, has_fixed_size, size_message
from biomass_pl.training.weights_files import read_weights

_TILES_IN_CACHE = 32
"""Tiles that a CPU without gradients takes at once; measured with a ViT, a fifth faster than 64."""


class Backbone(nn.Module):
    """Tiles of 0 to 255 in, one feature vector per tile, or per patch of it, out.

    Normalisation with the network's own mean and standard deviation happens here, on the device.

    Args:
        name: Name of a timm network.
        tile_size: Side of a tile in pixels.
        pretrained: Start from timm's weights of this name: from its cache, else an installed package, else fetched.
        weights: Local weights file (safetensors or a state dict), used instead of timm's.
        grad_checkpointing: Compute activations again in the backward pass instead of keeping them.
        tile_batch: Tiles that go through the network at once; 0 takes all.
        args: Options of this network in timm, such as `drop_path_rate`.
        patches: Give a vector for each patch that the network sees in a tile, instead of one for the tile.

    Raises:
        ConfigError: No network has this name or these options, or it cannot take tiles of this size, or tells nothing
            of patches.
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
        args: Mapping[str, Any] | None = None,
        patches: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.tile_size = tile_size
        self.tile_batch = tile_batch
        # Convolutions run faster with the channels last; ViTs, of a fixed input size, have but one.
        self.memory_format = torch.contiguous_format if has_fixed_size(name) else torch.channels_last
        self.args = dict(args or {})
        self.patches = patches
        found = find_pretrained(name) if pretrained and weights is None else None
        self.network = create_network(name, tile_size, pretrained=found, args=self.args)
        self.origin = "random weights" if found is None else found.origin  # in words, for the user
        if weights is not None:
            load_encoder(self.network, _read_weights(weights), origin=str(weights))
            self.origin = f"the weights in {weights}"
        statistics = resolve_model_data_config(self.network)  # type: ignore[no-untyped-call]
        for key in ("mean", "std"):
            # Not in the state dict: they belong to the network's name, not to what was learned.
            self.register_buffer(key, 255 * torch.tensor(statistics[key]).view(3, 1, 1), persistent=False)
        self.feature_shape = self._try_one_tile()
        self.num_features = self.feature_shape[-1]
        if grad_checkpointing:
            _checkpoint_gradients(self.network, name)

    def forward(self, tiles: Tensor) -> Tensor:
        """Features of tiles.

        Args:
            tiles: uint8 or float values 0 to 255, (..., 3, S, S).

        Returns:
            Features (..., num_features), or of patches (..., P, num_features).
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
        return torch.cat(features).reshape(*tiles.shape[:-3], *self.feature_shape)

    def fingerprint(self) -> str:
        """Names the network, its options and weights: equal for equal features, whatever trained them."""
        args = f" {json.dumps(self.args, sort_keys=True, default=str)}" if self.args else ""
        digest = hashlib.sha256(f"{self.name} {self.tile_size}{args}".encode())
        for name, tensor in [*self.state_dict().items(), ("mean", self.mean), ("std", self.std)]:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def has_batch_statistics(self) -> bool:
        """Whether the network learns from the statistics of its batches, as batch normalisation does."""
        return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.modules())

    def normalise(self, tiles: Tensor) -> Tensor:
        """What the network itself takes, of tiles of 0 to 255 (B, 3, S, S)."""
        pixels = tiles.to(self.mean.dtype)
        return ((pixels - self.mean) / self.std).contiguous(memory_format=self.memory_format)

    def _encode(self, tiles: Tensor) -> Tensor:
        pixels = self.normalise(tiles)
        features: Tensor = (
            patch_features(self.network, pixels, name=self.name) if self.patches else self.network(pixels)
        )
        return features

    def _try_one_tile(self) -> tuple[int, ...]:
        """Shape of what comes of a tile: of a vector, or of the vectors of its patches."""
        training = self.network.training
        self.network.eval()
        try:
            with torch.inference_mode():
                tile = torch.zeros(1, 3, self.tile_size, self.tile_size)
                features = patch_features(self.network, tile, name=self.name) if self.patches else self.network(tile)
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ConfigError(size_message(self.name, self.tile_size, error, self.args)) from error
        self.network.train(training)
        if not self.patches and features.ndim != 2:
            raise ConfigError(
                f"'{self.name}' gives features of shape {tuple(features.shape)}, not one vector per tile."
            )
        return tuple(features.shape[1:])

    def _learns(self) -> bool:
        return any(parameter.requires_grad for parameter in self.parameters())


def _checkpoint_gradients(network: nn.Module, name: str) -> None:
    switch: Any = getattr(network, "set_grad_checkpointing", None)
    try:
        if switch is None:
            msg = "it has no such switch"
            raise AssertionError(msg)  # as timm does where the switch is there but does nothing
        switch(True)
    except AssertionError as error:
        raise ConfigError(
            f"'{name}' cannot checkpoint its gradients ({first_line(error)}). Set model.grad_checkpointing: false."
        ) from error


def load_encoder(network: nn.Module, state: Mapping[str, Any], *, origin: str) -> None:
    """Gives a network the weights of another of its kind, strictly but for the classifier that it does not have.

    Args:
        network: A network of timm without classifier, such as that of a backbone.
        state: Weights by name; names of DataParallel and torch.compile are understood.
        origin: Where they come from, for the message.

    Raises:
        WeightsError: They do not fit.
    """
    fitting = clean_state_dict(dict(state))
    config: Any = network.pretrained_cfg
    classifiers = config.get("classifier") or ()
    for classifier in (classifiers,) if isinstance(classifiers, str) else classifiers:
        for part in ("weight", "bias"):
            fitting.pop(f"{classifier}.{part}", None)
    try:
        network.load_state_dict(fitting, strict=True)
    except RuntimeError as error:
        raise WeightsError(
            f"The weights in {origin} do not fit the backbone and tile size:\n{_beginning(error)}\n"
            "Set model.backbone and data.tile_size (data.image_size) to those the weights were made for."
        ) from error


def _read_weights(path: Path) -> dict[str, Any]:
    """The state dict in a local file."""
    if not path.is_file():
        raise WeightsError(f"Weights file {path} does not exist. Correct model.backbone_weights.")
    return read_weights(path, advice="Give a safetensors file or a saved state dict.")


def _beginning(error: BaseException) -> str:
    """The first mismatches of a state dict; a large network has hundreds."""
    lines = str(error).splitlines()
    return "\n".join(f"{line[:200]}..." if len(line) > 200 else line for line in lines[:4])
