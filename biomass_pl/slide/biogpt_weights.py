"""Weights of a BioGPT in a captioner: its lower layers are the text tower, its upper ones the decoder.

Every number of BioGPT has its place, so that a captioner without images is BioGPT, to the last logit. The published
network is none any more: it normalises twice with weights that belong after the last layer, and forgets the head.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from biomass_pl.errors import WeightsError
from biomass_pl.slide.biogpt_files import BioGptSizes
from biomass_pl.slide.coca import SlideCaptioner
from biomass_pl.slide.tokenizer import BOS, PAD

_TOKENS, _POSITIONS, _HEAD = "embed_tokens.weight", "embed_positions.weight", "output_projection.weight"

_FIRST_POSITION = 2
"""Row of BioGPT's positions that the first token has; those before it have no use."""

_LAYER = {
    "self_attn_layer_norm": "attention_norm",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.out_proj": "attention.output",
    "final_layer_norm": "mlp_norm",
    "fc1": "mlp.0",
    "fc2": "mlp.3",
}
"""Parts of a layer of BioGPT, and what they are called here."""


def load_biogpt(network: SlideCaptioner, state: Mapping[str, Tensor], sizes: BioGptSizes, *, source: Path) -> None:
    """Gives a captioner the weights of BioGPT; its pooler, cross-attention and image tower have none there.

    Args:
        network: A captioner of the sizes of this BioGPT, also one without decoder, or with adapters.
        state: Weights by their names in `BioGptModel`.
        sizes: Sizes of the BioGPT.
        source: Where the weights come from, for messages.

    Raises:
        WeightsError: One is missing, unknown, or of another shape.
    """
    names = _names(sizes)
    unknown = state.keys() - names.keys() - {_HEAD}
    missing = names.keys() - state.keys()
    if missing or unknown:
        problem = f"lacks {min(missing)}" if missing else f"also holds {min(unknown)}"
        raise WeightsError(f"{source} {problem}, unlike the BioGPT of its config.json. Download both again.")
    for theirs, ours in names.items():
        if network.decoder is None and ours.startswith("decoder."):
            continue
        place = _place(network, ours)
        rows, *others = place.shape
        expected = (rows + _FIRST_POSITION if theirs == _POSITIONS else rows, *others)
        if state[theirs].shape != expected:
            raise WeightsError(
                f"{source}: {theirs} has the shape {tuple(state[theirs].shape)} instead of {expected}, which its "
                "config.json tells. Download both again."
            )
        with torch.no_grad():
            place.copy_(_arranged(theirs, state[theirs]))


def _names(sizes: BioGptSizes) -> dict[str, str]:
    """Names of all weights in BioGPT, and in a captioner."""
    names = {_TOKENS: "text.tokens.weight", _POSITIONS: "text.positions.weight"}
    lower = lower_layers(sizes)
    for number in range(sizes.layers):
        tower, layer = ("text", number) if number < lower else ("decoder", number - lower)
        for theirs, ours in _LAYER.items():
            for kind in ("weight", "bias"):
                names[f"layers.{number}.{theirs}.{kind}"] = f"{tower}.transformer.layers.{layer}.{ours}.{kind}"
    names |= {f"layer_norm.{kind}": f"decoder.transformer.norm.{kind}" for kind in ("weight", "bias")}
    if not sizes.tied_head:
        names[_HEAD] = "decoder.head.weight"
    return names


def lower_layers(sizes: BioGptSizes) -> int:
    """How many of the layers are the text tower's."""
    return sizes.layers // 2


def _arranged(name: str, value: Tensor) -> Tensor:
    """A weight as it is here: padding and beginning of a text change places, and positions begin with the first."""
    if name == _POSITIONS:
        return value[_FIRST_POSITION:]
    if name in (_TOKENS, _HEAD):
        # BioGPT's id of either is ours of the other.
        order = torch.arange(len(value))
        order[[PAD, BOS]] = order[[BOS, PAD]]
        return value[order]
    return value


def _place(network: SlideCaptioner, name: str) -> Tensor:
    """The weight of this name, beneath an adapter where there is one."""
    path, _, kind = name.rpartition(".")
    module = network.get_submodule(path)
    weight: Tensor = getattr(getattr(module, "base_layer", module), kind)
    return weight
