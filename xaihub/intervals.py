"""How sure a share is, from how many were counted."""

import math
from typing import TypeAlias

__all__ = ["Interval", "wilson"]

Interval: TypeAlias = tuple[float, float]

_Z = 1.959963984540054  # the normal quantile that leaves 2.5 % on either side


def wilson(hits: float, count: float) -> Interval:
    """Wilson's score interval (1927) of a proportion: unlike the textbook one it works at 0 and 1 as well."""
    if not count:
        return 0.0, 1.0
    share, z2 = hits / count, _Z * _Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return (low if hits else 0.0), (high if hits < count else 1.0)  # exact at both ends, whatever rounding says
