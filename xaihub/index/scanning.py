"""Fast approximate cosines of a query to many rows, with a bound on their error, so that no best row is lost.

One query is one half precision product, which takes as long as reading the rows once. Many queries share blocks of rows
that are widened while they lie in the cache.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xaihub.index.scoring import NOTHING

__all__ = ["FEW", "TOGETHER", "candidates", "scan", "scan_weighted"]

TOGETHER = 64  # queries that share one reading
FEW = 4  # up to here, a product for each query is faster than widening the rows
_BLOCK = 2_048  # rows widened at a time: 512 numbers of them are 4 MB
_GROUP = 64  # scores that are first looked at as one
_HALF = 2.0**-11  # what rounding to half precision changes, relatively
_SINGLE = 2.0**-24
_ROWS = 2.1 * _HALF  # the row moves by that much of its length once, and its length is then another by as much


def scan(rows: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (Q, n) of rows (n, K) to queries (Q, K) of length one, and how far (Q,) they may be from the cosine.

    A score is off by at most |q - half(q)| |row| (Cauchy-Schwarz), the rounding of K sums in float32, and that of the
    score; what rounding to half precision does to a row (`_ROWS`) comes on top.

    Args:
        rows: float16, rounded from rows of length one.
    """
    if len(units) > FEW or not _sums_in_single():
        return scan_widened(rows, units)
    half = units.half()
    scores = torch.stack([torch.mv(rows, query) for query in half])
    error = (units - half.double()).norm(dim=1)
    return scores, (1 + 2 * _HALF) * error + rows.shape[1] * 2 * _SINGLE + 1.1 * _HALF + _ROWS


@lru_cache
def _sums_in_single() -> bool:
    """Whether this machine's half precision product adds up in float32, which the bound needs; all known ones do."""
    row = torch.cat([torch.full((1024,), 32.0), torch.full((3072,), 0.03125)]).half()
    return float(torch.mv(row[None], torch.ones(4096).half())[0]) > 32_768 + 48  # half sums would stay at 32,768


def scan_widened(rows: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """`scan` in float32."""
    # Not bfloat16, though its product takes half the time: its bound is ten times as wide, so that thousands of rows
    # would be scored again where those of a class lie close together.
    single, wide = units.float().T.contiguous(), torch.empty(min(_BLOCK, len(rows)), rows.shape[1])
    scores = torch.empty(len(units), len(rows))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        scores[:, start : start + _BLOCK] = (wide[: len(block)].copy_(block) @ single).T
    bound = (rows.shape[1] + 8) * 4 * _SINGLE + _ROWS
    return scores, torch.full((len(units),), bound, dtype=torch.float64)


def scan_weighted(rows: Tensor, units: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """`scan` for the cosines of `query * w` and `row * w`.

    They are (q w^2) . row / (|q w| |row w|), and |row w|^2 = row^2 . w^2: nothing is weighed row by row.
    """
    weighted = units * weights
    lengths = weighted.norm(dim=1, keepdim=True)
    weighted = torch.where(lengths > NOTHING, weighted / lengths.clamp(min=NOTHING), 0.0)
    queries, squared = (weighted * weights).float().T.contiguous(), weights.square().float()
    scores = torch.empty(len(units), len(rows))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK].float()
        length = (block.square() @ squared).sqrt_()
        values = (block @ queries).T / length.clamp(min=NOTHING)
        scores[:, start : start + _BLOCK] = torch.where(length > NOTHING, values, 0.0)
    return scores, torch.full((len(units),), (rows.shape[1] + 8) * 4 * _SINGLE, dtype=torch.float64)


def candidates(scores: Tensor, k: int, error: float) -> NDArray[np.int64]:
    """The rows (m,) that may be among the k best of scores (n,), if each score is off by `error` at most.

    k rows score at least s, so the k best have cosines of s - error or more, and score s - 2 error or more.
    """
    values = scores.float().numpy()  # small steps in numpy: on a busy machine torch's threads wait for each other
    likely = np.flatnonzero(values >= _reached(values, k) - 2 * error)
    few = values[likely]
    return likely[few >= np.partition(few, -k)[-k] - 2 * error]


def _reached(values: NDArray[np.float32], k: int) -> float:
    """A score that at least k of them reach: the k-th largest of the groups' largest, which is found much faster."""
    groups = len(values) // _GROUP
    if groups >= 4 * k:
        values = values[: groups * _GROUP].reshape(_GROUP, groups).max(0)
    return float(np.partition(values, -k)[-k])
