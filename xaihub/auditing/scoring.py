"""How well a few numbers of each picture tell a target: the area under the ROC curve on pictures not fitted to.

Letters: N pictures, D columns of the design, T targets, P permutations. A target is a label (each against the rest), a
mistake, or an answer. Where it is asked "given the label", only pictures of one label are compared with each other.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from xaihub.intervals import Z
from xaihub.separability import FOLDS, folds

__all__ = ["SURE", "Asking", "Told", "adjusted", "dealt_together", "design", "least_found", "needed", "told"]

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]
Truths: TypeAlias = NDArray[np.bool_]

SURE = 0.05  # how often chance alone may give a finding in a dataset without any
PENALTY = 0.01  # of the columns' variance, as the linear probe of `separability` has it
MOST_KINDS = 30  # words that have a column of their own
_AT_ONCE = 4_000_000  # permuted targets of pictures that are scored at once
_COLUMNS = 20_000  # permuted targets that are scored at most: a thousand classes get fewer permutations


def design(features: NDArray[np.floating], kinds: Sequence[str] | None) -> Floats:
    """(N, D): the numbers, standardised by median and quartiles, their squares, what lacks, and the common words.

    Squares let a class in the middle of two others be told; no label is looked at.

    Args:
        features: (N, F), NaN where a picture has no such number.
        kinds: (N,), a word for each picture.
    """
    values = np.asarray(features, dtype=np.float64).reshape(len(features), -1)
    lacks = np.isnan(values)
    columns = [_standardised(column) for column in values.T if not np.isnan(column).all()]
    columns += [column**2 - (column**2).mean() for column in columns]
    columns += [column.astype(np.float64) for column in lacks.T if 0 < column.sum() < len(column)]
    if kinds is not None:
        words, counts = np.unique(np.asarray(kinds), return_counts=True)
        common = [words[i] for i in np.argsort(-counts, kind="stable")[:MOST_KINDS] if counts[i] > 1]
        columns += [(np.asarray(kinds) == word).astype(np.float64) for word in common]
    varying = [column for column in columns if np.ptp(column) > 1e-9]
    return np.stack(varying, axis=1) if varying else np.zeros((len(values), 0))


def _standardised(column: Floats) -> Floats:
    low, middle, high = np.nanpercentile(column, [25, 50, 75])
    spread = (high - low) / 1.349 or float(np.nanstd(column)) or 1.0  # of a normal distribution that is its deviation
    return np.clip(np.nan_to_num((column - middle) / spread, nan=0.0), -4, 4)  # one odd picture must not decide


def dealt_together(groups: Indices, together: Sequence[Sequence[int]], seed: int) -> Indices:
    """(N,), the fold of each picture, by lot and evenly within each group; near copies share a fold.

    Args:
        groups: (N,), such as labels.
        together: places of pictures that must not be parted, every picture in one of them.
    """
    leaders = np.array([group[0] for group in together])
    order = np.random.default_rng(seed).permutation(len(leaders))
    dealt = np.empty(len(groups), dtype=np.int64)
    _, dense = np.unique(groups[leaders[order]], return_inverse=True)
    for place, fold in zip(order, folds(dense), strict=True):
        dealt[list(together[place])] = fold
    return dealt


@dataclass(frozen=True, eq=False)
class Asking:
    """What is to be told.

    Attributes:
        targets: (N, T).
        strata: (N,), only pictures of one stratum are compared; all zero for labels, the labels for answers.
        dealt: (N,), the fold of each picture.
        permutations: how often the targets are permuted within folds and strata, to know what chance does.
    """

    targets: Truths
    strata: Indices
    dealt: Indices
    permutations: int
    seed: int

    @cached_property
    def orders(self) -> Indices:
        """(N, P), whose targets each picture has in each permutation."""
        count = max(1, min(self.permutations, _COLUMNS // max(1, self.targets.shape[1])))
        generator = np.random.default_rng(self.seed)
        found = np.empty((len(self.targets), count), dtype=np.int64)
        for rows in self.cells:
            for p in range(count):
                found[rows, p] = generator.permutation(rows)
        return found

    def blocks(self) -> Iterator[Truths]:
        """(N, B T) permuted targets, as many permutations at once as take some tens of megabytes."""
        count, targets = self.targets.shape
        size = max(1, _AT_ONCE // max(1, count * targets))
        for start in range(0, self.orders.shape[1], size):
            yield self.targets[self.orders[:, start : start + size]].reshape(count, -1)

    @cached_property
    def cells(self) -> list[Indices]:
        """The pictures of each fold and stratum."""
        names = self.dealt * (int(self.strata.max(initial=0)) + 1) + self.strata
        return [np.flatnonzero(names == name) for name in np.unique(names)]

    @cached_property
    def possible(self) -> bool:
        """Whether any two pictures can be compared."""
        return any(0 < self.targets[rows, t].sum() < len(rows) for rows in self.cells for t in range(self._count))

    @property
    def _count(self) -> int:
        return self.targets.shape[1]


@dataclass(frozen=True, eq=False)
class Told:
    """How well the targets are told.

    Attributes:
        auc: mean over the targets; 0.5 is chance.
        low, high: 95 % interval.
        by_target: (T,), NaN where a target cannot be compared.
        scores: (N, T), each from a fit to the other folds.
        null: (P,), what `auc` is where the targets are permuted.
    """

    auc: float
    low: float
    high: float
    by_target: Floats
    scores: Floats
    null: Floats

    @property
    def beyond_chance(self) -> float:
        """How many standard deviations of chance the area lies above it."""
        return float(_standing(self.auc, self.null))


def told(columns: Floats, asking: Asking) -> Told:
    """The cross-validated area under the ROC curve, from a ridge regression to the targets (Hoerl & Kennard, 1970).

    In each fold and stratum areas are computed for themselves and averaged with van Elteren's (1960) weights: scores of
    different fits need not be comparable, and pooled they would fall below 0.5 where there is nothing to be told.

    Args:
        columns: (N, D), by `design`.
    """
    fits = [_fit(columns, asking, asking.dealt == fold) for fold in np.unique(asking.dealt)]
    scores = _scores(fits, asking.targets)
    by_target = _areas(scores, asking.targets, asking.cells)
    null = np.concatenate([_means(_scores(fits, block), block, asking) for block in asking.blocks()])
    area = float(_means(scores, asking.targets, asking)[0])
    low, high = _interval(area, scores, asking, float(np.nanvar(null)))
    return Told(area, low, high, by_target, scores, null)


def _means(scores: Floats, wanted: Truths, asking: Asking) -> Floats:
    """(B,), the mean area over the targets that can be compared."""
    areas = _areas(scores, wanted, asking.cells).reshape(-1, asking.targets.shape[1])
    known = ~np.isnan(areas)
    total: Floats = np.where(known, areas, 0.0).sum(1)
    return np.divide(total, known.sum(1), out=np.full(len(areas), np.nan), where=known.any(1))


def _scores(fits: Sequence[tuple[Truths, Floats, NDArray[np.floating]]], wanted: Truths) -> Floats:
    """(N, T), of each picture by the fit to the other folds."""
    scores = np.zeros(wanted.shape)
    for held, columns, fit in fits:
        scores[held] = columns @ (fit @ wanted[~held])
    return np.round(scores / max(float(np.abs(scores).max(initial=0)), 1e-12), 9)  # equal rows tie, to the last digit


def _fit(columns: Floats, asking: Asking, held: Truths) -> tuple[Truths, Floats, NDArray[np.floating]]:
    """Which pictures are held out, their columns, and (D, others): what turns the others' targets into weights."""
    rows = _within(columns[~held], asking.strata[~held])
    gram = rows.T @ rows
    penalty = PENALTY * float(np.trace(gram)) + 1e-9
    return held, columns[held], np.linalg.solve(gram + penalty * np.eye(len(gram)), rows.T)


