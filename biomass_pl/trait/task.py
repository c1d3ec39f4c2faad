"""Training of a model for any measured numbers."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from biomass_pl.data.base import Truth
from biomass_pl.errors import ConfigError, FoldError, RunError
from biomass_pl.training.backbone import Backbone
from biomass_pl.training.image_task import ImageTask
from biomass_pl.training.pooling import AttentionPool, MeanPool
from biomass_pl.training.task import Objective, StepOutput
from biomass_pl.trait.heads import RegressionNetwork, TraitHead
from biomass_pl.trait.losses import LossName, standardised_loss
from biomass_pl.trait.report import RegressionReport, predicted_column
from biomass_pl.trait.scores import mean_r2, target_scores
from biomass_pl.trait.sums import Parts, parts_of


class Regression(ImageTask):
    """Predicts any numbers from the tiles of a photo, each counted in its own spread, so that units do not matter.

    Args:
        backbone: Name of any timm network.
        pool: mean counts all tiles the same; attention weighs them.
        hidden: Length of the head's hidden vector.
        dropout: Dropout rate of the head, 0 to 1.
        loss: smooth_l1, which forgives outliers, or mse.
        target_weights: What each target counts in loss and score, in the order of data.targets; none: all the same.
        non_negative: Predict nothing below 0.
        sums: Targets that are exact sums of others, such as {total: [green, dead]}; none: all are predicted.
        **kwargs: Settings of every image model.
    """

    objective = Objective(name="val/mean_r2")
    network: RegressionNetwork

    def __init__(
        self,
        *,
        backbone: str = "vit_base_patch14_reg4_dinov2.lvd142m",
        pool: Literal["mean", "attention"] = "mean",
        hidden: int = 128,
        dropout: float = 0.2,
        loss: LossName = "smooth_l1",
        target_weights: list[float] | None = None,
        non_negative: bool = False,
        sums: dict[str, list[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, **kwargs)
        if not 0 <= dropout < 1:
            raise ConfigError(f"model.dropout is {dropout}; give a rate from 0 to below 1.")
        if hidden < 1:
            raise ConfigError(f"model.hidden is {hidden}; give 1 or more.")
        for setting, value, known in (("pool", pool, ("mean", "attention")), ("loss", loss, get_args(LossName))):
            if value not in known:
                raise ConfigError(f"model.{setting} is {value}; give {' or '.join(known)}.")
        self.save_hyperparameters()
        self.pool = pool
        self.hidden = hidden
        self.dropout = dropout
        self.loss: LossName = loss
        self.target_weights = target_weights
        self.non_negative = non_negative
        self.sums = sums or {}
        self._truth: Truth | None = None
        self.targets: tuple[str, ...] = ()
        self.parts: Parts

    @property
    def truth(self) -> Truth | None:
        """What was measured; it decides on the network's outputs and the report."""
        return self._truth

    @truth.setter
    def truth(self, truth: Truth | None) -> None:
        if truth is None or truth.kind != "values":
            raise ConfigError("Regression learns numbers, and these data tell none. Choose another model.")
        self._truth = truth
        self._take_targets(truth.columns, truth.units)

    def set_up_for(self, data: Any) -> None:
        """Takes the names of the targets."""
        self.truth = data.truth

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the names of the targets with the weights."""
        checkpoint["targets"] = list(self.targets)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the names of the targets that the weights are for, and builds the network for them.

        Raises:
            RunError: The checkpoint does not tell them, or the data name others.
        """
        targets = checkpoint.get("targets")
        if not isinstance(targets, list) or not targets or not all(isinstance(name, str) for name in targets):
            raise RunError("A checkpoint does not tell its targets: it is damaged. Train the fold again.")
        if self.targets and tuple(targets) != self.targets:
            raise RunError(
                f"The weights are for the targets {', '.join(targets)}, and data.targets names "
                f"{', '.join(self.targets)}. Set data.targets as it was in training."
            )
        if not self.targets:
            self._take_targets(targets)
        self.configure_model()

    def configure_model(self) -> None:
        """Builds the network if its targets are known; `load_from_checkpoint` asks before it tells them."""
        if self.targets or self._trainer is not None:
            super().configure_model()

    def make_network(self, backbone: Backbone) -> RegressionNetwork:
        """Backbone, one vector of all tiles, head."""
        head = TraitHead(
            num_features=backbone.num_features,
            hidden=self.hidden,
            dropout=self.dropout,
            parts=self.parts,
            non_negative=self.non_negative,
        )
        pool = AttentionPool(backbone.num_features) if self.pool == "attention" else MeanPool()
        return RegressionNetwork(backbone=backbone, pool=pool, head=head)

    def check_data(self, data: Any) -> None:
        """Refuses a fold that teaches nothing of a target, and negative numbers where there are to be none.

        Raises:
            ConfigError: Names the target.
            FoldError: A target was measured on none of the training photos, or is the same on all.
        """
        super().check_data(data)
        for target, values in zip(self.targets, data.training_targets().T, strict=True):
            known = values[~np.isnan(values)]
            if len(known) < 2 or np.ptp(known) == 0:
                raise FoldError(
                    f"Fold {data.split.fold} trains on {len(known)} photo(s) with a value of '{target}', not two that "
                    "differ. Lower data.num_folds, give folds as data.fold_csv, or leave the target out."
                )
            if self.non_negative and known.min() < 0:
                raise ConfigError(
                    f"model.non_negative is true, and '{target}' is {known.min():g} for a photo. Set it to false, or "
                    "correct the table."
                )

    def start_from(self, data: Any) -> None:
        """Takes means and spreads of the targets in the training fold."""
        super().start_from(data)
        self.network.head.start_at(torch.tensor(data.training_targets()))

    def score(self, kept: Mapping[str, np.ndarray]) -> dict[str, float]:
        """`mean_r2` and `r2_<target>`."""
        truth, prediction = kept["target"], kept["prediction"]
        scores = {"mean_r2": mean_r2(truth, prediction, np.array(self._weights()))}
        columns = zip(self.targets, truth.T, prediction.T, strict=True)
        return scores | {f"r2_{target}": target_scores(true, predicted)["r2"] for target, true, predicted in columns}

    def step(self, batch: dict[str, Any]) -> StepOutput:
        """Loss and numbers of a labelled batch."""
        network = self.network
        prediction = network.head(network.pooled(self.features(batch)))
        loss = standardised_loss(
            prediction,
            batch["target"],
            spreads=network.head.spreads,
            weights=torch.tensor(self._weights(), device=prediction.device),
            name=self.loss,
        )
        return StepOutput(losses={"regression": loss}, outputs={"prediction": prediction})

    def predict_columns(self, features: Tensor) -> dict[str, Tensor]:
        """Numbers under `<target>_pred`, float64: sums are exact in the table as well."""
        head = self.network.head
        numbers = head.added_up(head.parts(self.network.pooled(features)).cpu().double()).unbind(dim=1)
        return {predicted_column(target): column for target, column in zip(self.targets, numbers, strict=True)}

    def _take_targets(self, targets: Sequence[str], units: Sequence[str] = ()) -> None:
        weights = self.target_weights
        if weights is not None and (len(weights) != len(targets) or min(weights) < 0 or sum(weights) <= 0):
            raise ConfigError(
                f"model.target_weights is {weights}; give {len(targets)} weights, one for each of data.targets, none "
                "below 0, not all 0."
            )
        self.parts = parts_of(targets, self.sums)
        self.targets = tuple(targets)
        self.report = RegressionReport(
            targets=targets,
            units=units,
            weights=weights,
            sums=self.parts.of_sums(targets),
            at_least=0.0 if self.non_negative else None,
        )

    def _weights(self) -> list[float]:
        return self.target_weights or [1.0] * len(self.targets)
