"""What every index does, and which rows a search may find."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "EVERYWHERE",
    "Found",
    "Spans",
    "VectorIndex",
    "Where",
    "checked",
    "class_spans",
    "in_spans",
    "size",
    "spans",
]

Found = tuple[NDArray[np.int64], NDArray[np.float32]]  # (Q, k) rows, (Q, k) cosines
Spans = Sequence[tuple[int, int]]  # first row, and the row after the last


@dataclass(frozen=True)
class Where:
    """Which rows may be found; every index keeps to it exactly.

    Attributes:
        predicted: only rows of this predicted class.
        predicted_not: only rows of any other predicted class.
        leave_out: rows that are never found; ones that do not exist are ignored.
    """

    predicted: int | None = None
    predicted_not: int | None = None
    leave_out: Sequence[int] | NDArray[np.int64] = ()


EVERYWHERE = Where()


class VectorIndex(Protocol):
    """R rows of K numbers, each of length one, sorted by predicted class."""

    @property
    def width(self) -> int:
        """K."""

    def __len__(self) -> int: ...

    def search(self, queries: Tensor, k: int, where: Where = EVERYWHERE, *, weights: Tensor | None = None) -> Found:
        """The k rows with the largest cosine to each query, best first; of equals the lower row comes first.

        With weights w the cosine is that of `query * w` and `row * w` (docs/EXAMPLES.md: the evidence that the
        query's own class has in each). A vector of length zero has cosine 0 to everything.

        Args:
            queries: (Q, K), of any length.
            weights: (K,), for all of these queries.

        Returns:
            rows (Q, k) and cosines (Q, k); where there are fewer rows, -1 and minus infinity.

        Raises:
            ValueError: a shape does not fit, or a number is not finite.
        """

    def vectors(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """(n, K) float32, of length one up to half precision."""


def class_spans(predicted: NDArray[np.int64]) -> dict[int, tuple[int, int]]:
    """Predicted class -> its rows.

    Raises:
        ValueError: the rows are not sorted by class.
    """
    if predicted.ndim != 1 or (np.diff(predicted) < 0).any():
        raise ValueError("The rows of an index are sorted by predicted class; sort them, and the vectors alike.")
    classes, starts = np.unique(predicted, return_index=True)
    ends = [*starts[1:], len(predicted)]
    return {int(c): (int(a), int(b)) for c, a, b in zip(classes, starts, ends, strict=True)}


def spans(classes: Mapping[int, tuple[int, int]], where: Where) -> list[tuple[int, int]]:
    """The rows of the classes that may be found; neighbours as one, so "any other class" is two reads at most."""
    merged: list[tuple[int, int]] = []
    for label, (start, end) in classes.items():
        if label == where.predicted_not or where.predicted not in (None, label):
            continue
        if merged and merged[-1][1] == start:
            start = merged.pop()[0]
        merged.append((start, end))
    return merged


def in_spans(rows: Sequence[int] | NDArray[np.int64], places: Spans) -> NDArray[np.int64]:
    """Those of the rows that lie in the spans, ascending, each once."""
    given = np.unique(np.asarray(rows, dtype=np.int64))
    parts = [given[np.searchsorted(given, start) : np.searchsorted(given, end)] for start, end in places]
    return np.concatenate([*parts, given[:0]])


def size(places: Iterable[tuple[int, int]]) -> int:
    """How many rows the spans hold."""
    return sum(end - start for start, end in places)


def checked(queries: Tensor, k: int, weights: Tensor | None, width: int) -> tuple[Tensor, Tensor | None]:
    """Queries (Q, K) float64 of length one or zero, and weights (K,) float64 whose largest is one.

    Raises:
        ValueError: see `VectorIndex.search`.
    """
    if k < 0 or queries.ndim != 2 or queries.shape[1] != width:
        raise ValueError(f"This index takes queries (Q, {width}) and k >= 0, not {tuple(queries.shape)} and {k}.")
    if weights is not None and weights.shape != (width,):
        raise ValueError(f"Weights are one for each of the {width} numbers of a row, not {tuple(weights.shape)}.")
    queries = queries.detach().cpu().double()
    weights = None if weights is None else weights.detach().cpu().double()
    if not queries.isfinite().all() or (weights is not None and not weights.isfinite().all()):
        raise ValueError("A query or its weights hold numbers that are not finite, so nothing is nearest to it.")
    if weights is not None:
        weights = torch.nn.functional.normalize(weights, p=float("inf"), dim=0, eps=torch.finfo(torch.float64).tiny)
    return torch.nn.functional.normalize(queries, dim=1, eps=torch.finfo(torch.float64).tiny), weights
