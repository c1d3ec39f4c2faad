"""The scores of a whole validation epoch, gathered over batches and devices."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class EpochScores(Metric):
    """Keeps all predictions of an epoch and scores them together, as the out-of-fold table is scored.

    Args:
        score: Scores by name of truth and prediction, float64 with a row per photo.
    """

    full_state_update = False
    prediction: list[Tensor]
    target: list[Tensor]

    def __init__(self, *, score: Callable[[np.ndarray, np.ndarray], dict[str, float]]) -> None:
        super().__init__()
        self.score = score
        self.add_state("prediction", default=[], dist_reduce_fx="cat")
        self.add_state("target", default=[], dist_reduce_fx="cat")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Adds a batch, a row per photo."""
        self.prediction.append(prediction)
        self.target.append(target)

    def compute(self) -> dict[str, float]:
        """Scores of all batches so far."""
        return self.score(*(_on_cpu(state) for state in (self.target, self.prediction)))


def _on_cpu(batches: list[Tensor]) -> np.ndarray:
    # float64 exists on the CPU only: MPS has none.
    return dim_zero_cat(batches).detach().cpu().to(torch.float64).numpy()
