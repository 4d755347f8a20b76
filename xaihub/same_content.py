"""Pairs of images with the same content: one is the other's file written again, resized, cropped a little or framed.

An image's content is where it differs from its ground, the median colour. A mean over the whole image would call all
images alike in which the ground dominates: dots, cells, digits, products on white. So two images are compared by their
*largest* local difference, in colour and as a share of their contrast, after one is moved and scaled onto the other.

How small that must be is judged on the images themselves. Two grey images with one dot each are brought to coincide by
any small crop, and radiographs of two people differ little. So both bounds are lowered until fewer than one pair of
these images is expected to meet them by chance:

- the distance that content may move, by a decoy: images moved further than any crop, where all matches are chance;
- the largest difference, by how the number of pairs just above it falls towards it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import shake_256
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xaihub.duplicates import groups

__all__ = ["EDGE", "copies_by_sketch", "expected_below", "same_content", "sketches", "small"]

Pairs: TypeAlias = NDArray[np.int64]  # (P, 2), the lower index first
Floats: TypeAlias = NDArray[np.float32]

EDGE = 16  # cells along each side of the small versions
_DIFFERENCE = 0.2  # of the contrast: JPEG of quality 30 gives 0.03, a 5 % crop 0.1; other photographs at least 0.27
_MOVED = 0.06  # of an edge: a crop of 5 % from one side moves the other side by 0.05
_LEAST_DIFFERENCE, _LEAST_MOVED = 0.01, 0.006  # however much looks alike: what rounding and saving as JPEG leave
_CHANCE = 0.5  # pairs expected by chance
_STEP = 1.5  # between the bounds that the pairs above a bound are counted in
_POWER = 3  # times as many at least in each ring as in the one below
_ALIKE = 0.8  # cosine of coarse contents: of a photograph and a 5 % crop of it at least 0.88, of two photographs rarely
_FLAT = 4  # levels of 255: no content
_GROUNDS = 40  # levels of 255 that the grounds may differ by: a brighter copy
_CONTRASTS = 1.6  # times
_CANDIDATES = 20_000  # pairs that are compared exactly, or 4 for each image
_SAMPLE = 6_000  # pairs that chance is estimated from
_SHIFT = 4  # cells that a decoy is moved by, a quarter of the image
_SHIFTS = [(down, right) for down in (-_SHIFT, 0, _SHIFT) for right in (-_SHIFT, 0, _SHIFT) if (down, right) != (0, 0)]
_ROWS = 1_000  # compared at once
_BITS, _SKETCHED = 256, 28  # bits that the sketches of copies may differ in: a 5 % crop changes 20, of photographs 60


def small(picture: Image.Image) -> NDArray[np.uint8]:
    """(16, 16, 3): a version small enough to keep for each of a hundred thousand images."""
    return np.asarray(picture.convert("RGB").resize((EDGE, EDGE), Image.Resampling.BOX))


def same_content(images: NDArray[np.uint8], first: int | None = None) -> Pairs:
    """The pairs of images with the same content, in order.

    Args:
        images: (N, 16, 16, 3), by `small`.
        first: if given, only pairs of one of the first so many images with one of the others.
    """
    content = _content(images)
    coarse = _coarse(content.values)
    pairs, drawn, weight = _candidates(coarse, coarse, max(_CANDIDATES, 4 * len(images)), first)
    nearest = _compared(content, pairs)
    moved = _by_chance_moved(content, coarse, first)
    some = _compared(content, drawn) if weight > 1 else nearest
    by_chance = np.sort(some.difference[(some.distance <= moved) & ~_best(some, nearest)])
    difference, bound = np.where(nearest.distance <= moved, nearest.difference, np.inf), _DIFFERENCE
    while bound > _LEAST_DIFFERENCE and not (
        expected_below(bound, by_chance, weight) < _CHANCE and _transitive(pairs[difference <= bound], first)
    ):
        bound /= _STEP**0.5
    return np.unique(np.concatenate([pairs[difference <= bound], _flat_pairs(content, first)]), axis=0)


@dataclass(frozen=True)
class _Content:
    """Of N images: (N, 16, 16, 3) differences from the ground (N, 3), as shares of their contrast (N,)."""

    values: Floats
    ground: Floats
    contrast: Floats


def _content(images: NDArray[np.uint8]) -> _Content:
    ground = np.median(images.reshape(len(images), EDGE * EDGE, 3), axis=1).astype(np.float32)
    values: Floats = images - ground[:, None, None]
    contrast = np.abs(values).max((1, 2, 3), initial=0)
    values /= np.maximum(contrast, _FLAT)[:, None, None, None]
    return _Content(_blurred(values), ground, contrast)


def _blurred(values: Floats) -> Floats:
    """By (1, 2, 1) / 4 along both sides, so that half a cell's shift changes little."""
    for axis in (1, 2):
        padded = np.pad(values, [(1, 1) if i == axis else (0, 0) for i in range(4)], mode="edge")
        parts = [np.take(padded, np.arange(start, start + EDGE), axis) for start in (0, 1, 2)]
        values = ((parts[0] + 2 * parts[1] + parts[2]) / 4).astype(np.float32)
    return values


