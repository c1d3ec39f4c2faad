"""The files of a BioGPT in a local folder: its sizes and its weights. Nothing in them is executed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from biomass_pl.errors import WeightsError
from biomass_pl.slide.biogpt_settings import WHERE_FROM

_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "max_position_embeddings": "positions",
}
"""Names in `config.json`, and those here."""

_ALWAYS = {"hidden_act": "gelu", "scale_embedding": True, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
"""What `config.json` may leave out, and what every BioGPT has."""


@dataclass(frozen=True, kw_only=True)
class BioGptSizes:
    """Sizes of a BioGPT.

    Args:
        vocab_size: Number of different tokens.
        width: Length of the tokens.
        layers: Transformer layers.
        heads: Attention heads of a layer.
        positions: The most tokens of a text.
        tied_head: Whether the vocabulary head is the table of token embeddings.
    """

    vocab_size: int
    width: int
    layers: int
    heads: int
    positions: int
    tied_head: bool


def file_in(folder: Path, *names: str) -> Path:
    """The first of these files that is there.

    Raises:
        WeightsError: There is no such folder, or none of them is in it.
    """
    if not folder.is_dir():
        raise WeightsError(f"There is no folder {folder}. {WHERE_FROM}")
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"The folder {folder} has no {' or '.join(names)}. {WHERE_FROM}")


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        WeightsError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read ({error}). Download it again.") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        WeightsError: It holds none.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is no JSON ({error}). Download it again.") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds no JSON object. Download it again.")
    return content


def read_sizes(folder: Path) -> BioGptSizes:
    """The sizes in `config.json`.

    Raises:
        WeightsError: It is not there, or not that of a BioGPT.
    """
    path = file_in(folder, "config.json")
    config = read_json(path)
    if config.get("model_type") != "biogpt":
        raise WeightsError(
            f"{path} is that of a {config.get('model_type', 'nameless')} model, not of BioGPT. {WHERE_FROM}"
        )
    sizes: dict[str, Any] = {ours: config.get(theirs) for theirs, ours in _SIZES.items()}
    for theirs, ours in _SIZES.items():
        smallest = 2 if ours in ("layers", "positions") else 1
        if type(sizes[ours]) is not int or sizes[ours] < smallest:
            raise WeightsError(f"{path}: {theirs} is {sizes[ours]}, and not a number from {smallest} on. Correct it.")
    always = _ALWAYS | {"intermediate_size": 4 * sizes["width"]}
    for name, value in always.items():
        if config.get(name, value) != value:
            raise WeightsError(
                f"{path}: {name} is {config[name]}, and {value} in every BioGPT known here. Use another."
            )
    return BioGptSizes(**sizes, tied_head=config.get("tie_word_embeddings", True) is True)


def read_state(folder: Path) -> tuple[Path, Mapping[str, Tensor]]:
    """The file of weights, and the weights by their names in `BioGptModel`; a head only where it is not tied.

    Raises:
        WeightsError: There are none, or they cannot be read.
    """
    path = file_in(folder, "model.safetensors", "pytorch_model.bin")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        named = {name.removeprefix("biogpt."): value for name, value in state.items()}
        other = [name for name, value in named.items() if not isinstance(value, Tensor)]
        if other:
            msg = f"{other[0]} is no tensor"
            raise TypeError(msg)
    except Exception as error:  # a damaged file can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path} holds no weights ({reason}). Download it again.") from error
    return path, named
