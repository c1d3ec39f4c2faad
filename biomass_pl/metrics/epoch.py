"""The scores of a whole validation epoch, gathered over batches and devices."""

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from biomass_pl.metrics.r2 import mean_r2, target_scores, weighted_r2


class EpochScores(Metric):
    """Keeps all predictions of an epoch and scores them together, as the out-of-fold table is scored."""

    full_state_update = False
    prediction: list[Tensor]
    target: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("prediction", default=[], dist_reduce_fx="cat")
        self.add_state("target", default=[], dist_reduce_fx="cat")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Adds a batch of grams (B, 5)."""
        self.prediction.append(prediction)
        self.target.append(target)

    def compute(self) -> dict[str, float]:
        """`weighted_r2`, `mean_r2` and `r2_<target>` of all batches so far."""
        truth, prediction = (_on_cpu(state) for state in (self.target, self.prediction))
        scores = {"weighted_r2": weighted_r2(truth, prediction), "mean_r2": mean_r2(truth, prediction)}
        per_target = target_scores(truth, prediction)
        return scores | {f"r2_{target}": values["r2"] for target, values in per_target.items()}


def _on_cpu(batches: list[Tensor]) -> np.ndarray:
    # float64 exists on the CPU only: MPS has none.
    return dim_zero_cat(batches).detach().cpu().to(torch.float64).numpy()
