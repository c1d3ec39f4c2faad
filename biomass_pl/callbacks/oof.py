"""Predictions of a run of `trainer.predict`, as a table."""

from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class PredictionTable(Callback):
    """Collects what `predict_step` returns, a row per id; rows of one id are averaged.

    An id comes more than once when a photo is predicted in several views.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts anew."""
        self._rows = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the rows of a batch."""
        columns = {
            name: value.detach().cpu().to(torch.float64).tolist() if isinstance(value, torch.Tensor) else value
            for name, value in outputs.items()
        }
        self._rows += [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def table(self) -> pd.DataFrame:
        """`image_id` and the predicted columns, in the order of prediction."""
        rows = pd.DataFrame(self._rows).rename(columns={"id": "image_id"})
        return rows.groupby("image_id", sort=False).mean().reset_index()
