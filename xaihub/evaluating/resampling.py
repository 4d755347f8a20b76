"""Means with 95 % intervals: pictures are drawn again and again, the same ones for every method (Efron, 1979)."""

from collections.abc import Hashable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from xaihub.intervals import bootstrapped

__all__ = ["RESAMPLES", "means"]

Floats: TypeAlias = NDArray[np.float64]

RESAMPLES = 1000  # enough for two digits of a 95 % interval


def means(values: Floats, groups: Sequence[Hashable], *, seed: int = 0, resamples: int = RESAMPLES) -> Floats:
    """(3, Q): the mean of each of Q columns, and the 2.5th and 97.5th percentile of it over resamples of the pictures.

    What is not a number is left out of its column, and a column of nothing else has no mean. All columns see the same
    resamples, so the interval of a difference is had from a column of differences.

    Args:
        values: (N, Q).
        groups: (N,), equal for rows of one photograph, which are drawn together: two questions about one picture are
            no two pictures.
    """
    known = np.isfinite(values)
    filled, counted = np.where(known, values, 0.0), known.astype(np.float64)
    group = _numbered(groups)
    value = _divided(filled.sum(0), counted.sum(0))
    if not len(group):
        return np.stack([value, value, value])

    def measure(often: Floats) -> Floats:
        each = often[:, group]
        return _divided(each @ filled, each @ counted)

    return np.stack([value, *bootstrapped(measure, int(group.max()) + 1, resamples=resamples, seed=seed)])


def _numbered(groups: Sequence[Hashable]) -> NDArray[np.int64]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(each, len(numbers)) for each in groups], dtype=np.int64)


def _divided(sums: Floats, counts: Floats) -> Floats:
    return np.divide(sums, counts, out=np.full(np.shape(sums), np.nan), where=counts > 0)
