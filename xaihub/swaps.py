"""Patch swaps: cells of another picture put in the place of one's own, until the classifier says something else.

After Goyal et al., 2019 (arXiv:1904.07451), with cells that stay in their place and with every step asked of the
network itself on real pixels: a swap in feature space alone flips only a third of the pictures it is pasted into.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from xaihub.passes import slices
from xaihub.progress import Progress, silent
from xaihub.records import Box

__all__ = ["Candidate", "Flip", "boxes_of", "changed", "composite", "lengths", "numbers", "smallest_flip", "swap_order"]

Ask = Callable[[Sequence[Image.Image]], Tensor]

FEATHER = 2  # pixels on each side of a seam
LEVELS = 64  # numbers of cells that are tried at first; of finer grids every second one, or fewer


@dataclass(frozen=True, eq=False)
class Candidate:
    """A picture that cells may come from.

    Attributes:
        picture: its crop, as large as the query's.
        order: (n,) all cells, the one that promises most first, as `swap_order` gives them.
        target: the class that the composite should be called.
    """

    picture: Image.Image
    order: Tensor
    target: int


@dataclass(frozen=True, eq=False)
class Flip:
    """A composite that the classifier calls the target.

    Attributes:
        candidate: which one its cells come from.
        swapped: (h, w) bool.
        picture: what the classifier was asked about, pixel by pixel.
        before, after: (C,) logits of the picture without and with the swap.
    """

    candidate: int
    swapped: NDArray[np.bool_]
    picture: Image.Image
    before: Tensor
    after: Tensor

    @property
    def cells(self) -> int:
        return int(self.swapped.sum())


def swap_order(own: Tensor, theirs: Tensor) -> Tensor:
    """(n,) cells by what taking each from the other picture does for the target in feature space, best first.

    Args:
        own: (h, w), each cell's evidence for the target rather than the query's class. `theirs`: of the other picture.
    """
    return (theirs - own).flatten().argsort(descending=True, stable=True)


def lengths(cells: int, levels: int = LEVELS) -> list[int]:
    """How many cells are swapped, step by step; never all, for another picture explains nothing of this one."""
    step = max(1, -(-(cells - 1) // levels))
    return list(range(step, cells, step))


def numbers(steps: Sequence[int]) -> str:
    """Numbers of cells (as `lengths` gives them) in words: "1 to 23", or "7, 14, 21 and so on to 434"."""
    if len(steps) < 2 or steps[1] - steps[0] == 1:
        return f"{steps[0]} to {steps[-1]}" if len(steps) > 1 else f"{steps[0]}"
    return f"{', '.join(map(str, steps[:3]))} and so on to {steps[-1]}"


def composite(picture: Image.Image, other: Image.Image, swapped: NDArray[np.bool_]) -> Image.Image:
    """The picture with some cells (h, w) of the other one, of the same size; the seams are feathered."""
    share = _feathered(swapped, (picture.height, picture.width))[..., None]
    ours, theirs = (np.asarray(image.convert("RGB"), dtype=np.float32) for image in (picture, other))
    return Image.fromarray((ours + share * (theirs - ours)).round().astype(np.uint8))


def boxes_of(swapped: NDArray[np.bool_], size: tuple[int, int]) -> tuple[Box, ...]:
    """The swapped cells (h, w) in the pixels of a picture of (width, height), neighbours as one rectangle.

    Runs along a row are one box, and runs that stand exactly below each other become one, too.
    """
    wide, high = size[0] / swapped.shape[1], size[1] / swapped.shape[0]
    open_runs: dict[tuple[int, int], int] = {}  # (first, last + 1) column -> the row it began in
    found: list[tuple[int, int, int, int]] = []
    for row in range(len(swapped) + 1):
        runs = set(_runs(swapped[row])) if row < len(swapped) else set()
        found += [(first, start, last, row) for (first, last), start in open_runs.items() if (first, last) not in runs]
        open_runs = {run: open_runs.get(run, row) for run in sorted(runs)}
    return tuple((left * wide, top * high, right * wide, bottom * high) for left, top, right, bottom in sorted(found))


def changed(picture: Image.Image, composed: Image.Image, swapped: NDArray[np.bool_]) -> float:
    """The mean change of a colour value, from 0 to 1, over the swapped cells (h, w)."""
    inside = _feathered(swapped, (picture.height, picture.width)) >= 0.5
    before, after = (np.asarray(image.convert("RGB"), dtype=np.float32) for image in (picture, composed))
    return float(np.abs(after - before)[inside].mean() / 255) if inside.any() else 0.0


def smallest_flip(
    picture: Image.Image,
    candidates: Sequence[Candidate],
    grid: tuple[int, int],
    ask: Ask,
    batch: int,
    progress: Progress = silent,
) -> tuple[Flip | None, int]:
    """The composite with the fewest cells, of those asked, that is called its candidate's target, and how many were.

    All candidates are tried with one cell, then with two, and so on: where several flip with equally many, the first
    of them wins. On fine grids (see `lengths`) only every few numbers are tried, and then those just below the first
    that flips: a smaller one further down is missed. The picture itself is asked first, through the same eight bits.

    Args:
        candidates: nearest first.
        ask: pictures -> logits (N, C) of the classifier.
        progress: told before each batch; what it raises ends the search.
    """
    cells = grid[0] * grid[1]
    steps = lengths(cells)
    jobs = [(0, 0), *((n, j) for n in steps for j in range(len(candidates)))]
    found, before, asked = _first_flip(picture, candidates, grid, ask, batch, jobs, progress)
    if found and steps[0] > 1:
        fewer = range(found.cells - steps[0] + 1, found.cells)
        jobs = [(n, j) for n in fewer for j in range(len(candidates))]
        finer, _, more = _first_flip(picture, candidates, grid, ask, batch, jobs, progress, before)
        found, asked = finer or found, asked + more
    return found, asked


def _first_flip(
    picture: Image.Image,
    candidates: Sequence[Candidate],
    grid: tuple[int, int],
    ask: Ask,
    batch: int,
    jobs: Sequence[tuple[int, int]],
    progress: Progress,
    before: Tensor | None = None,
) -> tuple[Flip | None, Tensor | None, int]:
    """The first of the jobs (cells, candidate) whose composite flips, the logits of no swap, and how many were asked.

    Args:
        before: logits (C,) of the picture itself, if no job of 0 cells asks for them.
    """
    asked = 0
    for some in (jobs[part] for part in slices(len(jobs), batch)):
        progress(asked / len(jobs), f"Patch swap: {some[0][0]} of {grid[0] * grid[1]} cells")
        masks = [_swapped(candidates[j], n, grid) for n, j in some]
        pictures = [composite(picture, candidates[j].picture, mask) for (_, j), mask in zip(some, masks, strict=True)]
        logits = ask(pictures).cpu()
        asked += len(some)
        for (n, j), mask, image, answer in zip(some, masks, pictures, logits, strict=True):
            if n == 0:
                before = answer
            elif before is not None and _flips(before, answer, candidates[j].target):
                return Flip(j, mask, image, before, answer), before, asked
    return None, before, asked


def _flips(before: Tensor, after: Tensor, target: int) -> bool:
    """The swap does it: called the target with it, and something else without."""
    return int(after.argmax()) == target != int(before.argmax())


def _swapped(candidate: Candidate, count: int, grid: tuple[int, int]) -> NDArray[np.bool_]:
    swapped = np.zeros(grid, dtype=bool)
    swapped.reshape(-1)[candidate.order[:count].cpu().numpy()] = True
    return swapped


def _feathered(swapped: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W), the share of the other picture: 1 within swapped cells, 0 far from them, a ramp across the seams."""
    places = torch.from_numpy(swapped)[None, None].float()
    mask = interpolate(places, size, mode="nearest-exact")
    wide = min(FEATHER, int(min(size[0] / swapped.shape[0], size[1] / swapped.shape[1])) // 4)
    blurred = avg_pool2d(pad(mask, (wide, wide, wide, wide), mode="replicate"), 2 * wide + 1, stride=1)
    return blurred[0, 0].numpy().astype(np.float32)


def _runs(row: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First and last + 1 of each run of true places."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
