"""What cells are compared by: their vectors, whitened, with the directions that classes differ in made longer.

Letters: N pictures, K channels, h x w cells, d dimensions of a compared vector, C classes.
"""

import torch
from torch import Tensor

__all__ = ["as_cells", "class_metric"]

_CELLS = 50_000  # more do not change the covariance of some hundred channels
_RANK = 1e-6  # of the largest variance: a direction with less is rounding


def class_metric(
    maps: Tensor,
    shares: Tensor,
    directions: Tensor | None,
    *,
    width: int,
    shrinkage: float,
    boost: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The linear map of a cell's channels, (d, K) and (d,), after which cosines are compared; and what speaks for each
    class in a cell, (C, K).

    Principal axes scaled to equal variance (whitening), then the subspace in which the classes differ is stretched by
    1 + boost: two cells are alike if they look alike and speak for the same class.

    Args:
        maps: (N, K, h, w).
        shares: (N, C), the probability of each class.
        directions: (C, K), the rows of a linear head over mean maps; None: where the pictures' mean maps differ most
            between classes and least within them (linear discriminant analysis with shrinkage).
        width: the most dimensions that are kept.
        shrinkage: of the mean variance, added to each before it is divided by.
        boost: 0 for none.
    """
    cells = as_cells(maps)
    middle = cells.mean(0)
    axes, variances = _principal(cells[:: -(-len(cells) // _CELLS)] - middle, width)
    scales = (variances + shrinkage * variances.mean()).sqrt()
    white = axes / scales  # (K, d)
    if directions is None:
        along = _discriminants((maps.mean((2, 3)) - middle) @ white, shares.to(maps), shrinkage)
        telling = along @ white.T
    else:
        telling = directions.to(maps) - directions.to(maps).mean(0)
        along = telling @ (axes * scales)  # of white coordinates
    basis = _basis(along)  # (d, r)
    stretched = white + boost * (white @ basis) @ basis.T
    return stretched.T.contiguous(), -(middle @ stretched), telling


def as_cells(maps: Tensor) -> Tensor:
    """(N * h * w, K) of maps (N, K, h, w): picture by picture, row by row."""
    return maps.movedim(1, -1).flatten(0, 2)


def _principal(centred: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The axes (K, d) along which the cells differ most, and their variances (d,)."""
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
    kept = int((variances > _RANK * variances[-1]).sum().clamp(1, width))
    return axes[:, -kept:], variances[-kept:].clamp_min(torch.finfo(variances.dtype).tiny)


def _discriminants(vectors: Tensor, shares: Tensor, shrinkage: float) -> Tensor:
    """(C, d), the rows of a linear discriminant analysis of vectors (N, d) whose classes are known by shares (N, C)."""
    sizes = shares.sum(0)
    centres = shares.T @ vectors / sizes.clamp_min(torch.finfo(shares.dtype).tiny)[:, None]
    centres = torch.where(sizes[:, None] > 0, centres, vectors.mean(0))  # a class without pictures differs in nothing
    within = vectors - shares @ centres
    spread = within.T @ within / len(vectors)
    level = shrinkage * spread.diagonal().mean() + torch.finfo(spread.dtype).eps
    return torch.linalg.solve(spread + level * torch.eye(len(spread)).to(spread), (centres - centres.mean(0)).T).T


def _basis(along: Tensor) -> Tensor:
    """(d, r), an orthonormal basis of what rows (C, d) span."""
    _, lengths, rows = torch.linalg.svd(along, full_matrices=False)
    return rows[lengths > 1e-4 * lengths.max().clamp_min(torch.finfo(lengths.dtype).tiny)].T
