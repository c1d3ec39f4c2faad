"""A linear probe as a part of a network: fitted anew, scored, kept in checkpoints, and predicting like a head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from biomass_pl.data.base import FoldDataModule, Truth
from biomass_pl.evaluation.probe import fit_class_probe, fit_value_probe, mean_r2


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


def known_items(data: FoldDataModule, truth: Truth) -> KnownItems:
    """What the data module knows of its labelled items.

    Args:
        data: The data module.
        truth: Which of their columns are meant.
    """
    rows = {str(name): row for row, name in enumerate(data.names())}
    columns = data.items()[list(truth.columns)]
    if truth.kind == "values":
        return KnownItems(rows=rows, values=columns.to_numpy(dtype=np.float64))
    numbers, classes = pd.factorize(columns.iloc[:, 0], sort=True)
    return KnownItems(rows=rows, values=np.asarray(numbers), classes=tuple(map(str, classes)))


class LinearProbe(nn.Module):
    """The newest linear model on features that are not changed for it, and the scores so far.

    Args:
        num_features: Length of a feature vector.
        outputs: Classes, or columns of values.
    """

    weight: Tensor
    bias: Tensor
    epochs: Tensor
    score: Tensor
    untrained: Tensor

    def __init__(self, *, num_features: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((outputs, num_features), torch.nan))
        self.register_buffer("bias", torch.full((outputs,), torch.nan))
        self.register_buffer("epochs", torch.tensor(0))  # finished ones at the newest probe, its own among them
        self.register_buffer("score", torch.tensor(torch.nan))
        self.register_buffer("untrained", torch.tensor(torch.nan))

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits or values (B, outputs) of feature vectors (B, D), float64 on the CPU."""
        return vectors.cpu().double() @ self.weight.cpu().double().T + self.bias.cpu().double()

    def fit(self, trained: Mapping[str, np.ndarray], known: KnownItems) -> None:
        """Replaces the linear model by one of these items.

        Args:
            trained: Their `vector` (items, D), and `row` (items,), their numbers.
            known: Their truth.
        """
        truth = known.values[trained["row"].astype(int)]
        if known.classes:
            fitted = fit_class_probe(trained["vector"], truth, len(known.classes))
        else:
            fitted = fit_value_probe(trained["vector"], truth)
        self.weight.copy_(torch.from_numpy(fitted.weight))
        self.bias.copy_(torch.from_numpy(fitted.bias))

    def score_on(self, held_out: Mapping[str, np.ndarray], known: KnownItems) -> float:
        """Accuracy, or mean R2 of the columns, on other items; NaN where it is not defined.

        Args:
            held_out: Their `vector` and `row`.
            known: Their truth.
        """
        truth = known.values[held_out["row"].astype(int)]
        outputs = self(torch.from_numpy(held_out["vector"])).numpy()
        if not known.classes:
            return mean_r2(truth, outputs)
        # Infinite are the outputs of classes without training photos.
        return float("nan") if np.isnan(outputs).any() else float(np.mean(outputs.argmax(axis=1) == truth))


def mean_vectors(features: Tensor) -> Tensor:
    """Mean feature vectors (B, D) of items, each of one or several tiles (B, ..., D)."""
    return features.reshape(len(features), -1, features.shape[-1]).mean(dim=1)