def adjusted(found: Sequence[Told]) -> list[float]:
    """Of several questions, how likely chance alone gives any of them so much (Westfall & Young, 1993, max-T).

    Each area is counted in standard deviations of its own null. The permutations are the same for all, so it is known
    how they hang together.
    """
    if not found:
        return []
    strongest = _strongest(found)
    return [float((1 + (strongest >= one.beyond_chance).sum()) / (1 + len(strongest))) for one in found]


def _strongest(found: Sequence[Told]) -> Floats:
    """(P,), how far the furthest of all questions lies from chance where the targets are permuted."""
    return np.asarray(np.max([_standing(one.null, one.null) for one in found], axis=0))


def least_found(found: Sequence[Told]) -> float:
    """The least area, 1 at most, that would be a finding whichever of the questions it answered.

    Its interval must lie above 0.5, which it does where the area is `Z` deviations of chance above it, and it must
    stand out among the permuted targets of all questions, as `adjusted` counts.
    """
    varying = [one for one in found if np.ptp(one.scores) and np.nanstd(one.null)]
    if not varying:
        return 1.0
    ordered = np.sort(_strongest(found))
    beaten = math.floor(SURE * (1 + len(ordered)))  # among so many permutations, itself counted, it is a finding
    if not beaten:
        return 1.0
    stands = max(Z, float(ordered[-beaten]))
    return min(1.0, 0.5 + stands * max(float(np.nanstd(one.null)) for one in varying))


