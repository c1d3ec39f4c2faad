"""A large batch through networks in chunks that keep no activations."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_chunks(function: Callable[..., dict[str, Tensor]], *inputs: Tensor, chunks: int) -> dict[str, Tensor]:
    """Applies a function to chunks of a batch; gradients are those of the batch as a whole.

    In training a chunk keeps nothing for the backward pass but its inputs: its activations are computed again there,
    with the same dropout. So a loss over all items, such as a contrastive one, needs the memory of one chunk and the
    time of a second forward pass, and one backward pass is all there is.

    Args:
        function: Takes a chunk of each input, and treats its items one by one: batch normalisation would not.
        *inputs: Tensors (N, ...) of the same items.
        chunks: Number of chunks, of as many items each but for the last; 1 keeps activations as usual.

    Returns:
        What the function returns: a row per item, or a number, which is summed over the chunks.
    """
    if chunks == 1:
        return function(*inputs)
    parts = zip(*(tensor.chunk(chunks) for tensor in inputs), strict=True)
    if torch.is_grad_enabled():
        outputs = [checkpoint(function, *part, use_reentrant=False) for part in parts]
    else:
        outputs = [function(*part) for part in parts]
    return {name: _joined([output[name] for output in outputs]) for name in outputs[0]}


def _joined(values: list[Tensor]) -> Tensor:
    return torch.cat(values) if values[0].ndim else torch.stack(values).sum()
