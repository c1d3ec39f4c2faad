"""A linear probe during a training: fitted anew now and then, scored on held-out items, kept in checkpoints."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from biomass_pl.data.base import FoldDataModule
from biomass_pl.errors import DataError, RunError
from biomass_pl.evaluation.probe import LinearProbe, fit_class_probe, fit_value_probe, mean_r2

VECTOR, ROW = "vector", "row"
"""What is kept of items: their feature vectors (items, D), and their numbers in the table of all items (items,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownItems:
    """The truth of labelled items as numbers.

    Args:
        rows: Number of each item by its name.
        values: Class numbers (items,), or values (items, columns).
        classes: Names of the classes in order; none where there are values.
    """

    rows: Mapping[str, int]
    values: np.ndarray
    classes: tuple[str, ...] = ()

    def rows_of(self, names: Sequence[str]) -> Tensor:
        """Numbers of items (B,)."""
        return torch.tensor([self.rows[name] for name in names])

    def truth_of(self, kept: Mapping[str, np.ndarray]) -> np.ndarray:
        """Truth of what was kept of items."""
        return np.asarray(self.values[kept[ROW].astype(int)])


def known_items(data: FoldDataModule, columns: Sequence[str], *, classes: bool) -> KnownItems:
    """What the data module knows of its labelled items.

    Args:
        data: The data module.
        columns: Columns of their table with the truth.
        classes: Whether the first column holds classes; otherwise all hold values.

    Raises:
        DataError: A value is missing.
    """
    rows = {str(name): row for row, name in enumerate(data.names())}
    truth = data.items()[list(columns)]
    lacking = truth.isna()
    if lacking.any(axis=None):
        incomplete = ", ".join(map(str, truth.columns[lacking.any()]))
        raise DataError(
            f"{lacking.any(axis=1).sum()} {data.item_noun}(s) lack {incomplete}, which the linear probe of "
            "pre-training needs of all. Leave their rows out, and give the photos as model.unlabelled."
        )
    if not classes:
        return KnownItems(rows=rows, values=truth.to_numpy(dtype=np.float64))
    numbers, names = pd.factorize(truth.iloc[:, 0], sort=True)
    return KnownItems(rows=rows, values=np.asarray(numbers), classes=tuple(map(str, names)))


@dataclass(kw_only=True)
class ProbeState:
    """The newest linear probe and the scores so far.

    Not a part of the network: what is done to weights, such as averaging them, must not touch it.

    Args:
        classes: Names of the classes in order; none where the probe predicts values.
        probe: The linear model; nothing is known before it is fitted.
        epochs: Finished epochs at the newest probe, its own among them; 0: there was none in training.
        score: Its accuracy, or mean R2 of the columns, on held-out items; NaN where it is not defined.
        untrained: The same before training.
    """

    classes: tuple[str, ...] = ()
    probe: LinearProbe = field(default_factory=lambda: LinearProbe(weight=np.empty((0, 0)), bias=np.empty(0)))
    epochs: int = 0
    score: float = math.nan
    untrained: float = math.nan

    def outputs(self, vectors: Tensor) -> Tensor:
        """Logits or values of feature vectors (B, D), float64 on the CPU."""
        return torch.from_numpy(self.probe.outputs(vectors.detach().cpu().double().numpy()))

    def fitted_score(
        self, trained: Mapping[str, np.ndarray], held_out: Mapping[str, np.ndarray], known: KnownItems
    ) -> float:
        """Fits the linear model anew on some items, and scores it on others.

        Args:
            trained: What was kept of items to fit it on.
            held_out: What was kept of items to score it on.
            known: Truth of all.
        """
        vectors, truth = trained[VECTOR], known.truth_of(trained)
        self.classes = known.classes
        self.probe = (
            fit_class_probe(vectors, truth, len(self.classes)) if self.classes else fit_value_probe(vectors, truth)
        )
        outputs, truth = self.probe.outputs(held_out[VECTOR]), known.truth_of(held_out)
        if not self.classes:
            return mean_r2(truth, outputs)
        # Infinite are the logits of classes that no training item is of.
        return math.nan if np.isnan(outputs).any() else float(np.mean(outputs.argmax(axis=1) == truth))

    def to_checkpoint(self) -> dict[str, Any]:
        """As tensors and plain values."""
        return {
            "classes": list(self.classes),
            "weight": torch.from_numpy(self.probe.weight),
            "bias": torch.from_numpy(self.probe.bias),
            "epochs": self.epochs,
            "score": self.score,
            "untrained": self.untrained,
        }

    @staticmethod
    def from_checkpoint(entry: Any) -> "ProbeState":
        """What `to_checkpoint` gave.

        Raises:
            RunError: It is something else.
        """
        try:
            weight, bias = entry["weight"].numpy(), entry["bias"].numpy()
            state = ProbeState(
                classes=tuple(map(str, entry["classes"])),
                probe=LinearProbe(weight=weight, bias=bias),
                epochs=int(entry["epochs"]),
                score=float(entry["score"]),
                untrained=float(entry["untrained"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError("A checkpoint holds no linear probe: it is damaged. Train the fold again.") from error
        return state


def mean_vectors(features: Tensor) -> Tensor:
    """Mean feature vectors (B, D) of items, each of one or several tiles (B, ..., D)."""
    return features.reshape(len(features), -1, features.shape[-1]).mean(dim=1)
