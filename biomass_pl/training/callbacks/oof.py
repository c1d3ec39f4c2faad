"""Predictions of a run of `trainer.predict`, as a table."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class PredictionTable(Callback):
    """Collects what `predict_step` returns, a row per id; rows of one id are averaged.

    An id comes more than once when a photo is predicted in several views.

    Args:
        id_column: What the column of ids is called.
        embeddings: Whether to keep the embeddings as well.
    """

    def __init__(self, *, id_column: str, embeddings: bool) -> None:
        self.id_column = id_column
        self.keeps_embeddings = embeddings
        self._rows: list[dict[str, Any]] = []
        self._embeddings: list[np.ndarray] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts anew."""
        self._rows = []
        self._embeddings = []

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
        outputs = dict(outputs)
        embedding = outputs.pop("embedding")
        if self.keeps_embeddings:
            self._embeddings.append(embedding.detach().float().cpu().numpy())
        columns = {
            name: value.detach().cpu().to(torch.float64).tolist() if isinstance(value, torch.Tensor) else value
            for name, value in outputs.items()
        }
        self._rows += [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def table(self) -> pd.DataFrame:
        """The ids and the predicted columns, in the order of prediction."""
        rows = pd.DataFrame(self._rows).rename(columns={"id": self.id_column})
        return rows.groupby(self.id_column, sort=False).mean().reset_index()

    def embeddings(self) -> np.ndarray:
        """Embeddings (rows of the table, D), float32."""
        places, ids = pd.factorize(pd.Series([row["id"] for row in self._rows]))
        stacked = np.concatenate(self._embeddings)
        sums = np.zeros((len(ids), stacked.shape[1]), dtype=np.float32)
        np.add.at(sums, places, stacked)
        means: np.ndarray = sums / np.bincount(places)[:, None].astype(np.float32)
        return means
