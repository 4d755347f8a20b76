"""Means with 95 % intervals: pictures are drawn again and again, the same ones for every method (Efron, 1979)."""

from collections.abc import Hashable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["RESAMPLES", "means"]

Floats: TypeAlias = NDArray[np.float64]

RESAMPLES = 1000  # enough for two digits of a 95 % interval
_AT_ONCE = 100  # resamples that are in memory


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
    group = np.unique(_numbered(groups), return_inverse=True)[1]
    most = int(group.max()) + 1 if len(group) else 0
    generator = np.random.default_rng(seed)
    drawn = []
    for start in range(0, resamples if most else 0, _AT_ONCE):
        count = min(_AT_ONCE, resamples - start)
        often = generator.multinomial(most, np.full(most, 1 / most), size=count).astype(np.float64)[:, group]
        drawn.append(_divided(often @ filled, often @ counted))
    value = _divided(filled.sum(0), counted.sum(0))
    if not drawn:
        return np.stack([value, value, value])
    return np.stack([value, *_percentiles(np.concatenate(drawn))])


def _numbered(groups: Sequence[Hashable]) -> NDArray[np.int64]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(each, len(numbers)) for each in groups], dtype=np.int64)


def _divided(sums: Floats, counts: Floats) -> Floats:
    return np.divide(sums, counts, out=np.full(np.shape(sums), np.nan), where=counts > 0)


def _percentiles(drawn: Floats) -> tuple[Floats, Floats]:
    """Of each column; a resample that drew no known value says nothing."""
    low, high = np.full(drawn.shape[1], np.nan), np.full(drawn.shape[1], np.nan)
    some = np.isfinite(drawn).any(0)
    if some.any():
        low[some], high[some] = np.nanpercentile(drawn[:, some], [2.5, 97.5], axis=0)
    return low, high
