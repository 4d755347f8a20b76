"""Hashes that differ in few bits, found among any number of them without comparing each with each; and groups.

Near hashes alone make no copies: all images have the same one in which nothing is brighter than its neighbour, and
images of few things on a plain ground have few. `same_content` compares the images themselves.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["BITS", "groups", "near_copies", "near_pairs"]

Hashes: TypeAlias = NDArray[np.uint64]
Pairs: TypeAlias = NDArray[np.int64]  # (P, 2), the lower index first

BITS = 4  # of 64 may differ: a JPEG of quality 30 or a half-size copy changes up to three, another picture about 30
_CHUNK = 2_000_000  # pairs compared at once


def near_pairs(hashes: Sequence[int] | Hashes, *, bits: int = BITS) -> Pairs:
    """All pairs of hashes that differ in at most so many bits, exactly: the same as comparing each with each.

    Of bits + 1 bands of the 64 bits, at least one is equal in both (the pigeonhole principle), so that only hashes
    which share a band are compared.

    Args:
        hashes: (N,), 64 bits each.

    Returns:
        (P, 2), in order, the lower index first.
    """
    values = np.asarray(hashes, dtype=np.uint64)
    found = [np.empty((0, 2), dtype=np.int64)]
    for band in _bands(values, bits + 1):
        for first, second in _sharing(band):
            close = np.bitwise_count(values[first] ^ values[second]) <= bits
            found.append(np.sort(np.stack([first[close], second[close]], axis=1), axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _bands(values: Hashes, count: int) -> Iterator[Hashes]:
    """The 64 bits of each value, cut into `count` parts."""
    edges = np.linspace(0, 64, count + 1).astype(int)
    for start, end in pairwise(edges):
        yield (values >> np.uint64(start)) & np.uint64((1 << int(end - start)) - 1)


def _sharing(band: Hashes) -> Iterator[tuple[Pairs, Pairs]]:
    """All pairs of places with equal values, many at a time."""
    order = np.argsort(band, kind="stable")
    ends = np.searchsorted(band[order], band[order], side="right")  # of the run of equal values each belongs to
    partners = ends - np.arange(len(band)) - 1  # of each: those after it in its run
    place = 0
    while place < len(band):
        upto = max(place + 1, int(np.searchsorted(np.cumsum(partners[place:]), _CHUNK)) + place)
        many = partners[place:upto]
        first = np.repeat(np.arange(place, upto), many)
        steps = np.arange(len(first)) - np.repeat(np.cumsum(many) - many, many)
        yield order[first], order[first + steps + 1]
        place = upto


def near_copies(
    hashes: Sequence[int] | Hashes, others: Sequence[int] | Hashes, *, bits: int = BITS
) -> list[tuple[int, int]]:
    """Pairs (place in `hashes`, place in `others`) that differ in at most so many bits."""
    together = np.concatenate([np.asarray(hashes, dtype=np.uint64), np.asarray(others, dtype=np.uint64)])
    pairs = near_pairs(together, bits=bits)
    across = pairs[(pairs[:, 0] < len(hashes)) & (pairs[:, 1] >= len(hashes))]
    return [(int(mine), int(theirs) - len(hashes)) for mine, theirs in across]


def groups(count: int, pairs: Iterable[Sequence[int]] | Pairs) -> list[list[int]]:
    """The places 0 to count - 1, put together with whatever they are paired with, over any number of steps.

    Groups come in the order of their first member; most have one.
    """
    parent = list(range(count))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for first, second in pairs:
        low, high = sorted((root(int(first)), root(int(second))))
        parent[high] = low
    found: dict[int, list[int]] = defaultdict(list)
    for place in range(count):
        found[root(place)].append(place)
    return list(found.values())