def _coarse(values: Floats) -> Floats:
    """(N, 192) of length 1; zero where there is no content."""
    half = EDGE // 2
    means = values.reshape(len(values), half, 2, half, 2, 3).mean((2, 4)).reshape(len(values), half * half * 3)
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-3)


Candidates: TypeAlias = tuple[Pairs, Pairs, float]


def _candidates(coarse: Floats, others: Floats, most: int, first: int | None, drawn: int = _SAMPLE) -> Candidates:
    """Pairs whose coarse contents are alike: the `most` nearest; some drawn by seed, and for how many each stands."""
    random, count = np.random.default_rng(0), 0
    nearest = sample = np.empty((0, 2), dtype=np.int64)
    cosines, keys = np.empty(0, dtype=np.float32), np.empty(0)
    for pairs, alike in _alike(coarse, others, first):
        count += len(pairs)
        nearest, cosines = _smallest(np.concatenate([nearest, pairs]), np.concatenate([cosines, -alike]), most)
        lots = np.concatenate([keys, random.random(len(pairs))])
        sample, keys = _smallest(np.concatenate([sample, pairs]), lots, drawn)
    return nearest, sample, 1.0 if count <= most else count / len(sample)


def _alike(coarse: Floats, others: Floats, first: int | None) -> Iterator[tuple[Pairs, Floats]]:
    """The pairs (lower, higher) of a lower row of `coarse` with a higher one of `others`, block by block."""
    for start in range(0, len(coarse) if first is None else first, _ROWS):
        rows = coarse[start : start + _ROWS] if first is None else coarse[start : min(start + _ROWS, first)]
        begin = start if first is None else first
        cosine = rows @ others[begin:].T
        lower, higher = np.nonzero(cosine > _ALIKE)
        pairs = np.stack([lower + start, higher + begin], axis=1)
        ordered = pairs[:, 0] < pairs[:, 1]
        yield pairs[ordered], cosine[lower, higher][ordered]


def _smallest(pairs: Pairs, values: NDArray, most: int) -> tuple[Pairs, NDArray]:
    if len(pairs) <= most:
        return pairs, values
    kept = np.argpartition(values, most)[:most]
    return pairs[kept], values[kept]


@dataclass(frozen=True)
class _Compared:
    """P pairs: their largest difference, and how far the second was moved; infinite where they are no copies anyway."""

    pairs: Pairs
    difference: Floats
    distance: Floats


