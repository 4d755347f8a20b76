"""The exact cosines of some rows, and their order: what every index ends with."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from xaihub.index.places import Found

__all__ = ["NOTHING", "WEIGHED_EXACTLY", "Rows", "cosines", "exact_cosines", "pool", "ranked", "stacked"]

NOTHING = 1e-15  # a weighted row this short beside the largest weight holds none of the evidence
WEIGHED_EXACTLY = 200_000  # rows up to which a weighted search reads all of them
_CHUNK = 16_384  # rows scored at a time


class Rows(Protocol):
    """Gives the vectors (n, K) of rows (n,)."""

    def __call__(self, rows: NDArray[np.int64]) -> Tensor: ...


def pool(k: int) -> int:
    """How many candidates of an approximate search are scored again for k results (docs/EXAMPLES.md)."""
    return max(50, 10 * k)


def cosines(vectors: Tensor, unit: Tensor, weights: Tensor | None) -> NDArray[np.float32]:
    """(n,) cosines of vectors (n, K) to a query (K,), weighted on both sides if there are weights (K,).

    Taken in float64 and rounded once, so that equal rows have equal cosines wherever they lie.
    """
    given, query = vectors.numpy().astype(np.float64), unit.numpy()
    if weights is not None:
        given, query = given * weights.numpy(), query * weights.numpy()
    lengths, length = np.sqrt((given**2).sum(1)), np.sqrt((query**2).sum())
    if length <= NOTHING:
        return np.zeros(len(given), np.float32)
    products = (given * (query / length)).sum(1)
    values = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > NOTHING)
    return values.astype(np.float32)


def exact_cosines(vectors: Rows, rows: NDArray[np.int64], unit: Tensor, weights: Tensor | None) -> NDArray[np.float32]:
    """(n,) `cosines` of rows (n,), some thousand at a time."""
    parts = [cosines(vectors(rows[i : i + _CHUNK]), unit, weights) for i in range(0, len(rows), _CHUNK)]
    return np.concatenate([*parts, np.zeros(0, np.float32)])


def ranked(rows: NDArray[np.int64], values: NDArray[np.float32], k: int) -> Found:
    """At most k rows, the largest value first and of equals the lower row."""
    order = np.lexsort((rows, -values))[:k]
    return rows[order], values[order]


def stacked(queries: int, k: int, one: Callable[[int], Found]) -> Found:
    """(Q, k) rows and cosines of searches for one query each; places that stay empty are -1 and minus infinity."""
    rows, values = np.full((queries, k), -1, np.int64), np.full((queries, k), -np.inf, np.float32)
    for query in range(queries):
        found, cosine = one(query)
        rows[query, : len(found)], values[query, : len(found)] = found, cosine
    return rows, values
