"""What several processes exchange when they train together; alone, everything stays as it is."""

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def process_count() -> int:
    """Processes that train together."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if together else 1


def from_all_processes(vectors: Tensor, *, dim: int = 0, with_grad: bool = True) -> tuple[Tensor, int]:
    """Vectors of all processes, in the order of their ranks, and the rank of this one.

    Args:
        vectors: Vectors of this process; every process must bring as many, and all must call this.
        dim: Dimension along which they are joined.
        with_grad: Whether gradients flow back to the process that brought a vector, summed over all processes.
            Otherwise those of other processes are constants.

    Returns:
        The vectors, `processes` times as many along `dim`, and the rank.
    """
    count = process_count()
    if count == 1:
        return vectors, 0
    rank = torch.distributed.get_rank()
    if with_grad:
        gathered: tuple[Tensor, ...] = all_gather(vectors)  # type: ignore[no-untyped-call]
        return torch.cat(gathered, dim=dim), rank
    own = vectors.detach().contiguous()
    parts = [torch.empty_like(own) for _ in range(count)]
    torch.distributed.all_gather(parts, own)
    parts[rank] = vectors
    return torch.cat(parts, dim=dim), rank


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of a floating-point value over all processes, without gradient; all must call this."""
    mean = value.detach().clone()
    if process_count() > 1:
        torch.distributed.all_reduce(mean)
        mean /= process_count()
    return mean
