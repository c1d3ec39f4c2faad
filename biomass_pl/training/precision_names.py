"""Number formats as contrastive image-text training programs name them, and as Lightning does."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

from biomass_pl.errors import ConfigError

LightningPrecision = Literal["16-mixed", "bf16-mixed", "16-true", "bf16-true", "32-true"]

PublishedPrecision = Literal["amp", "amp_bf16", "amp_bfloat16", "bf16", "fp16", "pure_bf16", "pure_fp16", "fp32"]

LIGHTNING_PRECISIONS: Mapping[PublishedPrecision, LightningPrecision] = MappingProxyType(
    {
        "amp": "16-mixed",
        "amp_bf16": "bf16-mixed",
        "amp_bfloat16": "bf16-mixed",
        "bf16": "bf16-true",  # Lightning itself reads this one as bf16-mixed
        "fp16": "16-true",
        "pure_bf16": "bf16-true",
        "pure_fp16": "16-true",
        "fp32": "32-true",
    }
)
"""What Lightning calls the published names. `mixed` keeps weights in float32, `true` has them in the format itself."""


def lightning_precision(name: str) -> LightningPrecision:
    """Lightning's name of a number format, of a published name or its own full one.

    Args:
        name: Such as `amp_bf16` or `bf16-mixed`.

    Raises:
        ConfigError: There is no such name; lists those that there are.
    """
    for published, ours in LIGHTNING_PRECISIONS.items():
        if name in (published, ours):
            return ours
    names = ", ".join(f"{published} ({ours})" for published, ours in LIGHTNING_PRECISIONS.items())
    raise ConfigError(
        f"There is no precision '{name}'. Give one of {', '.join(get_args(LightningPrecision))}, or a published name, "
        f"here with Lightning's: {names}."
    )
