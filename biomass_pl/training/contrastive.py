"""Contrastive learning: the loss of SimCLR over all processes, and two measures of what it makes of the vectors."""

import torch
from torch import Tensor
from torch.nn import functional

from biomass_pl.training.gather import from_all_processes

_UNIFORMITY_SCALE = 2.0
"""Factor of the squared distances; that of the publication."""


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy (Chen et al. 2020, SimCLR, equation 1).

    Every view must tell the other view of its photo from all other views of the batch, the other views of its own
    kind among them. Vectors without any skill give ln(2B - 1) for B photos.

    Where several processes train together, the views of all of them are compared: each process gets the mean over
    its own views, and gradients that are averaged over processes are those of one large batch.

    Args:
        first: Vectors of the first views (B, D), of any length; every process must bring as many.
        second: Vectors of the second views, in the same order.
        temperature: Divides the cosine similarities.

    Returns:
        The mean over the 2B views of this process.
    """
    with torch.autocast(first.device.type, enabled=False):  # half precision would round differences of similarities
        own = directions(torch.stack([first, second]))
        everywhere, position = from_all_processes(own, dim=1)
        own_views, all_views = own.flatten(end_dim=1), everywhere.flatten(end_dim=1)
        photos = position * len(first) + torch.arange(len(first), device=first.device)
        itself = torch.cat([photos, photos + everywhere.shape[1]])
        partner = torch.cat([photos + everywhere.shape[1], photos])
        similarity = own_views @ all_views.T / temperature
        others = similarity.scatter(1, itself.unsqueeze(1), float("-inf"))
        return functional.cross_entropy(others, partner)


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Squared distances (B,) between the normalised vectors of two views: 0 where they are the same.

    The measure of Wang and Isola (2020), before its mean, with their alpha of 2.

    Args:
        first: Vectors of the first views (B, D), of any length.
        second: Vectors of the second views.
    """
    return (directions(first) - directions(second)).square().sum(dim=-1)


def uniformity(vectors: Tensor) -> Tensor:
    """How evenly normalised vectors spread over the sphere, the lower the better: 0 where all are the same.

    The measure of Wang and Isola (2020) with their t of 2: the logarithm of the mean of exp(-2 d^2) over all pairs of
    different rows, also of other processes.

    Args:
        vectors: Vectors (B, D) of any length; every process must bring as many.

    Returns:
        The measure; NaN where there is no pair.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        rows = from_all_processes(directions(vectors.detach()))[0]
        earlier, later = torch.triu_indices(len(rows), len(rows), offset=1, device=rows.device)
        squared_distances = 2 - 2 * (rows @ rows.T)[earlier, later]
        return squared_distances.mul(-_UNIFORMITY_SCALE).exp().mean().log()


def directions(vectors: Tensor) -> Tensor:
    """Vectors (..., D) scaled to length 1, at least float32."""
    return functional.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)
