"""Number formats as Lightning names them, and as contrastive image-text training programs do."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal, get_args

from biomass_pl.errors import ConfigError

LightningPrecision = Literal["32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true"]
"""`mixed` keeps weights in float32, `true` has them, and the inputs, in the format itself."""

PublishedPrecision = Literal["amp", "amp_bf16", "amp_bfloat16", "bf16", "fp16", "pure_bf16", "pure_fp16", "fp32"]

PUBLISHED_PRECISIONS: Mapping[PublishedPrecision, LightningPrecision] = MappingProxyType(
    {
        "amp": "16-mixed",
        "amp_bf16": "bf16-mixed",
        "amp_bfloat16": "bf16-mixed",
        "bf16": "bf16-true",
        "fp16": "16-true",
        "pure_bf16": "bf16-true",
        "pure_fp16": "16-true",
        "fp32": "32-true",
    }
)
"""What Lightning calls the published names."""

_SHORT_NAMES: Mapping[str, LightningPrecision] = MappingProxyType(
    {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}
)
"""Lightning's own short names."""


def lightning_precision(name: str | int, *, allowed: Collection[LightningPrecision]) -> LightningPrecision:
    """Lightning's full name of a number format.

    Args:
        name: A published name such as `amp_bf16`, or one of Lightning's, such as `bf16-mixed` or 16.
        allowed: Formats that may be asked for.

    Raises:
        ConfigError: There is no such name, none of what it may mean is allowed, or more than one is.
    """
    meanings = _meanings(str(name))
    if not meanings:
        raise ConfigError(
            f"There is no precision '{name}' here. Give {_either(allowed)}, or a published name, here with "
            f"Lightning's: {_published(allowed)}."
        )
    possible = [meaning for meaning in meanings if meaning in allowed]
    if not possible:
        raise ConfigError(
            f"trainer.precision {name} would round or widen the labels with the inputs. Use {_either(allowed)}."
        )
    if len(possible) > 1:
        by_lightning, as_published = possible
        raise ConfigError(
            f"trainer.precision {name} is {by_lightning} to Lightning and was published for {as_published}. "
            "Give one of these two."
        )
    return possible[0]


def _meanings(name: str) -> list[LightningPrecision]:
    """What a name stands for: to Lightning first, then as published."""
    full = [precision for precision in get_args(LightningPrecision) if precision == name]
    short = [precision for short, precision in _SHORT_NAMES.items() if short == name]
    published = [precision for published, precision in PUBLISHED_PRECISIONS.items() if published == name]
    return full + short + published


def _either(allowed: Collection[LightningPrecision]) -> str:
    *others, last = [precision for precision in get_args(LightningPrecision) if precision in allowed]
    return f"{', '.join(others)} or {last}" if others else str(last)


def _published(allowed: Collection[LightningPrecision]) -> str:
    """The published names that stand for an allowed format and for no other."""
    names = {published: ours for published, ours in PUBLISHED_PRECISIONS.items() if _meanings(published) == [ours]}
    return ", ".join(f"{published} ({ours})" for published, ours in names.items() if ours in allowed)
