"""What a checkpoint tells of its network beside the weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from biomass_pl.errors import RunError
from biomass_pl.slide.biogpt import BioGptPart
from biomass_pl.slide.stored_tokenizer import stored_tokenizer
from biomass_pl.slide.tokenizer import ReportTokenizer


@dataclass(frozen=True, kw_only=True)
class NetworkRecord:
    """What a network was built for.

    Args:
        tokenizer: Makes the tokens that its weights are for.
        input_dim: Length of the vectors of a bag.
        seed: Of the training; drawn reports depend on it.
        biogpt: What makes it a BioGPT; None for any other.
    """

    tokenizer: ReportTokenizer
    input_dim: int
    seed: int
    biogpt: BioGptPart | None

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> Self:
        """That of a checkpoint.

        Raises:
            RunError: The checkpoint lacks something.
            WeightsError: Its tokenizer is not that of its weights.
        """
        text, input_dim, seed = (checkpoint.get(name) for name in ("tokenizer", "input_dim", "seed"))
        if not (isinstance(text, str) and isinstance(input_dim, int) and isinstance(seed, int)):
            raise RunError("A checkpoint does not tell its tokenizer: it is damaged. Train the fold again.")
        tokenizer = stored_tokenizer(text, source="a checkpoint")
        weights = checkpoint["state_dict"]
        tokenizer.check_fits(
            vocab_size=len(weights["network.text.tokens.weight"]),
            context_length=len(weights["network.text.positions.weight"]),
            source="the network in a checkpoint",
        )
        biogpt = BioGptPart.from_entry(checkpoint.get("biogpt"), source="A checkpoint")
        return cls(tokenizer=tokenizer, input_dim=input_dim, seed=seed, biogpt=biogpt)

    def entries(self) -> dict[str, Any]:
        """What the checkpoint keeps; `of` reads it."""
        return {
            "tokenizer": self.tokenizer.to_json(),
            "input_dim": self.input_dim,
            "seed": self.seed,
            "biogpt": None if self.biogpt is None else self.biogpt.to_entry(),
        }