def _by_chance_moved(content: _Content, coarse: Floats, first: int | None) -> float:
    """The distance that content may move: no more than of the nearest match by chance that is not in place already.

    Of so many decoys as there are, an eighth of a pair is expected to match by chance within that.
    """
    moved = _MOVED
    for shift in _SHIFTS:
        decoy = _Content(_shifted(content.values, shift), content.ground, content.contrast)
        _, drawn, weight = _candidates(coarse, _coarse(decoy.values), 0, first, _SAMPLE // 4)
        found = _compared(content, drawn, decoy)
        matches = found.distance[(found.difference <= _DIFFERENCE) & (found.distance > _LEAST_MOVED)]
        # each drawn stands for `weight` pairs: the nearest of so many more is nearer by the square root
        moved = min(moved, float(matches.min(initial=np.inf)) / max(1.0, weight) ** 0.5)
    return max(_LEAST_MOVED, moved)


def _shifted(values: Floats, shift: tuple[int, int]) -> Floats:
    """Moved down and right by so many cells, with ground where nothing comes from."""
    padded = np.pad(values, [(0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT), (0, 0)])
    top, left = (_SHIFT - cells for cells in shift)
    return padded[:, top : top + EDGE, left : left + EDGE]


def _best(some: _Compared, nearest: _Compared) -> NDArray[np.bool_]:
    """Which of some pairs are nearest to each other among all, as copies are and pairs by chance seldom."""
    least = np.full(int(nearest.pairs.max(initial=0)) + 1, np.inf, dtype=np.float32)
    for side in (0, 1):
        np.minimum.at(least, nearest.pairs[:, side], nearest.difference)
    mine, theirs = (np.take(least, some.pairs[:, side], mode="clip") for side in (0, 1))
    return some.difference <= 1.001 * np.minimum(mine, theirs)


def expected_below(bound: float, by_chance: NDArray, weight: float = 1.0) -> float:
    """Return how many pairs by chance differ by no more than the bound.

    The number below a bound grows like a power of it. What is counted in two rings above the bound gives the power, and
    so what lies below: copies lie there too, but they do not grow with the bound.

    Args:
        by_chance: (P,), in order, the differences of pairs most of which are none of copies.
        weight: how many pairs each of them stands for.
    """
    near, far = np.diff(np.searchsorted(by_chance, bound * _STEP ** np.arange(1, 4), side="right")) * weight
    power = max(_POWER, far / max(near, 1.0))
    return float(near / power / (power - 1))


def _transitive(pairs: Pairs, first: int | None) -> bool:
    """Return whether copies of a copy mostly are copies too: pairs by chance link images of nothing in common."""
    names, places = np.unique(pairs, return_inverse=True)
    possible = 0
    for group in groups(len(names), places.reshape(-1, 2)):
        before = int((names[group] < (first or 0)).sum())
        possible += before * (len(group) - before) if first else len(group) * (len(group) - 1) // 2
    return 2 * len(pairs) >= possible


def _compared(content: _Content, pairs: Pairs, others: _Content | None = None) -> _Compared:
    others = others or content
    difference, distance = (np.full(len(pairs), np.inf, dtype=np.float32) for _ in range(2))
    mine, theirs = pairs.T
    contrasts = content.contrast[mine], others.contrast[theirs]
    likely = np.minimum(*contrasts) * _CONTRASTS >= np.maximum(*contrasts)
    likely &= np.abs(content.ground[mine] - others.ground[theirs]).max(1, initial=0) <= _GROUNDS
    places = np.flatnonzero(likely)
    for start in range(0, len(places), _ROWS):
        some = places[start : start + _ROWS]
        difference[some], distance[some] = _aligned(content.values[mine[some]], others.values[theirs[some]])
    return _Compared(pairs, difference, distance)


def _aligned(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """As `_compared`: the second moved and scaled so that its squared difference from the first is least.

    Gauss-Newton steps in both shifts, both scales, contrast and three brightnesses (Lucas & Kanade, 1981).
    """
    places = ((np.arange(EDGE) + 0.5) / EDGE - 0.5).astype(np.float32)
    motion = np.zeros((len(first), 4), dtype=np.float32)
    for _ in range(4):
        step, slopes = _step(first, _warped(second, motion, places), places)
        motion = np.clip(motion + step, -1.25 * _MOVED, 1.25 * _MOVED)
    mine, theirs = (_inner(values) for values in (first, _warped(second, motion, places)))
    mine, theirs = (values - values.mean(1, keepdims=True) for values in (mine, theirs))
    gain = (mine * theirs).sum((1, 2)) / np.maximum((theirs**2).sum((1, 2)), 1e-6)
    gain = np.clip(gain, 1 / _CONTRASTS, _CONTRASTS)[:, None, None]
    along = (np.einsum("nakl,nl->nak", slopes, motion) ** 2).sum((1, 2))
    energy = (slopes[..., :2] ** 2).sum((1, 2, 3))
    return np.abs(mine - gain * theirs).max((1, 2)), np.sqrt(2 * along / np.maximum(energy, 1e-6))


def _step(first: Floats, second: Floats, places: Floats) -> tuple[Floats, Floats]:
    """(N, 4) what is added to the motion; (N, A, 3, 4) how the inner values change with it."""
    down, right = np.gradient(second, np.float32(1 / EDGE), axis=(1, 2))
    slopes = np.stack([right, down, right * places[:, None], down * places[:, None, None]], axis=-1)
    slopes = _inner(slopes)
    offsets = np.broadcast_to(np.eye(3, dtype=np.float32), (*slopes.shape[:3], 3))
    design = np.concatenate([slopes, _inner(second)[..., None], offsets], axis=-1).reshape(len(first), -1, 8)
    normal = design.transpose(0, 2, 1) @ design + np.float32(1e-3) * np.eye(8, dtype=np.float32)
    wanted = design.transpose(0, 2, 1) @ (_inner(first) - _inner(second)).reshape(len(first), -1, 1)
    return np.linalg.solve(normal, wanted)[:, :4, 0], slopes


def _inner(values: Floats) -> Floats:
    """(N, 196, 3, ...) without the outermost cells, which a crop replaces."""
    inner = values[:, 1:-1, 1:-1]
    return inner.reshape(len(inner), (EDGE - 2) ** 2, *inner.shape[3:])


def _warped(values: Floats, motion: Floats, places: Floats) -> Floats:
    """Each read where its motion (right, down, wider, higher; shares of an edge) takes its places, bilinearly."""
    for axis in (0, 1):
        at = (places * (1 + motion[:, 2 + axis, None]) + motion[:, axis, None] + 0.5) * EDGE - 0.5  # (N, 16)
        at = np.clip(at, 0, EDGE - 1.001)
        low = at.astype(np.int64)[:, :, None, None]
        share = at[:, :, None, None] - low.astype(np.float32)
        turned = values.swapaxes(1, 2)  # first the columns, then the rows
        values = np.take_along_axis(turned, low, 1) * (1 - share) + np.take_along_axis(turned, low + 1, 1) * share
    return values


def _flat_pairs(content: _Content, first: int | None) -> Pairs:
    """Pairs of images without content whose colours are equal but for rounding."""
    flat = np.flatnonzero(content.contrast < _FLAT)
    found = [np.empty((0, 2), dtype=np.int64)]
    for place, image in enumerate(flat):
        rest = flat[place + 1 :] if first is None else flat[flat >= first] if image < first else flat[:0]
        same = rest[np.abs(content.ground[rest] - content.ground[image]).max(1, initial=0) < _FLAT]
        found.append(np.stack([np.full(len(same), image), same], axis=1))
    return np.concatenate(found)


def sketches(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(N, 4): 256 bits of each image's content and ground, from which nobody can draw it again.

    Each bit is the side of a plane by chance that the content lies on (Charikar, 2002). Stored with models: the planes
    come from SHAKE-256, not from a generator that a later version may change.

    Args:
        images: (N, 16, 16, 3), by `small`.
    """
    content = _content(images)
    vectors = np.concatenate([_coarse(content.values), content.ground / 255 - 0.5], axis=1)
    signs = np.frombuffer(shake_256(b"xaihub content").digest(_BITS * vectors.shape[1] // 8), dtype=np.uint8)
    planes = np.unpackbits(signs).reshape(vectors.shape[1], _BITS).astype(np.float32) * 2 - 1
    return np.packbits(vectors @ planes > 0, axis=1).view(">u8").astype(np.uint64)


def copies_by_sketch(mine: NDArray[np.uint64], theirs: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """(N,), which of mine show the same content as one of theirs, as far as sketches and chance allow to tell.

    Chance is judged by the images on each side, of which few are copies of each other.

    Args:
        mine: (N, 4), theirs: (M, 4), by `sketches`.
    """
    if not len(mine) or not len(theirs):
        return np.zeros(len(mine), dtype=np.bool_)
    apart = [np.bitwise_count(theirs ^ sketch).sum(1) for sketch in mine]
    nearest, bound = np.array([one.min() for one in apart]), _SKETCHED
    by_chance = np.sort(np.concatenate([_apart(mine), _apart(theirs)]))
    weight = len(mine) * len(theirs) / max(1, len(by_chance))
    while bound > 2 and not (
        _few_below(bound, by_chance, weight)
        and sum(int((one <= bound).sum()) for one in apart) <= 2 * (nearest <= bound).sum()
    ):
        bound /= _STEP**0.5
    return nearest <= bound


def _few_below(bound: float, by_chance: NDArray, weight: float) -> bool:
    """Return whether no pair is expected: by the rings above, and by what lies below where the rings are not empty."""
    expected = expected_below(bound, by_chance, weight)
    return expected == 0 or (expected < _CHANCE / 5 and not (by_chance <= bound).any())


def _apart(sketches: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The bits that each pair differs in; of many images, some are taken evenly."""
    some = sketches[:: -(-len(sketches) // 2_000)]
    pairs = [np.bitwise_count(some[place + 1 :] ^ sketch).sum(1) for place, sketch in enumerate(some)]
    return np.concatenate(pairs).astype(np.int64)
