"""How well probabilities agree with the true classes, each figure with a 95 % confidence interval. Arrays only.

Letters: N pictures, C classes. `truth` is (N,) class indices, `probabilities` (N, C); the answer is the most probable
class. A figure that is not defined (the precision of a class that was never answered) is None, never 0.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xaihub.intervals import bootstrapped, wilson

__all__ = [
    "auroc", "bootstrapped", "calibration_error", "confusion_matrix", "f1_scores", "precisions", "recalls", "scores",
    "wilson",
]  # fmt: skip

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]

BINS = 15  # of the calibration error, as in its paper
_RESAMPLES = 1000  # enough for two digits of a 95 % interval
_MOST_WORK = 400_000_000  # resamples x pictures x classes: some seconds; beyond it there are fewer resamples
_FEWEST = 100  # resamples; with fewer an interval would be noise, so none is given

HOW = (
    "95 % intervals. Accuracy, precision and recall: Wilson's score interval. F1, macro F1, AUROC and calibration"
    " error: percentiles of {resamples} bootstrap resamples of the pictures, seed {seed}. They say what other pictures"
    " of the same kind would give, not what another training run or another kind of picture would."
)


def confusion_matrix(truth: Indices, answers: Indices, classes: int) -> Indices:
    """(C, C) counts: a row for each true class, a column for each answer."""
    return np.bincount(truth * classes + answers, minlength=classes * classes).reshape(classes, classes)


def recalls(matrix: NDArray[np.generic]) -> Floats:
    """(..., C), of each true class the share that was found, from (..., C, C); NaN for a class without pictures."""
    return _shares(_diagonal(matrix), matrix.sum(-1))


def precisions(matrix: NDArray[np.generic]) -> Floats:
    """(..., C), of each answer the share that was right; NaN for an answer that was never given."""
    return _shares(_diagonal(matrix), matrix.sum(-2))


def f1_scores(matrix: NDArray[np.generic]) -> Floats:
    """(..., C), the harmonic mean of precision and recall; NaN where a class neither occurs nor is answered."""
    return _shares(2 * _diagonal(matrix), matrix.sum(-1) + matrix.sum(-2))


def auroc(truth: Indices, probabilities: Floats, weights: Floats | None = None) -> Floats:
    """(B,), the area under the ROC curve for B weightings (B, N) of the pictures; one, all equal, if none are given.

    Two classes: that of the second one's probability. More: the mean over the classes that occur, each against the
    rest. Ties count half (the Mann-Whitney statistic; Hanley and McNeil, 1982). NaN where only one class occurs.
    """
    weights = np.ones((1, len(truth))) if weights is None else weights
    columns = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = np.stack([_area(truth == column, probabilities[:, column], weights) for column in columns])
    known = ~np.isnan(areas)
    return _shares(np.where(known, areas, 0.0).sum(0), known.sum(0))


def _area(positive: NDArray[np.bool_], score: Floats, weights: Floats) -> Floats:
    """(B,) P(a positive scores above a negative) + half P(they tie)."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])  # of each group of equal scores
    ups = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    downs = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
    below = np.cumsum(downs, axis=1) - downs / 2
    return _shares((ups * below).sum(1), ups.sum(1) * downs.sum(1))


def calibration_error(truth: Indices, probabilities: Floats, weights: Floats | None = None, bins: int = BINS) -> Floats:
    """(B,), the expected calibration error of B weightings (Guo et al., 2017, arXiv:1706.04599, equation 3).

    The pictures are put into bins of equal width by the probability of the answer; in each, the mean probability is
    set against the share that was right.
    """
    weights = np.ones((1, len(truth))) if weights is None else weights
    best = probabilities.max(1)
    gap = (probabilities.argmax(1) == truth) - best
    place = np.clip(np.ceil(best * bins).astype(np.int64) - 1, 0, bins - 1)  # bins are open below: (i/M, (i+1)/M]
    gaps = weights @ (np.eye(bins)[place] * gap[:, None])  # (B, bins)
    return _shares(np.abs(gaps).sum(1), weights.sum(1))


