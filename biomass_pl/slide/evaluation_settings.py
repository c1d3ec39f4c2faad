"""Settings of what is found out about a network of slides and reports beside its losses."""

from dataclasses import dataclass
from pathlib import Path

import torch

from biomass_pl.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class CaptionsConfig:
    """Whether reports are generated and scored.

    Args:
        enabled: Generate them, in validation and in prediction.
        every_n_epochs: In validation, only in every so many epochs and in the last one.

    Raises:
        ConfigError: There are fewer epochs than one from one to the next.
    """

    enabled: bool = False
    every_n_epochs: int = 1

    def __post_init__(self) -> None:
        if self.every_n_epochs < 1:
            raise ConfigError(f"model.captions.every_n_epochs is {self.every_n_epochs}; give 1 or more.")


@dataclass(frozen=True, kw_only=True)
class ZeroShotConfig:
    """Questions that prompts answer. Files are looked for in the data folder; the first ones belong together.

    Args:
        class_prompt_mapping: JSON files of classes and their prompts, a text or a list of texts each.
        specimen_class_mapping: JSON files of specimens and their classes, which examples need as well.
    """

    class_prompt_mapping: tuple[Path, ...] = ()
    specimen_class_mapping: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FewShotConfig:
    """Questions that examples answer, one for each of `model.zero_shot.specimen_class_mapping`.

    Args:
        examples: JSON files of classes and the specimens to learn each from, looked for in the data folder.
    """

    examples: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How scores are made.

    Args:
        bootstraps: How often patients are drawn for the intervals of out-of-fold and test scores; 1: no intervals.
        ci: Share of the draws within an interval.
        grace_period: Epochs, from the first, without any validation.

    Raises:
        ConfigError: A number is out of range.
    """

    bootstraps: int = 1
    ci: float = 0.95
    grace_period: int = 0

    def __post_init__(self) -> None:
        if self.bootstraps < 1:
            raise ConfigError(f"model.eval.bootstraps is {self.bootstraps}; give 1 (no intervals) or more.")
        if not 0 < self.ci < 1:
            raise ConfigError(f"model.eval.ci is {self.ci}; give a share between 0 and 1.")
        if self.grace_period < 0:
            raise ConfigError(f"model.eval.grace_period is {self.grace_period}; give 0 epochs or more.")


torch.serialization.add_safe_globals(
    [CaptionsConfig, EvaluationConfig]
)  # checkpoints of tasks made in Python hold them
