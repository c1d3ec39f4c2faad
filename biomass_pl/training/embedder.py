"""What a backbone that is not trained says of pictures: chosen layers of it, pooled in chosen ways."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from biomass_pl.errors import ConfigError
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.timm_networks import first_line

Pooling = Literal["mean", "max", "gem", "class_token"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

_TILES_AT_ONCE = 32
_GEM_POWER = 3
_GEM_FLOOR = 1e-6
"""As in the publication; a smaller or negative number counts as this."""


def _generalised_mean(patches: Tensor) -> Tensor:
    return patches.clamp(min=_GEM_FLOOR).pow(_GEM_POWER).mean(dim=1).pow(1 / _GEM_POWER)


_POOL: dict[Pooling, Callable[[Tensor], Tensor]] = {
    "mean": lambda patches: patches.mean(dim=1),
    "max": lambda patches: patches.amax(dim=1),
    "gem": _generalised_mean,
}


class Embedder(nn.Module):
    """Vectors of a backbone's layers, one for each layer and pooling, one after another.

    Args:
        backbone: The network.
        layers: Layers as timm's `forward_intermediates` counts them, from the end below 0, each normalised as the last;
            none takes what the network pools itself.
        poolings: How the patches of a layer become a vector: their mean, their largest numbers, their generalised mean
            with the power 3 (GeM, Radenovic et al. 2018), or the class token, which is not pooled; none takes the mean.

    Raises:
        ConfigError: The network gives no such layers, or has no class token.
    """

    def __init__(self, *, backbone: Backbone, layers: Sequence[int] = (), poolings: Sequence[Pooling] = ()) -> None:
        super().__init__()
        self.backbone = backbone
        self.layers = list(layers)
        self.poolings = list(poolings) or ["mean"]
        self._gives_tokens = "return_prefix_tokens" in _settings_of(backbone.network)
        if self.layers and not hasattr(backbone.network, "forward_intermediates"):
            raise ConfigError(f"'{backbone.name}' gives no layer but its last. Leave --layers out.")
        if "class_token" in self.poolings and getattr(backbone.network, "cls_token", None) is None:
            raise ConfigError(f"'{backbone.name}' has no class token. Leave class_token out of --pool.")
        tile = torch.zeros(1, 3, backbone.tile_size, backbone.tile_size, device=backbone.mean.device)
        try:
            with torch.inference_mode():
                self.num_features = int(self.eval()(tile).shape[-1])
        except AssertionError as error:
            raise ConfigError(
                f"'{backbone.name}' has no such --layers ({first_line(error)}). Choose others."
            ) from error

    def forward(self, tiles: Tensor) -> Tensor:
        """Vectors of tiles.

        Args:
            tiles: uint8 or float values 0 to 255, (..., 3, S, S).

        Returns:
            (..., num_features): layer after layer as they lie in the network, in each in the order of the poolings.
        """
        parts = torch.split(tiles.flatten(end_dim=-4), self.backbone.tile_batch or _TILES_AT_ONCE)
        vectors = [self._embed(self.backbone.normalise(part)) for part in parts]
        return torch.cat(vectors).reshape(*tiles.shape[:-3], -1)

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of what comes of a tile."""
        return (self.num_features,)

    def description(self) -> dict[str, Any]:
        """What was chosen; values that JSON can hold."""
        return {"layers": self.layers, "poolings": self.poolings}

    def _embed(self, pixels: Tensor) -> Tensor:
        found = self._chosen_layers(pixels) if self.layers else [self._last_layer(pixels)]
        return torch.cat(
            [
                tokens[:, 0] if pooling == "class_token" else _POOL[pooling](patches.float())
                for patches, tokens in found
                for pooling in self.poolings
            ],
            dim=1,
        )

    def _chosen_layers(self, pixels: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Patches (B, P, D) and other tokens (B, K, D) of each layer."""
        network: Any = self.backbone.network
        settings = {"return_prefix_tokens": True} if self._gives_tokens else {}
        found = network.forward_intermediates(
            pixels, indices=self.layers, norm=True, stop_early=True, intermediates_only=True, **settings
        )
        maps = [layer if isinstance(layer, tuple) else (layer, layer[:, :0]) for layer in found]
        return [(patches.flatten(2).transpose(1, 2), tokens) for patches, tokens in maps]

    def _last_layer(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (B, P, D) and other tokens (B, K, D) of what the network would pool."""
        network: Any = self.backbone.network
        features = network.forward_features(pixels)
        if features.ndim == 3:
            others = getattr(network, "num_prefix_tokens", 0)
            return features[:, others:], features[:, :others]
        if getattr(network, "output_fmt", "NCHW") == "NHWC":
            features = features.movedim(-1, 1)
        return features.flatten(2).transpose(1, 2), features[:, :0]


def _settings_of(network: nn.Module) -> set[str]:
    """What may be asked of a network beside its layers."""
    method = getattr(network, "forward_intermediates", None)
    return set() if method is None else set(inspect.signature(method).parameters)
