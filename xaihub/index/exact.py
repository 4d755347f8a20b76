"""Exact search, without any further library."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xaihub.index.places import EVERYWHERE, Found, Spans, Where, checked, class_spans, in_spans, size, spans
from xaihub.index.rounding import OftenRead
from xaihub.index.scanning import FEW, TOGETHER, candidates, scan, scan_weighted
from xaihub.index.scoring import WEIGHED_EXACTLY, exact_cosines, pool, ranked, stacked

__all__ = ["ExactIndex"]

MANY = 65_536  # rows from which reading them takes most of a search's time


class ExactIndex:
    """Rows in memory, or in a file that is mapped into it; a class is one slice, read once.

    All rows that the search may find are scored fast; those whose score could still be among the k best are scored
    again from float64 (`scanning.candidates`), so the answer is that of plain loops, ties included. Of many rows, those
    that single queries read often get a rounded copy in memory, half as large (`rounding.OftenRead`). Searches may run
    at once in several threads.

    Args:
        vectors: (R, K) float16 or float32, rows of length one (up to half precision) or zero. Of float32 ones a half
            precision copy is made to be read first.
        predicted: (R,) class indices, ascending.
        weighed_exactly: a weighted search that may find more rows than this looks only at the
            max(50, 10 k) best of them by plain cosine (docs/EXAMPLES.md), and is exact among these.

    Raises:
        ValueError: the shapes or the order do not fit.
    """

    def __init__(
        self, vectors: Tensor, predicted: NDArray[np.int64], *, weighed_exactly: int = WEIGHED_EXACTLY
    ) -> None:
        if vectors.ndim != 2 or vectors.dtype not in (torch.float16, torch.float32) or len(vectors) != len(predicted):
            given = f"{tuple(vectors.shape)} {vectors.dtype} with {len(predicted)} classes"
            raise ValueError(f"An index takes vectors (R, K) float16 or float32 and R classes, not {given}.")
        self._vectors = vectors.detach()
        self._read_first = self._vectors.half()  # itself, if it is half precision already
        self._often_read = OftenRead(self._read_first) if len(vectors) >= MANY else None
        self.classes = class_spans(np.asarray(predicted))
        self.weighed_exactly = weighed_exactly

    def __len__(self) -> int:
        return len(self._vectors)

    def __repr__(self) -> str:
        return f"ExactIndex({len(self):,} rows of {self.width} {self._vectors.dtype}, {len(self.classes)} classes)"

    @property
    def width(self) -> int:
        """K."""
        return self._vectors.shape[1]

    def vectors(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """See `VectorIndex.vectors`."""
        return self.stored(np.asarray(rows, dtype=np.int64)).float()

    def stored(self, rows: NDArray[np.int64]) -> Tensor:
        """(n, K) as they are stored."""
        return torch.from_numpy(self._vectors.numpy()[rows])

    def search(self, queries: Tensor, k: int, where: Where = EVERYWHERE, *, weights: Tensor | None = None) -> Found:
        """See `VectorIndex.search`."""
        units, weighing = checked(queries, k, weights, self.width)
        return self.search_spans(units, k, spans(self.classes, where), where.leave_out, weighing)

    def search_spans(
        self, units: Tensor, k: int, places: Spans, leave_out: Sequence[int] | NDArray[np.int64], weights: Tensor | None
    ) -> Found:
        """`search` of what `places.checked` gave, in some slices of the rows."""
        out = in_spans(leave_out, places)
        k_found = min(k, size(places) - len(out))
        if not k_found:
            return stacked(len(units), k, lambda _: (out[:0], np.zeros(0, np.float32)))
        if weights is not None and size(places) > self.weighed_exactly:
            rows, _ = self.search_spans(units, pool(k), places, out, None)
            found = [self._weighed(rows[query], k, units[query], weights) for query in range(len(units))]
        else:
            found = []
            for start in range(0, len(units), TOGETHER):
                found += self._together(units[start : start + TOGETHER], k_found, places, out, weights)
        return stacked(len(units), k, found.__getitem__)

    def _weighed(self, rows: NDArray[np.int64], k: int, unit: Tensor, weights: Tensor) -> Found:
        rows = rows[rows >= 0]
        return ranked(rows, exact_cosines(self.stored, rows, unit, weights), k)

    def _together(
        self, units: Tensor, k: int, places: Spans, out: NDArray[np.int64], weights: Tensor | None
    ) -> list[Found]:
        """The k best, or as many as there are, for each of a few queries."""
        found = [(out[:0], np.zeros(0, np.float32)) for _ in units]
        for start, end in places:
            left_out = in_spans(out, [(start, end)])
            most = min(k, end - start - len(left_out))
            if not most:
                continue
            for query, some in enumerate(self._likely(start, end, units, most, left_out, weights)):
                values = exact_cosines(self.stored, some, units[query], weights)
                rows_so_far, values_so_far = found[query]
                found[query] = ranked(np.append(rows_so_far, some), np.append(values_so_far, values), k)
        return found

    def _likely(
        self, start: int, end: int, units: Tensor, k: int, left_out: NDArray[np.int64], weights: Tensor | None
    ) -> list[NDArray[np.int64]]:
        """For each query the rows (m,) from `start` to `end` that may be among the k best, by a fast score."""
        if weights is None and self._often_read is not None and len(units) <= FEW:
            return [self._often_read.likely(start, end, unit, k, left_out) for unit in units]
        if weights is None:
            scores, errors = scan(self._read_first[start:end], units)
        else:
            scores, errors = scan_weighted(self._vectors[start:end], units, weights)
        scores[:, torch.from_numpy(left_out - start)] = -torch.inf
        return [start + candidates(of_query, k, error) for of_query, error in zip(scores, errors.tolist(), strict=True)]
