"""How sure a figure is, from how many were counted."""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interval", "Z", "bootstrapped", "wilson"]

Interval: TypeAlias = tuple[float, float]
Floats: TypeAlias = NDArray[np.float64]

Z = 1.959963984540054  # the normal quantile that leaves 2.5 % on either side


def wilson(hits: float, count: float) -> Interval:
    """Wilson's score interval (1927) of a proportion: unlike the textbook one it works at 0 and 1 as well."""
    if not count:
        return 0.0, 1.0
    share, z2 = hits / count, Z * Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return (low if hits else 0.0), (high if hits < count else 1.0)  # exact at both ends, whatever rounding says


def bootstrapped(measure: Callable[[Floats], Floats], count: int, *, resamples: int, seed: int) -> Floats:
    """(2, ...), the 2.5th and 97.5th percentiles of a measure over resamples of the pictures.

    Args:
        measure: weights (B, N), how often each picture was drawn, to values (B, ...).
    """
    generator = np.random.default_rng(seed)
    block = max(1, 4_000_000 // count)  # a few tens of megabytes at once
    values = [
        measure(generator.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64))
        for size in _blocks(resamples, block)
    ]
    return _percentiles(np.concatenate(values))


def _percentiles(values: Floats) -> Floats:
    """Of the resamples in which the measure was defined; NaN where it never was."""
    flat = values.reshape(len(values), -1)
    found = [column[~np.isnan(column)] for column in flat.T]
    ends = [np.percentile(column, [2.5, 97.5]) if len(column) else np.full(2, np.nan) for column in found]
    return np.stack(ends, axis=1).reshape(2, *values.shape[1:])


def _blocks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]
