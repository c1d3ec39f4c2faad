"""BioGPT as text tower and decoder of a captioner: its sizes, what of it learns, and where it comes from."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from biomass_pl.errors import ConfigError, RunError
from biomass_pl.extras import imported
from biomass_pl.slide.biogpt_files import BioGptSizes, read_sizes, read_state
from biomass_pl.slide.biogpt_settings import PACKAGES, BioGptConfig
from biomass_pl.slide.biogpt_tokenizer import BioGptReportTokenizer
from biomass_pl.slide.biogpt_weights import load_biogpt, lower_layers
from biomass_pl.slide.coca import CaptionerConfig, SlideCaptioner
from biomass_pl.slide.text_tower import TextTower


@dataclass(frozen=True, kw_only=True)
class BioGptPart:
    """What makes the text tower and the decoder of a network a BioGPT.

    Args:
        sizes: Sizes of the BioGPT.
        lora_rank: Rank of the adapters in the text tower; 0 for none.
        lora_alpha: Adapters are weighted by this, divided by their rank.
        frozen_attention: Attention of the decoder that stands still, `self` or `cross`.
    """

    sizes: BioGptSizes
    lora_rank: int
    lora_alpha: int
    frozen_attention: tuple[str, ...]

    @classmethod
    def from_entry(cls, entry: object, *, source: str) -> Self | None:
        """What `to_entry` gave; None for a network that is no BioGPT.

        Args:
            entry: Plain values.
            source: Where they come from, for the message.

        Raises:
            RunError: They are something else.
        """
        if entry is None:
            return None
        try:
            values: dict[str, Any] = {**entry}  # type: ignore[dict-item]
            sizes, frozen = BioGptSizes(**values.pop("sizes")), tuple(values.pop("frozen_attention"))
            return cls(sizes=sizes, frozen_attention=frozen, **values)
        except (TypeError, KeyError) as error:
            raise RunError(f"{source} does not tell its BioGPT: it is damaged. Train the fold again.") from error

    def to_entry(self) -> dict[str, Any]:
        """Plain values, which a checkpoint may hold."""
        return asdict(self)

    def of(self, preset: CaptionerConfig) -> CaptionerConfig:
        """A network whose text tower is the lower half of this BioGPT, and whose decoder, if any, the upper one.

        Args:
            preset: The network; its image tower, pooler and dropout remain.
        """
        sizes = self.sizes
        lower = lower_layers(sizes)
        text = replace(preset.text, layers=lower, heads=sizes.heads, context_length=sizes.positions, final_norm=False)
        decoder = preset.decoder and replace(
            preset.decoder, layers=sizes.layers - lower, heads=sizes.heads, tied_head=sizes.tied_head
        )
        return replace(preset, embed_dim=sizes.width, text=text, decoder=decoder)

    def freeze(self, network: SlideCaptioner) -> None:
        """Adds the adapters, and has stand still what is to, in a network that has no optimizer yet.

        Raises:
            ConfigError: A package is not installed, or there is no cross-attention to stand still.
        """
        if self.lora_rank:
            _add_adapters(network.text, rank=self.lora_rank, alpha=self.lora_alpha)
        layers: Any = [] if network.decoder is None else network.decoder.transformer.layers
        if "cross" in self.frozen_attention and not any(layer.cross_attention for layer in layers):
            raise ConfigError(
                "model.biogpt.frozen_attention names cross, and this network has no cross-attention. Leave it out."
            )
        for layer in layers:
            for kind, attention in (("self", layer.attention), ("cross", layer.cross_attention)):
                if kind in self.frozen_attention:
                    attention.requires_grad_(False)


@dataclass(frozen=True, kw_only=True)
class LocalBioGpt:
    """A BioGPT in a folder, to start from.

    Args:
        folder: The folder.
        biogpt: What it makes of a network.
        tokenizer: Makes the tokens that its weights are for.
    """

    folder: Path
    biogpt: BioGptPart
    tokenizer: BioGptReportTokenizer

    def load_into(self, network: SlideCaptioner) -> None:
        """Gives a network these weights; images, pooler and cross-attention keep theirs.

        Raises:
            WeightsError: They cannot be read, or are of another size than the folder says.
        """
        path, state = read_state(self.folder)
        load_biogpt(network, state, self.biogpt.sizes, source=path)


def read_biogpt(folder: Path, config: BioGptConfig) -> LocalBioGpt:
    """Reads sizes and tokenizer of a BioGPT.

    Args:
        folder: A folder as `save_pretrained` of the `transformers` library writes it, or as downloaded.
        config: What of it is to learn.

    Raises:
        ConfigError: A package is not installed.
        WeightsError: A file is not there, or not that of a BioGPT, or they do not belong together.
    """
    sizes = read_sizes(folder)
    tokenizer = BioGptReportTokenizer.from_folder(folder, max_length=sizes.positions)
    tokenizer.check_fits(
        vocab_size=sizes.vocab_size, context_length=sizes.positions, source=f"the BioGPT in {folder / 'config.json'}"
    )
    part = BioGptPart(
        sizes=sizes,
        lora_rank=config.lora_rank,
        lora_alpha=config.lora_alpha,
        frozen_attention=config.frozen_attention,
    )
    return LocalBioGpt(folder=folder, biogpt=part, tokenizer=tokenizer)


def _add_adapters(text: TextTower, *, rank: int, alpha: int) -> None:
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685); of the text tower, only they and the pooler learn then."""
    peft: Any = imported("peft", title="peft", package=PACKAGES)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=["query", "key", "value"])
    peft.inject_adapter_in_model(config, text.transformer)
    for table in (text.tokens, text.positions):
        table.requires_grad_(False)
