"""Missing pixels filled in from those around them: ROAD's noisy linear imputation, for many masks at once.

Each missing pixel is the weighted mean of its eight neighbours (Rong et al., 2022, arXiv:2202.00449), so
all of them are one sparse linear system a mask. It is solved by conjugate gradients (Hestenes & Stiefel, 1952) with a
multigrid cycle as preconditioner (Tatebe, 1993): about ten steps whatever the size of the hole, where plain conjugate
gradients need hundreds. It needs no sparse factorisation, runs where the pixels are, and is exact to a tenth of the
noise that is added.

Letters: N pictures with a mask each; `missing` is 1 where a pixel is to be filled in.
"""

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from xaihub.passes import slices

__all__ = ["NOISE", "imputed"]

Offset = tuple[int, int]

AROUND: tuple[Offset, ...] = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
BESIDE, ACROSS = 1 / 6, 1 / 12  # the weight of a neighbour at an edge, and of one at a corner

NOISE = 0.01  # its deviation, on preprocessed pixels, as in the published procedure
EXACT = 0.002  # how far a filled pixel may be from the exact solution
MOST = 60  # steps; ten are enough for a map of any grain
COARSEST = 8  # pixels a side: there a few sweeps reach everywhere
SWEEPS = 4
TOGETHER = 3  # masks at once on a processor: what is computed stays in its cache


class _Level(NamedTuple):
    """The system on one grid.

    Attributes:
        weights: (8, N, 1, H, W) to each of the eight neighbours, where both are missing.
        held: (N, 1, H, W), the weight to pixels that are there.
        total: (N, 1, H, W), the sum of both: the system's diagonal.
        inverse: 1 / total where a pixel is missing, else 0.
    """

    weights: Tensor
    held: Tensor
    total: Tensor
    inverse: Tensor


def imputed(pixels: Tensor, missing: Tensor, noise: Tensor | None = None) -> Tensor:
    """(N, 3, H, W), the pixels with each missing one as the weighted mean of its neighbours, plus noise.

    Without noise a network could see from the smoothness where something is missing. At the picture's edges the
    neighbours that are there share the weight.

    Args:
        pixels: (N, 3, H, W), preprocessed.
        missing: (N, H, W) bool.
        noise: (N, 3, H, W), added where pixels are missing.
    """
    size = TOGETHER if pixels.device.type == "cpu" else max(1, len(pixels))
    filled = [_filled(pixels[some], missing[some, None].float()) for some in slices(len(pixels), size)]
    return torch.cat(filled) + (0 if noise is None else noise * missing[:, None])


def _filled(pixels: Tensor, missing: Tensor) -> Tensor:
    """(N, 3, H, W) without noise."""
    height, width = pixels.shape[2:]
    depth = 0
    while min(height, width) / 2**depth > COARSEST:
        depth += 1
    margins = (0, -width % 2**depth, 0, -height % 2**depth)  # beyond the picture nothing is missing, nor counts
    inside = pad(torch.ones_like(missing[:1]), margins)
    missing, known = pad(missing, margins), pad(pixels * (1 - missing), margins)
    levels = [_finest(missing, inside)]
    for _ in range(depth):
        levels.append(_coarser(levels[-1]))
    wanted = missing * _around(known)
    return (known + _solved(levels, wanted))[:, :, :height, :width]


def _finest(missing: Tensor, inside: Tensor) -> _Level:
    weights = torch.stack([_weight(offset) * missing * _beside(missing, offset) for offset in AROUND])
    held = missing * _around(inside - missing)
    return _level(weights, held)


def _coarser(level: _Level) -> _Level:
    """The system between blocks of 2 x 2 pixels: what connects two blocks is summed.

    A slope over blocks is spread over twice the length, so their connections are halved, else corrections from the
    coarse grid would be half of what they should be. What holds a block to the pixels that are there is not: the
    distance to these stays.
    """
    weights = torch.zeros_like(level.weights[..., ::2, ::2])
    for fine, (down, right) in enumerate(AROUND):
        for row, column in product((0, 1), repeat=2):
            block = (row + down) // 2, (column + right) // 2
            if block != (0, 0):
                weights[AROUND.index(block)] += level.weights[fine, ..., row::2, column::2] / 2
    return _level(weights, _blocks(level.held))


