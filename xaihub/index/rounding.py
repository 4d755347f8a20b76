"""Rows that are read often, as whole numbers of eight bits: half as much to read as in half precision.

A half precision product of one query takes a quarter longer than reading its rows, and that of whole numbers less than
reading them (docs/BENCHMARKS.md). How far a row may be from what it is rounded to is known, so no best row is lost.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xaihub.index.scanning import candidates, scan

__all__ = ["OftenRead", "product_of_numbers"]

BLOCK = 65_536  # rows that are rounded together: 512 numbers of them are 32 MB
_OFTEN = 8  # readings before a block is rounded, which takes as long as forty
_AT_ONCE = 4_096  # rows that are widened at a time for it: 512 numbers of them are 8 MB
_WHOLE = 64  # the product reads that many numbers of a row at once, and beyond the row if there are fewer
_AGAIN = 512  # rows that lie closer together than whole numbers tell: so many are looked at once more
_BRAIN = 2.0**-9  # what rounding to bfloat16 changes, relatively
_SINGLE = 2.0**-24


@dataclass(frozen=True)
class _Block:
    """`scales[i] * numbers[i]` is the i-th row, but for a difference whose length is `error` at most."""

    numbers: Tensor  # (n, K) int8, with zeros up to a whole number of `_WHOLE`
    scales: Tensor  # (n,) bfloat16
    error: float


class OftenRead:
    """Finds the rows that may be nearest to one query. Searches may run at once in several threads.

    A block of rows that was read a few times gets a rounded copy, one block a search at most: who searches once neither
    waits for a copy nor has the memory for it taken, half of what the rows take.

    Args:
        rows: (R, K) float16, of length one (up to half precision) or zero.
    """

    def __init__(self, rows: Tensor, *, block: int = BLOCK, often: int = _OFTEN) -> None:
        self._rows, self._size, self._often = rows, block, often
        self._readings = np.zeros(-(-len(rows) // block), np.int64)
        self._blocks: dict[int, _Block] = {}

    def likely(self, start: int, end: int, unit: Tensor, k: int, left_out: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows (m,) of those from `start` to `end`: every one that may be among the k nearest to a query (K,).

        Args:
            left_out: rows of these that are not to be found; k others are left at least.
        """
        scores, error = self._scores(start, end, unit)
        scores[torch.from_numpy(left_out - start)] = -torch.inf
        some = start + candidates(scores, k, error)
        if len(some) <= _AGAIN:
            return some
        if len(some) > (end - start) // 16:  # taking them out of the others takes longer than reading all again
            some = np.setdiff1d(np.arange(start, end), left_out, assume_unique=True)
            finer, errors = scan(self._rows[start:end], unit[None])
            return some[candidates(finer[0, torch.from_numpy(some - start)], k, float(errors[0]))]
        finer, errors = scan(torch.from_numpy(self._rows.numpy()[some]), unit[None])
        return some[candidates(finer[0], k, float(errors[0]))]

    def _scores(self, start: int, end: int, unit: Tensor) -> tuple[Tensor, float]:
        """Scores (n,) of the rows from `start` to `end`, and how far from the cosine they may be.

        With q the query, b what bfloat16 makes of it and r' the rounded row, b . r' differs from q . r by at most
        |q - b| |r| + |b| |r - r'| (Cauchy-Schwarz), the rounding of a sum of K, and that of the score.
        """
        brain = unit[None].bfloat16()
        filled = torch.nn.functional.pad(brain, (0, _missing(len(unit))))
        narrowed = float((unit - brain[0]).norm()) + len(unit) * 2 * _SINGLE + 1.1 * _BRAIN
        scores, worst, may_round = torch.empty(end - start), 0.0, product_of_numbers()
        for place in range(start // self._size, -(-end // self._size)):
            first = place * self._size
            low, high = max(start, first), min(end, first + self._size)
            self._readings[place] += 1
            if may_round and place not in self._blocks and self._readings[place] > self._often:
                self._blocks[place] = _rounded(self._rows[first : first + self._size])
                may_round = False  # the next one in another search
            if block := self._blocks.get(place):
                some = slice(low - first, high - first)
                scores[low - start : high - start] = _product(filled, block.numbers[some], block.scales[some])[0]
                worst = max(worst, 1.01 * (narrowed + block.error))
            else:
                found, errors = scan(self._rows[low:high], unit[None])
                scores[low - start : high - start] = found[0]
                worst = max(worst, float(errors[0]))
        return scores, worst


def _rounded(rows: Tensor) -> _Block:
    count, width = rows.shape
    numbers = torch.zeros(count, width + _missing(width), dtype=torch.int8)
    scales = torch.empty(count, dtype=torch.bfloat16)
    error = 0.0
    for start in range(0, count, _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        wide = rows[some].float()
        scale = (wide.abs().amax(1) * (1 + 4 * _BRAIN) / 127).bfloat16()  # a little more, so that 127 is enough
        step = scale.float().clamp(min=torch.finfo(torch.float32).tiny)[:, None]
        whole = (wide / step).round_()
        numbers[some, :width], scales[some] = whole.to(torch.int8), scale
        error = max(error, float((wide - whole * step).norm(dim=1).max()))
    return _Block(numbers, scales, error)


def _missing(width: int) -> int:
    return -width % _WHOLE


def _product(query: Tensor, numbers: Tensor, scales: Tensor) -> Tensor:
    """(1, n) bfloat16 products of a query (1, K) and rows. No public function of torch takes rows as they lie."""
    found: Tensor = torch._weight_int8pack_mm(query, numbers, scales)
    return found


@lru_cache
def product_of_numbers() -> bool:
    """Whether this torch has that product, and adds up in float32, which the bound needs."""
    numbers = torch.cat([torch.full((1024,), 64), torch.full((3072,), 1)]).to(torch.int8)[None]
    try:
        found = _product(torch.ones(1, 4096).bfloat16(), numbers, torch.ones(1).bfloat16())
    except (AttributeError, RuntimeError):
        return False
    return abs(float(found[0, 0]) - (1024 * 64 + 3072)) <= 256  # bfloat16 sums would stay at 65,536
