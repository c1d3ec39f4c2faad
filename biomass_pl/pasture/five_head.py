"""Training of the five-head model, and what mends its sums."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from biomass_pl.errors import ConfigError
from biomass_pl.pasture.auxiliary import AuxiliaryHeads, ContextAdjustment
from biomass_pl.pasture.correction import correct_dead, derive_dead
from biomass_pl.pasture.heads import BiomassHead, FiveHeads
from biomass_pl.pasture.losses import EQUAL_WEIGHTS, PastureLoss, WeightedLoss
from biomass_pl.pasture.scores import pasture_scores
from biomass_pl.pasture.task import StereoTask
from biomass_pl.training.task import StepOutput

DeadCorrection = Literal["off", "threshold", "always", False]
"""When Dead is set to Total - GDM. An `off` without quotes is False in YAML."""

_COLUMNS = {"state": "State", "month": "Sampling_Date", "species": "Species"}
"""Column of the label table that tells each class."""


@dataclass(frozen=True, kw_only=True)
class AuxiliaryConfig:
    """Heads that guess where, when and of what a photo was taken; a weight of 0 leaves a head out.

    Args:
        state_weight: Loss weight of guessing the state.
        month_weight: Loss weight of guessing the month.
        species_weight: Loss weight of guessing the species.
    """

    state_weight: float = 5.0
    month_weight: float = 3.0
    species_weight: float = 2.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise ConfigError(f"model.auxiliary.{name} is {value}; give 0 or more.")

    def weights(self) -> dict[str, float]:
        """Weight of each head that there is."""
        weights = {"state": self.state_weight, "month": self.month_weight, "species": self.species_weight}
        return {name: weight for name, weight in weights.items() if weight > 0}


torch.serialization.add_safe_globals([AuxiliaryConfig])  # checkpoints of tasks made in Python hold one


class FiveHead(StereoTask):
    """Five independent targets; the loss encourages their sums.

    Corrections act in validation and prediction; the loss sees the network's own grams.

    Args:
        auxiliary: Also guess state, month and species group, which keeps the features general; none: do not.
        context_adjustment: Shift Dead and Clover by what is usual in the guessed state, month and species.
        dead_correction: Set Dead to Total - GDM: off, threshold (where sums are far off) or always.
        correction_threshold: Share of Total that its parts may miss.
        **kwargs: Settings of every model that joins views.
    """

    context: ContextAdjustment
    auxiliary_heads: AuxiliaryHeads

    def __init__(
        self,
        *,
        auxiliary: AuxiliaryConfig | None = None,
        context_adjustment: bool = False,
        dead_correction: DeadCorrection = "off",
        correction_threshold: float = 0.15,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.auxiliary_weights = auxiliary.weights() if auxiliary else {}
        unguessed = [name for name in _COLUMNS if name not in self.auxiliary_weights]
        if context_adjustment and unguessed:
            raise ConfigError(
                f"model.context_adjustment needs guesses of {', '.join(unguessed)}. Set model.auxiliary "
                "with all weights above 0, or leave model.context_adjustment out."
            )
        if dead_correction not in get_args(DeadCorrection):
            raise ConfigError(f"model.dead_correction is {dead_correction}; give off, threshold or always.")
        if correction_threshold < 0:
            raise ConfigError(f"model.correction_threshold is {correction_threshold}; give 0 or more.")
        self.context_adjustment = context_adjustment
        self.dead_correction = dead_correction or "off"
        self.correction_threshold = correction_threshold

    def make_head(self, hidden: int) -> BiomassHead:
        """Five independent outputs."""
        return FiveHeads(hidden=hidden, dropout=self.dropout, log_target=self.log_target)

    def published_loss(self) -> PastureLoss:
        """Equal weights, and .05 on the identities."""
        return WeightedLoss(target_weights=EQUAL_WEIGHTS, constraint_weight=0.05)

    def check_data(self, data: Any) -> None:
        """Refuses auxiliary heads whose classes no training photo of the fold has.

        Raises:
            ConfigError: Names the columns.
        """
        super().check_data(data)
        if not self.auxiliary_weights:
            return
        codes = data.training_classes()
        unknown = [name for name in self.auxiliary_weights if (codes[name] < 0).all()]
        if unknown:
            columns = ", ".join(_COLUMNS[name] for name in unknown)
            settings = ", ".join(f"model.auxiliary.{name}_weight" for name in unknown)
            raise ConfigError(
                f"No training photo has a known {', '.join(unknown)}: the label table needs {columns}. "
                f"Add what is missing, or set {settings} to 0."
            )

    def add_modules(self, hidden: int) -> None:
        """The auxiliary heads and the factors of the context adjustment."""
        self.auxiliary_heads = AuxiliaryHeads(hidden=hidden, dropout=self.dropout, names=self.auxiliary_weights)
        if self.auxiliary_weights:
            # Factors are kept whenever there are guesses, so that a prediction can still choose to use them.
            self.context = ContextAdjustment()

    def start_from(self, data: Any) -> None:
        """Also takes the frequencies of classes, and how much of a target each has."""
        super().start_from(data)
        if self.auxiliary_weights:
            self.check_data(data)
            codes = {name: torch.tensor(column) for name, column in data.training_classes().items()}
            self.auxiliary_heads.weigh_classes(codes)
            self.context.estimate(torch.tensor(data.training_targets()), codes)

    def step(self, batch: dict[str, Any]) -> StepOutput:
        """Losses of the network's own grams; outside training the prediction is corrected."""
        hidden = self.network.fusion(self.features(batch))
        raw = self.network.head(hidden)
        logits = self.auxiliary_heads(hidden)
        losses: dict[str, Tensor] = self.loss(raw, batch["target"], log_target=self.log_target)
        for name, loss in self.auxiliary_heads.losses(logits, batch).items():
            losses[name] = self.auxiliary_weights[name] * loss
        if self.training or not self._corrects:
            return StepOutput(losses=losses, outputs={"prediction": raw})
        return StepOutput(losses=losses, outputs={"prediction": self._correct(raw, logits), "raw_prediction": raw})

    def predict_grams(self, features: Tensor) -> Tensor:
        """Corrected grams (B, 5)."""
        hidden = self.network.fusion(features)
        return self._correct(self.network.head(hidden), self.auxiliary_heads(hidden))

    def kept_names(self) -> tuple[str, ...]:
        """With a correction, also the grams before it."""
        return (*super().kept_names(), "raw_prediction") if self._corrects else super().kept_names()

    def score(self, kept: Mapping[str, np.ndarray]) -> dict[str, float]:
        """With a correction, also the scores without it as `raw_...`."""
        scores = super().score(kept)
        if "raw_prediction" in kept:
            raw = pasture_scores(kept["target"], kept["raw_prediction"])
            scores |= {f"raw_{name}": score for name, score in raw.items()}
        return scores

    @property
    def _corrects(self) -> bool:
        return self.context_adjustment or self.dead_correction != "off"

    def _correct(self, grams: Tensor, logits: dict[str, Tensor]) -> Tensor:
        if self.context_adjustment:
            grams = self.context(grams, logits)
        if self.dead_correction == "threshold":
            return correct_dead(grams, threshold=self.correction_threshold)
        return derive_dead(grams) if self.dead_correction == "always" else grams
