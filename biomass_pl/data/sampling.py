"""Which items an epoch draws and in which order: a function of the seed and the epoch alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Sampler


@dataclass(frozen=True, kw_only=True)
class EpochOrder:
    """How the items of a training epoch are chosen and ordered.

    Args:
        indices: Gives the indices of an epoch from its generator; some items may be left out.
        block_size: Neighbours that must stay in one batch: processes take turns by so many.
    """

    indices: Callable[[np.random.Generator], np.ndarray]
    block_size: int = 1


class EpochSampler(Sampler[tuple[int, int]]):
    """Hands out (index, epoch), so that an item can draw from a generator of its own.

    The order depends on the seed and the epoch alone. Lightning calls `set_epoch` before every epoch but the first
    one after resuming, whose iterator it has made by then: hence `first_epoch`. Several processes take turns in that
    order, so that together they see the batches of one.

    Args:
        length: Number of items.
        order: How the items of an epoch are drawn; none takes all as they come.
        seed: Seed of the order.
        first_epoch: Epoch of the first pass.
        shared: Whether the processes of a training share the items out; otherwise each has all.
    """

    def __init__(
        self, *, length: int, order: EpochOrder | None, seed: int, first_epoch: int = 0, shared: bool = True
    ) -> None:
        self.length = length
        self.order = order
        self.seed = seed
        self.shared = shared
        self.epoch = first_epoch

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._own_share())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch  # of this pass, whatever is set while it lasts
        return ((int(index), epoch) for index in self._own_share())

    def _own_share(self) -> np.ndarray:
        indices = np.arange(self.length)
        if self.order is not None:
            indices = self.order.indices(np.random.default_rng([self.seed, self.epoch]))
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        if not (self.shared and together):
            return indices
        rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
        if self.order is None:
            return indices[rank::processes]
        # Training steps wait for each other: the first items fill up the last turn.
        turn = processes * self.order.block_size
        filled = np.resize(indices, -(-len(indices) // turn) * turn)
        return filled.reshape(-1, processes, self.order.block_size)[:, rank].ravel()


def shuffled(length: int) -> EpochOrder:
    """All items, in another order every epoch."""
    return EpochOrder(indices=lambda rng: rng.permutation(length))
