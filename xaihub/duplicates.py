"""Pictures that are the same, or nearly: found among any number of them without comparing each with each.

Two pictures are near copies when the 64 bits of `images.perceptual_hash` differ in few places *and* small versions of
them look alike. The bits alone would call all flat pictures the same, since no cell is brighter than its neighbour.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["BITS", "confirmed", "groups", "near_copies", "near_pairs", "small"]

Hashes: TypeAlias = NDArray[np.uint64]
Pairs: TypeAlias = NDArray[np.int64]  # (P, 2), the lower index first

BITS = 4  # of 64 may differ: a JPEG of quality 30 or a half-size copy changes up to three, another picture about 30
_EDGE = 16  # pixels of the small versions
_TOLERANCE = 10.0  # of 255, on average: saving as JPEG changes 1 to 3, another photograph of the same scene 15 or more
_CHUNK = 2_000_000  # pairs compared at once


def small(picture: Image.Image) -> NDArray[np.uint8]:
    """(16, 16, 3): a version small enough to keep for each of a hundred thousand pictures."""
    return np.asarray(picture.convert("RGB").resize((_EDGE, _EDGE), Image.Resampling.BOX))


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


def confirmed(pairs: Pairs, pictures: NDArray[np.uint8], *, tolerance: float = _TOLERANCE) -> Pairs:
    """The pairs whose small versions differ by at most `tolerance` of 255 on average.

    Args:
        pairs: (P, 2).
        pictures: (N, 16, 16, 3), by `small`.
    """
    kept = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(pairs), _CHUNK // 100):
        some = pairs[start : start + _CHUNK // 100]
        difference = np.abs(pictures[some[:, 0]].astype(np.int16) - pictures[some[:, 1]])
        kept.append(some[difference.mean((1, 2, 3)) <= tolerance])
    return np.concatenate(kept)


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