def needed(found: Sequence[Told], fewest: int, least: float) -> int:
    """How many pictures the rarest label must have, about, for an area below `least` to be a finding.

    The variance of an area by chance (Hanley & McNeil, 1982) falls with the pictures; how much wider than it the null
    of so few pictures is, and how far the strongest of all questions lies from it, stay.

    Args:
        fewest: how many it has.
    """
    spread = max((float(np.nanstd(one.null)) for one in found), default=0.0)
    stands = NormalDist().inv_cdf(1 - SURE / max(1, len(found)))  # few permutations of few pictures do not show it
    wider = max(1.0, spread / math.sqrt(_by_fold(fewest)))
    count = fewest + 1
    while 0.5 + stands * wider * math.sqrt(_by_fold(count)) >= least:
        count += 1
    return count


def _by_fold(count: int) -> float:
    """The variance of an area of 0.5 that is the mean over the folds, of so many pictures of each of two labels."""
    each = max(1.0, count / FOLDS)
    return _hanley_mcneil(0.5, each, each) / min(FOLDS, count)


def _standing(areas: float | Floats, null: Floats) -> Floats:
    found: Floats = (np.asarray(areas, dtype=np.float64) - 0.5) / max(float(np.nanstd(null)), 1e-3)
    return found


def _within(values: Floats, strata: Indices) -> Floats:
    found = values.copy()
    for stratum in np.unique(strata):
        found[strata == stratum] -= found[strata == stratum].mean(0)
    return found


def _areas(scores: Floats, positive: Truths, cells: Sequence[Indices]) -> Floats:
    """(T,), the areas of each cell averaged; NaN where no cell has both."""
    total, weights = np.zeros(scores.shape[1]), np.zeros(scores.shape[1])
    for rows in cells:
        areas, weight = _cell(scores[rows], positive[rows])
        total += weight * areas
        weights += weight
    return np.divide(total, weights, out=np.full(len(total), np.nan), where=weights > 0)


def _cell(scores: Floats, positive: Truths) -> tuple[Floats, Floats]:
    """(T,) areas by the rank sum (Hanley & McNeil, 1982; ties count half), and their weights."""
    ups = positive.sum(0).astype(np.float64)
    downs = len(positive) - ups
    above = (_ranks(scores) * positive).sum(0) - ups * (ups - 1) / 2
    areas = np.divide(above, ups * downs, out=np.zeros(len(ups)), where=ups * downs > 0)
    return areas, ups * downs / (ups + downs + 1)