@dataclass(frozen=True)
class _Answers:
    """What was asked and answered, with what the resamples share."""

    truth: Indices
    probabilities: Floats
    resamples: int
    seed: int

    @property
    def matrix(self) -> Indices:
        return confusion_matrix(self.truth, self.probabilities.argmax(1), self.probabilities.shape[1])

    def interval(self, measure: Callable[[Floats], Floats]) -> Floats | None:
        """(2, ...) as `bootstrapped`, or None where the resamples would be too few to mean anything."""
        if self.resamples < _FEWEST:
            return None
        return bootstrapped(measure, len(self.truth), resamples=self.resamples, seed=self.seed)

    def f1(self, weights: Floats) -> Floats:
        """(B, C), the scores of each class under B weightings."""
        right = self.probabilities.argmax(1) == self.truth
        classes = np.eye(self.probabilities.shape[1])
        hits = weights @ (classes[self.truth] * right[:, None])
        total = weights @ (classes[self.truth] + classes[self.probabilities.argmax(1)])
        return _shares(2 * hits, total)


def scores(
    truth: Sequence[int] | Indices, probabilities: Any, labels: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """The figures of `metrics.json`, ready for JSON; see `HOW` for what the intervals are.

    Args:
        truth: (N,), class indices.
        probabilities: (N, C).
        labels: the classes' names, in the order of the indices.

    Raises:
        ValueError: the shapes do not belong together, or there is nothing to count.
    """
    found, labels = _checked(truth, probabilities, labels, seed), _distinct(labels)
    matrix, count = found.matrix, len(found.truth)
    hits = int(np.trace(matrix))
    area, error = auroc(found.truth, found.probabilities), calibration_error(found.truth, found.probabilities)
    return {
        "accuracy": hits / count,
        "accuracy_interval": list(wilson(hits, count)),
        "n": count,
        **_by_class(found, matrix, labels),
        "auroc": _plain(area[0]),
        "auroc_interval": _ends(found.interval(lambda w: auroc(found.truth, found.probabilities, w))),
        "calibration_error": _plain(error[0]),
        "calibration_error_interval": _ends(
            found.interval(lambda w: calibration_error(found.truth, found.probabilities, w))
        ),
        "confusion": {"labels": list(labels), "rows_are": "true class", "matrix": matrix.tolist()},
        "how_intervals": HOW.format(resamples=found.resamples, seed=seed),
    }


def _checked(truth: Any, probabilities: Any, labels: Sequence[str], seed: int) -> _Answers:
    truth, probabilities = np.asarray(truth, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
    count, classes = len(truth), len(labels)
    if probabilities.shape != (count, classes) or not count:
        raise ValueError(
            f"{count} true classes, probabilities {probabilities.shape} and {classes} labels do not match."
        )
    if truth.min() < 0 or truth.max() >= classes:
        raise ValueError(f"True classes go from 0 to {classes - 1}; {truth.min()} to {truth.max()} were given.")
    return _Answers(truth, probabilities, min(_RESAMPLES, _MOST_WORK // (count * classes)), seed)


def _distinct(labels: Sequence[str]) -> list[str]:
    """The labels, with their index where several classes have the same name (ImageNet has two cranes)."""
    counts = Counter(labels)
    return [f"{label} ({i})" if counts[label] > 1 else label for i, label in enumerate(labels)]


def _by_class(found: _Answers, matrix: Indices, labels: Sequence[str]) -> dict[str, Any]:
    precision, recall, f1 = precisions(matrix), recalls(matrix), f1_scores(matrix)
    occurs = matrix.sum(1) > 0  # the mean is over the classes that the pictures have: others say nothing
    ends = found.interval(lambda w: np.c_[found.f1(w), np.nanmean(found.f1(w)[:, occurs], axis=1)])  # (2, C + 1)
    rows = {}
    for place, label in enumerate(labels):
        support, answered, hits = matrix[place].sum(), matrix[:, place].sum(), matrix[place, place]
        rows[label] = {
            "precision": _plain(precision[place]),
            "precision_interval": list(wilson(hits, answered)) if answered else None,
            "recall": _plain(recall[place]),
            "recall_interval": list(wilson(hits, support)) if support else None,
            "f1": _plain(f1[place]),
            "f1_interval": None if ends is None else _ends(ends[:, place]),
            "support": int(support),
        }
    return {
        "per_class": rows,
        "macro_f1": float(f1[occurs].mean()),
        "macro_f1_interval": None if ends is None else _ends(ends[:, -1]),
    }


def _ends(ends: Floats | None) -> list[float] | None:
    return None if ends is None or np.isnan(ends).any() else [float(end) for end in ends.ravel()]


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _diagonal(matrix: NDArray[np.generic]) -> Floats:
    return np.diagonal(matrix, axis1=-2, axis2=-1).astype(np.float64)


def _shares(part: Any, whole: Any) -> Floats:
    """part / whole, NaN where there is no whole."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)
