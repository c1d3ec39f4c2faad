"""Mixing of a batch's photos, and of their targets in the same proportion."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from biomass_pl.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class BatchMixing:
    """How the photos of a training batch are mixed: MixUp (Zhang et al. 2018) or CutMix (Yun et al. 2019).

    Each photo is mixed with the one before it in the batch. The share that it keeps is drawn from Beta(alpha, alpha),
    once for the batch; with CutMix it is the area outside of the box that was pasted. All draws are from PyTorch's
    generator for the CPU.

    Args:
        mixup_alpha: Beta parameter of MixUp; 0: no MixUp.
        cutmix_alpha: Beta parameter of CutMix; 0: no CutMix.
        probability: Share of the batches that are mixed, 0 to 1.
        switch_probability: Share of CutMix among these where both are on, 0 to 1.
    """

    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    probability: float = 1.0
    switch_probability: float = 0.5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.endswith("alpha") and not 0 <= value < math.inf:
                raise ConfigError(f"BatchMixing.{name} is {value}; give 0 (off) or more.")
            if name.endswith("probability") and not 0 <= value <= 1:
                raise ConfigError(f"BatchMixing.{name} is {value}; give a share from 0 to 1.")

    def mix(self, pixels: Sequence[Tensor], targets: Tensor) -> tuple[list[Tensor], Tensor, bool]:
        """Mixes a batch, if this one is to be.

        Args:
            pixels: What shows the same photos, such as colours and further bands: (B, channels, height, width) each,
                mixed in the same proportion and with the same box.
            targets: What is known of the photos (B, K), such as the shares of classes.

        Returns:
            The pixels, float32 where MixUp weighed whole numbers; the targets; and whether the batch was mixed.
            A batch of one is left alone.
        """
        transform = self._draw() if len(targets) > 1 else None
        if transform is None:
            return list(pixels), targets, False
        if isinstance(transform, v2.MixUp):
            pixels = [part if part.is_floating_point() else part.float() for part in pixels]
        # Of plain tensors the library would change the first alone.
        *mixed, shared = transform(*map(tv_tensors.Image, pixels), targets)
        return [part.as_subclass(Tensor) for part in mixed], shared, True

    def _draw(self) -> v2.MixUp | v2.CutMix | None:
        """What to do with the next batch."""
        is_mixed = bool(torch.rand(()) < self.probability)
        is_switched = bool(torch.rand(()) < self.switch_probability)
        if not is_mixed or self.mixup_alpha == self.cutmix_alpha == 0:
            return None
        # Targets come last: without being told, the library would take the first tensor for them.
        last = itemgetter(-1)
        if self.cutmix_alpha > 0 and (is_switched or self.mixup_alpha == 0):
            return v2.CutMix(alpha=self.cutmix_alpha, labels_getter=last)
        return v2.MixUp(alpha=self.mixup_alpha, labels_getter=last)


torch.serialization.add_safe_globals([BatchMixing])  # checkpoints of tasks made in Python hold one
