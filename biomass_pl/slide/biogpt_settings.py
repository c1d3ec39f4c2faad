"""Settings of BioGPT as text tower and decoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from biomass_pl.errors import ConfigError

PACKAGES = "'biomass-pl[biogpt]'"
"""What pip installs what BioGPT needs by."""

WHERE_FROM = (
    "Download config.json, vocab.json, merges.txt and model.safetensors (or pytorch_model.bin) of microsoft/biogpt "
    "from huggingface.co into a folder, and name it: --model.biogpt.folder FOLDER"
)
"""What to do where a file is missing; nothing is fetched here."""


@dataclass(frozen=True, kw_only=True)
class BioGptConfig:
    """The text tower and the decoder are BioGPT's (Luo et al. 2022), and what of it learns; defaults as published.

    What `model.lock_text` locks is for a text tower without adapters.

    Args:
        folder: Folder with the files of microsoft/biogpt, or of another BioGPT; None: text and decoder start at random.
        lora_rank: Rank of small adapters (LoRA) of queries, keys and values in the text tower, of which BioGPT's own
            weights then stand still; 0: no adapters, all of it learns.
        lora_alpha: Adapters are weighted by this, divided by their rank.
        frozen_attention: Attention of the decoder that stands still: `self`, which is BioGPT's, or `cross`, which is
            new.

    Raises:
        ConfigError: A number is out of range, or there is a setting of a BioGPT without its folder.
    """

    folder: Path | None = None
    lora_rank: int = 4
    lora_alpha: int = 4
    frozen_attention: tuple[Literal["self", "cross"], ...] = ("self",)

    def __post_init__(self) -> None:
        if self.lora_rank < 0:
            raise ConfigError(f"model.biogpt.lora_rank is {self.lora_rank}; give 1 or more, or 0 for no adapters.")
        if self.lora_alpha < 1:
            raise ConfigError(f"model.biogpt.lora_alpha is {self.lora_alpha}; give 1 or more.")
        if self.folder is None and (self.lora_rank, self.lora_alpha, self.frozen_attention) != (4, 4, ("self",)):
            raise ConfigError(f"model.biogpt has settings, but no BioGPT. {WHERE_FROM}")
