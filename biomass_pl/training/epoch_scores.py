"""What the scores of a whole epoch need, gathered over batches and devices."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class EpochOutputs(Metric):
    """Keeps named tensors of all batches of an epoch, so that they are scored together, as a table is.

    Args:
        names: What is kept; every update brings all of it, a row per item.
    """

    full_state_update = False

    def __init__(self, *, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        for name in self.names:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, outputs: Mapping[str, Tensor]) -> None:
        """Adds a batch."""
        for name in self.names:
            getattr(self, name).append(outputs[name])

    def compute(self) -> dict[str, np.ndarray]:
        """All rows so far, float64."""
        return {name: _on_cpu(getattr(self, name)) for name in self.names}


def _on_cpu(batches: list[Tensor]) -> np.ndarray:
    # float64 exists on the CPU only: MPS has none.
    return dim_zero_cat(batches).detach().cpu().to(torch.float64).numpy()
