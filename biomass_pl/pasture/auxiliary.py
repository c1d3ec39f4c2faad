"""State, month and species of a photo: heads that guess them, and what a guess says of its grams."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from biomass_pl.pasture.targets import CLOVER, DEAD, TARGETS

CLASSES: Mapping[str, int] = MappingProxyType({"state": 4, "month": 10, "species": 8})
"""Number of classes of each auxiliary head; a class number of -1 is unknown."""

LABEL_SMOOTHING = 0.1

_UNKNOWN = -1

_CONTEXTS = {DEAD: ("state", "month"), CLOVER: ("state", "species")}
"""The classes that say something of each adjusted target."""


class AuxiliaryHeads(nn.Module):
    """Guesses classes of a photo; what they need to know keeps the vector from fitting grams by chance.

    Args:
        hidden: Length of the input vector.
        dropout: Dropout rate, 0 to 1.
        names: Which heads to make, of `CLASSES`.
    """

    def __init__(self, *, hidden: int, dropout: float, names: Iterable[str]) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: _class_layers(hidden, CLASSES[name], dropout) for name in names})
        for name in self.heads:
            self.register_buffer(_weights(name), torch.ones(CLASSES[name]))

    def forward(self, hidden: Tensor) -> dict[str, Tensor]:
        """Logits (B, classes), float32, of each head from vectors (B, hidden)."""
        return {name: head(hidden).float() for name, head in self.heads.items()}

    def weigh_classes(self, codes: Mapping[str, Tensor]) -> None:
        """Weighs each class by its inverse frequency: mean 1 over the classes that are there, 0 for the others.

        Args:
            codes: Class numbers of the training fold for each head.
        """
        for name in self.heads:
            counts = _members(codes[name], CLASSES[name]).sum(dim=0)
            weights = torch.where(counts > 0, 1 / counts, 0.0)
            self.get_buffer(_weights(name)).copy_(weights * (counts > 0).sum() / weights.sum())

    def losses(self, logits: Mapping[str, Tensor], codes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of each head over the photos whose class the training fold knows; 0 without any.

        Args:
            logits: What `forward` gives.
            codes: Class numbers (B,) for each head.
        """
        return {name: _cross_entropy(logits[name], codes[name], self.get_buffer(_weights(name))) for name in self.heads}


class ContextAdjustment(nn.Module):
    """Moves Dead and Clover towards what is usual where and when a photo seems to be taken.

    A factor says how much of a target a class has, compared with all photos. Without `estimate` all are 1.
    """

    def __init__(self) -> None:
        super().__init__()
        for target, names in _CONTEXTS.items():
            for name in names:
                self.register_buffer(_factors(target, name), torch.ones(CLASSES[name]))

    def estimate(self, grams: Tensor, codes: Mapping[str, Tensor]) -> None:
        """Sets the factors: mean of the target in the class / its mean over all photos.

        A class without photos, or a target that is always 0, gets 1.

        Args:
            grams: Targets (photos, 5) of the training fold, NaN where unknown.
            codes: Class numbers (photos,) of the training fold: `state`, `month`, `species`.
        """
        for target, names in _CONTEXTS.items():
            is_known = ~grams[:, target].isnan()
            values = grams[:, target] if is_known.all() else grams[is_known, target]
            overall = values.mean()  # NaN, which is not above 0, where nothing is known
            for name in names:
                members = _members(codes[name][is_known], CLASSES[name])
                counts = members.sum(dim=0)
                means = (members * values[:, None]).sum(dim=0) / counts
                known = (counts > 0) & (overall > 0)
                self.get_buffer(_factors(target, name)).copy_(torch.where(known, means / overall, 1.0))

    def forward(self, grams: Tensor, logits: Mapping[str, Tensor]) -> Tensor:
        """Grams (B, 5) whose Dead and Clover are half their own, half adjusted.

        Args:
            grams: Predictions (B, 5).
            logits: Logits (B, classes) of `state`, `month` and `species`.
        """
        adjusted = grams.clone()
        for target, names in _CONTEXTS.items():
            product = torch.ones_like(grams[:, target])
            for name in names:
                factors = self.get_buffer(_factors(target, name))
                product = product * (logits[name].softmax(dim=-1) * factors).sum(dim=-1)
            adjusted[:, target] = grams[:, target] * (1 + product.sqrt()) / 2
        return adjusted


def _factors(target: int, name: str) -> str:
    return f"{TARGETS[target]}_by_{name}"


def _weights(name: str) -> str:
    return f"{name}_weights"


def _class_layers(hidden: int, classes: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(hidden, hidden // 2), nn.GELU(), nn.Dropout(dropout / 2), nn.Linear(hidden // 2, classes)
    )


def _members(codes: Tensor, classes: int) -> Tensor:
    """One row per photo with a 1 at its class, none where that is unknown."""
    return (codes[:, None] == torch.arange(classes, device=codes.device)).float()


def _cross_entropy(logits: Tensor, codes: Tensor, weights: Tensor) -> Tensor:
    # A class that the training fold does not have cannot be guessed; its photos are left out as well.
    taught = (codes != _UNKNOWN) & (weights[codes.clamp(min=0)] > 0)
    targets = torch.where(taught, codes, _UNKNOWN)
    summed = F.cross_entropy(
        logits, targets, weight=weights, ignore_index=_UNKNOWN, label_smoothing=LABEL_SMOOTHING, reduction="sum"
    )
    # The mean that F.cross_entropy takes itself is 0 / 0 in a batch without a known class.
    total_weight = (weights[codes.clamp(min=0)] * taught).sum()
    return summed / torch.where(total_weight > 0, total_weight, 1.0)