def _level(weights: Tensor, held: Tensor) -> _Level:
    total = weights.sum(0) + held
    return _Level(weights, held, total, torch.where(total > 0, 1 / total.clamp_min(1e-12), 0))


def _solved(levels: list[_Level], wanted: Tensor) -> Tensor:
    """(N, 3, H, W), the solution by preconditioned conjugate gradients, each channel of each picture by itself."""
    found, rest = torch.zeros_like(wanted), wanted.clone()
    corrected = _cycle(levels, rest)
    along, size = corrected.clone(), _dot(rest, corrected)
    for _ in range(MOST):
        moved = _applied(levels[0], along)
        step = size / _dot(along, moved).clamp_min(1e-30)
        found.addcmul_(step, along)
        rest.addcmul_(step, moved, value=-1)
        corrected = _cycle(levels, rest)  # nearly what is still missing of the solution
        if float(corrected.abs().max()) < EXACT:
            return found + corrected
        before, size = size, _dot(rest, corrected)
        along = corrected.addcmul(size / before.clamp_min(1e-30), along)
    return found


def _cycle(levels: list[_Level], rest: Tensor) -> Tensor:
    """About the solution for what is left over: a sweep, the same on the coarser grid, and a sweep again."""
    level = levels[0]
    found = level.inverse * rest
    if len(levels) == 1:
        for _ in range(SWEEPS):
            found.addcmul_(level.inverse, rest - _applied(level, found))
        return found
    coarse = _cycle(levels[1:], _restricted(rest - _applied(level, found)) * (levels[1].total > 0))
    found += _prolonged(coarse) * (level.total > 0)
    return found.addcmul_(level.inverse, rest - _applied(level, found))


def _applied(level: _Level, values: Tensor) -> Tensor:
    """The system's matrix times the values."""
    padded, height, width = pad(values, (1, 1, 1, 1)), values.shape[2], values.shape[3]
    result = level.total * values
    for (down, right), weights in zip(AROUND, level.weights, strict=True):
        window = padded[:, :, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        result.addcmul_(weights, window, value=-1)
    return result


def _prolonged(coarse: Tensor) -> Tensor:
    """Bilinear to twice the size, half-pixel centres."""
    return interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)


def _restricted(fine: Tensor) -> Tensor:
    """The transpose of `_prolonged`: the preconditioner must be symmetric."""
    for axis in (2, 3):
        pairs = fine.unflatten(axis, (-1, 2))
        first, second = pairs.select(axis + 1, 0), pairs.select(axis + 1, 1)
        fine, last = (first + second) * 0.75, first.shape[axis] - 1
        fine.narrow(axis, 0, last).add_(first.narrow(axis, 1, last), alpha=0.25)
        fine.narrow(axis, 1, last).add_(second.narrow(axis, 0, last), alpha=0.25)
        fine.narrow(axis, 0, 1).add_(first.narrow(axis, 0, 1), alpha=0.25)  # at an edge the place itself is repeated
        fine.narrow(axis, last, 1).add_(second.narrow(axis, last, 1), alpha=0.25)
    return fine


def _blocks(values: Tensor) -> Tensor:
    return values.unflatten(-1, (-1, 2)).sum(-1).unflatten(-2, (-1, 2)).sum(-2)


def _beside(values: Tensor, offset: Offset) -> Tensor:
    """Of each pixel the value of the neighbour at that offset; zero beyond the edge."""
    down, right = offset
    return pad(values, (1, 1, 1, 1)).roll((-down, -right), (-2, -1))[..., 1:-1, 1:-1]


def _around(values: Tensor) -> Tensor:
    """The weighted sum of each pixel's neighbours."""
    return torch.stack([_weight(offset) * _beside(values, offset) for offset in AROUND]).sum(0)


def _weight(offset: Offset) -> float:
    return BESIDE if 0 in offset else ACROSS


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum((-2, -1), keepdim=True)
