"""Predictions of a run of `trainer.predict`, as a table and arrays."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from biomass_pl.training.task import PredictOutput


class PredictionTable(Callback):
    """Collects what `predict_step` returns, a row per id.

    An id comes more than once when an item is predicted in several views: `mean_rows` merges them.

    Args:
        id_column: What the column of ids is called.
        arrays: Whether to keep the arrays as well.
    """

    def __init__(self, *, id_column: str, arrays: bool) -> None:
        self.id_column = id_column
        self.keeps_arrays = arrays
        self._outputs: list[PredictOutput] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts anew."""
        self._outputs = []

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
        columns = {name: _as_list(column) for name, column in outputs.columns.items()}
        arrays = outputs.arrays if self.keeps_arrays else {}
        on_cpu = {name: array.detach().float().cpu() for name, array in arrays.items()}
        self._outputs.append(PredictOutput(ids=list(outputs.ids), columns=columns, arrays=on_cpu))

    def table(self) -> pd.DataFrame:
        """The ids and the predicted columns, in the order of prediction."""
        parts = [pd.DataFrame({self.id_column: output.ids, **output.columns}) for output in self._outputs]
        return mean_rows(pd.concat(parts, ignore_index=True), self.id_column)

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays (rows of the table, ...), float32."""
        places, ids = pd.factorize(pd.Series([name for output in self._outputs for name in output.ids]))
        names = self._outputs[0].arrays if self._outputs else ()
        return {
            name: _means(np.concatenate([output.arrays[name].numpy() for output in self._outputs]), places, len(ids))
            for name in names
        }


def mean_rows(rows: pd.DataFrame, id_column: str) -> pd.DataFrame:
    """One row per id, in the order in which they come first: the mean of numbers, the first of texts.

    Args:
        rows: Predictions, several for an id.
        id_column: What the column of ids is called.
    """
    how = {
        name: "mean" if pd.api.types.is_numeric_dtype(rows[name]) else "first" for name in rows.columns.drop(id_column)
    }
    return rows.groupby(id_column, sort=False).agg(how).reset_index()


def _as_list(column: Any) -> list[Any]:
    if isinstance(column, torch.Tensor):
        return list(column.detach().cpu().to(torch.float64).tolist())
    return list(column)


def _means(rows: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """Mean of the rows that belong to one place, float32."""
    sums = np.zeros((count, *rows.shape[1:]), dtype=np.float32)
    np.add.at(sums, places, rows)
    counts = np.bincount(places).astype(np.float32)
    means: np.ndarray = sums / counts.reshape(-1, *[1] * (rows.ndim - 1))
    return means
