"""Weights to start from: those of a trained network of the same sizes, with the tokens that it learned."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biomass_pl.errors import WeightsError
from biomass_pl.slide.biogpt import BioGptPart
from biomass_pl.slide.coca import SlideCaptioner
from biomass_pl.slide.stored_tokenizer import stored_tokenizer
from biomass_pl.slide.tokenizer import ReportTokenizer

_NETWORK = "network."
"""How the names of weights begin in a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class PretrainedNetwork:
    """What a checkpoint holds.

    Args:
        path: The file.
        weights: Weights of the network by name.
        tokenizer: Makes the tokens that the weights are for.
        biogpt: What makes the network a BioGPT; None for any other.
    """

    path: Path
    weights: dict[str, Tensor]
    tokenizer: ReportTokenizer
    biogpt: BioGptPart | None

    def load_into(self, network: SlideCaptioner) -> None:
        """Gives a network these weights, all of them.

        Raises:
            WeightsError: It is of another size.
        """
        try:
            network.load_state_dict(self.weights, strict=True)
        except RuntimeError as error:
            problems = "\n".join(line[:200] for line in str(error).splitlines()[1:4])
            raise WeightsError(
                f"The weights in {self.path} do not fit the network. Set model.name, model.loss.siglip and the "
                f"features of the data to those that they were trained with:\n{problems}"
            ) from error


def read_pretrained(path: Path) -> PretrainedNetwork:
    """Reads a checkpoint of a run; nothing in it is executed.

    Raises:
        WeightsError: It is not there, cannot be read, or lacks weights or tokens.
        RunError: Its tokenizer is damaged, or what it tells of its BioGPT.
    """
    if not path.is_file():
        raise WeightsError(f"Weights file {path} does not exist. Correct model.pretrained.")
    try:
        checkpoint: Any = torch.load(path, map_location="cpu", weights_only=True)
        state, tokenizer = checkpoint["state_dict"], checkpoint["tokenizer"]
        weights = {name.removeprefix(_NETWORK): value for name, value in state.items() if name.startswith(_NETWORK)}
    except Exception as error:  # a damaged file can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{path} holds no weights with their tokenizer ({reason}). Name a checkpoint of a run, such as best.ckpt."
        ) from error
    return PretrainedNetwork(
        path=path,
        weights=weights,
        tokenizer=stored_tokenizer(tokenizer, source=str(path)),
        biogpt=BioGptPart.from_entry(checkpoint.get("biogpt"), source=str(path)),
    )
