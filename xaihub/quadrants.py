"""Whether maps are the right way up: where the picture changes, they must change most."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

__all__ = ["orientation", "quadrant_shares", "right_way_up"]

BALANCING = 20  # rounds of bringing rows and columns to a sum of one in turn (Sinkhorn, 1964)
CLEARLY = 1.05  # by how much a map's own quadrant must be ahead of the others


def quadrant_shares(maps_of: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """(4, 4), how much of the change in each quadrant of the maps (columns) each quadrant of the picture made (rows).

    Upper left, upper right, lower left, lower right. A quadrant of the picture is changed into its own negative,
    turned by 180 degrees: its mean and its contrast stay about the same, so what is pooled over the whole picture
    (squeeze and excitation, global attention) changes little. Rows and columns are brought to a sum of one: some
    quadrants of a picture hold more than others, and some places of a map change more whatever happens, such as
    those beside the padding; neither says where.

    Args:
        maps_of: pixels -> maps (N, K, h, w).
        pixels: (N, C, H, W), normalised to about zero mean.
    """
    before = maps_of(pixels)
    shares = torch.stack([_by_quadrant(maps_of(changed) - before) for changed in _changed(pixels)])
    for _ in range(BALANCING):
        shares = shares / shares.sum(0, keepdim=True)
        shares = shares / shares.sum(1, keepdim=True)
    return shares


def right_way_up(shares: Tensor) -> bool:
    """Whether each quadrant of the picture has its largest share in its own quadrant of the maps, and the reverse."""
    own = shares.diag()
    others = shares - torch.diag(own)
    return bool((own > CLEARLY * others.amax(0)).all() and (own > CLEARLY * others.amax(1)).all())


def orientation(shares: Tensor, grid: tuple[int, int]) -> Tensor | None:
    """(h * w,), which place of the image each place of the maps shows, both row by row; None if none is clear.

    Of the eight ways in which a grid can be flipped and transposed; a transposed one is known by its shape unless it
    is square.

    Args:
        shares: (4, 4), of `quadrant_shares`.
        grid: (h, w) of the maps.
    """
    for transposed, down, across in product((False, True), repeat=3):
        flips = [axis for axis, flipped in enumerate((down, across)) if flipped]

        def turned(height: int, width: int, flips: list[int] = flips, transposed: bool = transposed) -> Tensor:
            places = torch.arange(height * width).view(height, width).flip(flips)
            return (places.T if transposed else places).flatten()

        if (grid[0] == grid[1] or not transposed) and right_way_up(shares[:, turned(2, 2).argsort()]):
            return turned(*grid)
    return None


def _changed(pixels: Tensor) -> list[Tensor]:
    rows, columns = pixels.shape[-2] // 2, pixels.shape[-1] // 2
    changed = []
    for down in (slice(rows), slice(-rows, None)):
        for across in (slice(columns), slice(-columns, None)):
            copy = pixels.clone()
            copy[..., down, across] = -pixels[..., down, across].flip(-2, -1)
            changed.append(copy)
    return changed


def _by_quadrant(change: Tensor) -> Tensor:
    """(4,) mean absolute change; a middle row or column belongs to none."""
    places = change.abs().float().mean((0, 1)).cpu().double()  # (h, w); not every device has doubles
    rows, columns = places.shape[0] // 2, places.shape[1] // 2
    corners = [
        places[down, across].mean()
        for down in (slice(rows), slice(-rows, None))
        for across in (slice(columns), slice(-columns, None))
    ]
    return torch.stack(corners)