def _ranks(values: Floats) -> Floats:
    """(n, T), places in ascending order in each column, from 0; equal values share the mean of theirs."""
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    place = np.broadcast_to(np.arange(len(values))[:, None], values.shape)
    begins = np.ones(values.shape, dtype=bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    ends = np.ones(values.shape, dtype=bool)
    ends[:-1] = begins[1:]
    first = np.maximum.accumulate(np.where(begins, place, 0), axis=0)
    last = np.minimum.accumulate(np.where(ends, place, len(values))[::-1], axis=0)[::-1]
    found = np.empty(values.shape)
    np.put_along_axis(found, order, (first + last) / 2, axis=0)
    return found


def _interval(area: float, scores: Floats, asking: Asking, by_chance: float) -> tuple[float, float]:
    """95 % of an area: a score interval (Newcombe, 2006), widened where DeLong's variance (1988) says more.

    Unlike DeLong's own it has a width where the area is 1. Fits to overlapping folds hang together, which neither
    knows: what permuted targets vary by (`by_chance`) does, and at 0.5 the interval is at least as wide.
    """
    if math.isnan(area):
        return 0.0, 1.0
    counts = [(float(column.sum()), float((~column).sum())) for column in asking.targets.T]
    counts = [(ups, downs) for ups, downs in counts if ups and downs]

    def variance(at: float) -> float:
        return sum(_hanley_mcneil(at, *pair) for pair in counts) / len(counts) ** 2

    wider = max(1.0, by_chance / variance(0.5))
    if 0 < area < 1:
        wider = max(wider, _delong(scores, asking) / variance(area))

    def end(towards: float) -> float:
        near, far = area, towards
        for _ in range(40):
            middle = (near + far) / 2
            inside = abs(area - middle) <= Z * math.sqrt(wider * variance(middle))
            near, far = (middle, far) if inside else (near, middle)
        return near

    return end(0.0), end(1.0)


def _hanley_mcneil(area: float, ups: float, downs: float) -> float:
    """The variance of an area (Hanley & McNeil, 1982), with the mean of both numbers for each, as Newcombe has it."""
    more = (ups + downs) / 2 - 1
    spread = 1 + more * ((1 - area) / (2 - area) + area / (1 + area))
    return area * (1 - area) * spread / (ups * downs)


def _delong(scores: Floats, asking: Asking) -> float:
    """The variance of the mean area: what each picture contributes, squared and summed (LeDell et al., 2015)."""
    count = asking.targets.shape[1]
    shares, weights = np.zeros(scores.shape), np.zeros(count)
    for rows in asking.cells:
        positive = asking.targets[rows]
        areas, weight = _cell(scores[rows], positive)
        weights += weight
        ups = np.maximum(positive.sum(0), 1)
        downs = np.maximum(len(rows) - positive.sum(0), 1)
        whole = _ranks(scores[rows])
        own = np.where(positive, _ranks_among(scores[rows], positive), _ranks_among(scores[rows], ~positive))
        beaten = whole - own  # of the other kind, ties half
        shares[rows] = weight * np.where(positive, (beaten / downs - areas) / ups, (1 - beaten / ups - areas) / downs)
    known = weights > 0
    each = np.divide(shares, weights, out=np.zeros(shares.shape), where=known).sum(1) / max(1, known.sum())
    return float((each**2).sum())


def _ranks_among(scores: Floats, some: Truths) -> Floats:
    """(n, T), the places of some of each column among themselves."""
    found = np.zeros(scores.shape)
    for t in range(scores.shape[1]):
        found[some[:, t], t] = _ranks(scores[some[:, t], t : t + 1])[:, 0]
    return found
