"""What a timm network knows of each patch of a picture, before it pools them to one vector."""

import math
from typing import Any

from torch import Tensor, nn

from biomass_pl.errors import ConfigError


def patch_features(network: nn.Module, pictures: Tensor, *, name: str) -> Tensor:
    """Features of the patches of square pictures, without class and register tokens.

    Args:
        network: A network of timm.
        pictures: What it takes (B, 3, S, S).
        name: What messages call it.

    Returns:
        (B, P, D), the patches in reading order, as many rows as columns.

    Raises:
        ConfigError: It gives neither a feature map nor a square of tokens.
    """
    encoder: Any = getattr(network, "forward_features", None)
    features = encoder(pictures) if encoder is not None else None
    if isinstance(features, Tensor) and features.ndim == 4:
        channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        features = features.flatten(1, 2) if channels_last else features.flatten(2).transpose(1, 2)
    elif isinstance(features, Tensor) and features.ndim == 3:
        prefix: Any = getattr(network, "num_prefix_tokens", 0)
        features = features[:, prefix:]
    else:
        features = None
    if features is None or math.isqrt(features.shape[1]) ** 2 != features.shape[1]:
        raise ConfigError(
            f"'{name}' gives neither a feature map nor a square of tokens, of which this model needs one for the "
            "patches of a tile. Set model.backbone to another network, such as a ViT or an EfficientNet."
        )
    return features
