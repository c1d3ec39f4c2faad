"""The image tower alone, for programs that have only torch."""

import torch
from torch import Tensor, nn

from biomass_pl.errors import ConfigError
from biomass_pl.slide.coca import SlideCaptioner
from biomass_pl.slide.poolers import ImageEncoding
from biomass_pl.training.export import Exportable, Input


class ImageTower(nn.Module):
    """Embedding (B, E) of bags and, where there is a decoder, the memory (B, L, E) that it attends to.

    Args:
        tower: The tower.
        has_memory: Whether there is a decoder.
    """

    def __init__(self, tower: nn.Module, *, has_memory: bool) -> None:
        super().__init__()
        self.tower = tower
        self.has_memory = has_memory

    def forward(self, features: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
        """The outputs for bags (B, N, D) of which the vectors where `valid` (B, N) count."""
        # Not as a call, which may be compiled.
        encoding: ImageEncoding = self.tower.forward(features, valid)
        return (encoding.embedding, encoding.memory) if self.has_memory else (encoding.embedding,)


def exportable_tower(network: SlideCaptioner, *, input_dim: int) -> Exportable:
    """The image tower of a network.

    Args:
        network: In eval mode.
        input_dim: Length D of the vectors of a bag.

    Raises:
        ConfigError: It has none.
    """
    if network.image is None:
        raise ConfigError("This network is a language model without an image tower; there is nothing to export.")
    tower = ImageTower(network.image, has_memory=network.decoder is not None)
    return Exportable(
        module=tower,
        inputs={
            "features": Input(
                shape=("bags", "vectors", input_dim),
                dtype=torch.float32,
                meaning="feature vectors as they are in the data, in any order, padded with zeros to the longest bag",
            ),
            "valid": Input(
                shape=("bags", "vectors"),
                dtype=torch.bool,
                meaning="true where there is a vector; at least one in each bag",
            ),
        },
        outputs=["embedding", "memory"] if tower.has_memory else ["embedding"],
        about={
            "normalisation": "none: vectors go in as they are, and embeddings are not of unit length",
            "similarity_scale": network.logit_scale.exp().item(),
        },
    )
