"""Training photos of pasture, mixed with others of their kind."""

from typing import Any

import numpy as np
import torch

from biomass_pl.data.tiled_dataset import TiledDataset
from biomass_pl.pasture.mixing import MixingConfig, Partners, draw_mix

_ALIKE = ("species", "month", "state")
"""The classes that photos must share to be mixed."""


class MixedDataset(TiledDataset):
    """Photos as tiles, some of them mixed with another: an item depends on its possible partners as well.

    Args:
        mixing: How photos are mixed with each other.
        **kwargs: Settings of every dataset of photos cut into tiles.
    """

    def __init__(self, *, mixing: MixingConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mixing = mixing
        self._partners = Partners(np.array([[int(photo.labels[name]) for name in _ALIKE] for photo in self.photos]))

    def changed(self, position: int, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
        """Halves and labels of a photo, mixed with a partner's where it is drawn and there is one."""
        halves, labels = super().changed(position, rng)
        # Drawn after the photo's own changes: these stay what they are without mixing.
        mix = draw_mix(self.mixing, (halves.shape[1], halves.shape[2]), rng)
        partner_position = self._partners.draw(position, rng) if mix is not None else None
        if mix is None or partner_position is None:
            return halves, labels
        partner_halves, partner_labels = super().changed(partner_position, rng)
        target = mix.own_share * labels["target"] + (1 - mix.own_share) * partner_labels["target"]
        return mix.views(halves, partner_halves), {**labels, "target": target}
