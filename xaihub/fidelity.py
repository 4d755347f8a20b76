"""How far neighbours agree with the classifier that they are to explain, measured on pictures that are asked about.

Each picture is looked up among the references without itself and its near copies, in all classes: once a search is
kept within the predicted class, or knows that class, agreement is no merit (`leak_free` says so).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xaihub.agreement import agreement
from xaihub.classifier import Classifier
from xaihub.embedders import EMBEDDERS, Batch
from xaihub.intervals import wilson
from xaihub.passes import slices, tap
from xaihub.progress import Progress, part, silent
from xaihub.references import ReferenceSet

__all__ = ["AT", "COUNT", "FEWEST", "Found", "Sides", "measure", "of_class", "sides", "summary", "too_few"]

Rows: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

COUNT = 200  # pictures asked about: an agreement of 95 % is then known to three points either way
AT = (1, 3, 5)  # how many neighbours vote
FEWEST = 5  # references of a class: fewer cannot be the majority of the neighbours, whatever the classifier sees
_SHOWN = 3  # neighbours whose mean probability is compared, as many as a page shows
_RESAMPLES = 500


@dataclass(frozen=True, eq=False)
class Found:
    """What was found for Q pictures among the references.

    Attributes:
        nearest: (Q, 5) rows in any class, best first; -1 where there are fewer.
        like: (Q,) the nearest row of the same predicted class, or -1.
        similarity: (Q,) of that one.
    """

    nearest: Rows
    like: Rows
    similarity: NDArray[np.float32]

    def compact(self) -> tuple["Found", Rows]:
        """The same among the rows that were found alone, and which those are: of a million, no more are looked at."""
        used = np.unique(np.r_[self.nearest.ravel(), self.like, -1])[1:]  # -1 is the first
        return Found(_renamed(self.nearest, used), _renamed(self.like, used), self.similarity), used


def measure(
    references: ReferenceSet,
    classifier: Classifier,
    *,
    queries: ReferenceSet | None = None,
    count: int = COUNT,
    progress: Progress = silent,
) -> dict[str, dict[str, Any]]:
    """Embedder -> its figures, ready for JSON; nothing for references that are too few to ask.

    Args:
        queries: held-out pictures as the same classifier and embedders see them; without them each reference is asked
            about among the others (leave one out).
        count: how many are asked about at most, in proportion to the predicted classes.

    Raises:
        CancelledError: from `progress`.
    """
    asked = queries or references
    if len(references) < 2 or not len(asked):
        return {}
    rows = np.unique(np.linspace(0, len(asked) - 1, min(count, len(asked))).round().astype(np.int64))
    out = [_copies(references, asked, row) for row in rows]
    weights = _weights(classifier, asked, rows, part(progress, 0.0, 0.7))
    left = [of_class(references, int(asked.predicted[row]), copies) for row, copies in zip(rows, out, strict=True)]
    enough = np.array(left) >= FEWEST
    figures = {}
    for i, (name, space) in enumerate(references.spaces.items()):
        progress(0.7 + 0.3 * i / len(references.spaces), f"Asking {len(rows):,} pictures for their neighbours ({name})")
        found, used = _searched(references, asked, rows, name, weights.get(name), out).compact()
        if not len(used):  # each is a copy of all others: there is nobody to ask
            continue
        own, theirs = _sides(classifier, asked, rows), _sides(classifier, references, used)
        figures[name] = summary(found, own, theirs, enough) | {
            "n": len(rows),
            "n_of_enough": int(enough.sum()),
            "leak_free": not space.leaks,
            "held_out": queries is not None,
            "copies_left_out": int(sum(len(each) for each in out)) - (0 if queries is not None else len(rows)),
        }
    return figures


@dataclass(frozen=True, eq=False)
class Sides:
    """What the classifier says of some pictures: predicted (N,), probabilities (N, C) and logits (N, C).

    Attributes:
        activation: whether its classes exclude each other (softmax), so that probabilities add up to 1, or not.
    """

    predicted: Rows
    probabilities: Floats
    logits: Floats
    activation: Literal["softmax", "sigmoid"] = "softmax"


def of_class(references: ReferenceSet, index: int, leave_out: Rows) -> int:
    """Return how many references are predicted this class, without the rows left out."""
    rows = references.slices.get(index, slice(0, 0))
    return rows.stop - rows.start - int(((leave_out >= rows.start) & (leave_out < rows.stop)).sum())


def too_few(count: int) -> str:
    """Why nothing can be said of the agreement of neighbours, of so many references of the class; "" where it can."""
    return "" if count >= FEWEST else f"too few references of this class ({count}; at least {FEWEST} needed)"


def summary(found: Found, asked: Sides, references: Sides, enough: NDArray[np.bool_] | None = None) -> dict[str, Any]:
    """The figures (EXAMPLES.md says what each means), each as [value, low, high] with a 95 % interval.

    Agreement is Kenny & Keane's (2019): the neighbours' majority of *predicted* classes is the picture's own.

    Args:
        enough: (Q,), of which images agreement is asked: the others have too few references of their class.
    """
    nearest, like = found.nearest, found.like
    counted = np.ones(len(nearest), dtype=np.bool_) if enough is None else enough
    agree = {k: (_majorities(references.predicted, nearest[:, :k]) == asked.predicted)[counted] for k in AT}
    error = _probability_errors(asked.probabilities, references.probabilities, nearest[:, :_SHOWN], asked.activation)
    known = like >= 0
    mine, theirs = _margins(asked.logits, asked.predicted), _margins(references.logits, references.predicted)[like]
    return {
        **{f"agreement@{k}": _share(hits) for k, hits in agree.items()},
        "probability_error@3": _mean(error),
        "margin_correlation": _correlation(mine[known], theirs[known]),
        "like_distance": float(np.mean(1 - found.similarity[known])) if known.any() else None,
    }


def sides(classifier: Classifier, logits: Tensor, predicted: Rows) -> Sides:
    """The record of logits (N, C)."""
    probabilities = classifier.probabilities(logits.float()).double().numpy()
    return Sides(predicted, probabilities, logits.double().numpy(), classifier.activation)


def _sides(classifier: Classifier, references: ReferenceSet, rows: Rows) -> Sides:
    return sides(classifier, references.logits[torch.from_numpy(rows)], references.predicted[rows])


def _renamed(rows: Rows, used: Rows) -> Rows:
    """Rows as places in `used`, which is sorted; -1 stays."""
    return np.where(rows < 0, -1, np.searchsorted(used, rows))


def _copies(references: ReferenceSet, asked: ReferenceSet, row: int) -> Rows:
    vector = asked.index().vectors([row])[0]
    picture = None if asked.pictures[row] is None else partial(asked.picture, row)
    return references.duplicates(vector, asked.digests[row], int(asked.hashes[row]), picture)


def _weights(classifier: Classifier, asked: ReferenceSet, rows: Rows, progress: Progress) -> dict[str, Tensor]:
    """Space -> (Q, K), what each picture's own predicted class takes of each dimension, where a search weighs them."""
    weighted = [name for name, space in asked.spaces.items() if space.weighted and name in EMBEDDERS]
    if not weighted:
        return {}
    found: dict[str, list[Tensor]] = {name: [] for name in weighted}
    with tap(classifier) as run:
        for some in slices(len(rows), classifier.batch):
            progress(some.start / len(rows), f"Asking the classifier about {len(rows):,} pictures")
            pictures = [asked.picture(int(row)) for row in rows[some]]
            pixels = [classifier.transform.pixels_of(picture) for picture in pictures]
            targets, start = asked.predicted[rows[some]].tolist(), 0
            for _, alike in groupby(pixels, key=lambda each: each.shape):  # one pass has pictures of one size
                passed = run(torch.stack(list(alike)))
                here = slice(start, start := start + len(passed.logits))
                batch = Batch(pictures[here], passed, classifier.activation)
                for name in weighted:
                    weights = EMBEDDERS[name].weigh(batch, targets[here])
                    found[name].append(torch.empty(0) if weights is None else weights.cpu())
    return {name: torch.cat(each) for name, each in found.items()}


def _searched(
    references: ReferenceSet,
    asked: ReferenceSet,
    rows: Rows,
    space: str,
    weights: Tensor | None,
    out: Sequence[Rows],
) -> Found:
    nearest = np.full((len(rows), max(AT)), -1, dtype=np.int64)
    like, similarity = np.full(len(rows), -1, dtype=np.int64), np.zeros(len(rows), dtype=np.float32)
    vectors = asked.index(space).vectors(rows)
    for i, row in enumerate(rows):
        own = None if weights is None else weights[i]
        search = partial(references.nearest, vectors[i], space=space, weights=own, leave_out=out[i])
        found = search(k=max(AT))
        nearest[i, : len(found)] = [neighbour.row for neighbour in found]
        for twin in search(k=1, predicted=int(asked.predicted[row])):
            like[i], similarity[i] = twin.row, twin.similarity
    return Found(nearest, like, similarity)


def _majorities(predicted: Rows, nearest: Rows) -> Rows:
    """(Q,) the class that most of each picture's neighbours have; of several the one of the nearest; -1 of none."""
    answers = np.full(len(nearest), -1, dtype=np.int64)
    for i, rows in enumerate(nearest):
        votes = predicted[rows[rows >= 0]].tolist()
        answers[i] = max(votes, key=votes.count, default=-1)  # the first of the most frequent: they lie best first
    return answers


def _probability_errors(
    asked: Floats, references: Floats, nearest: Rows, activation: Literal["softmax", "sigmoid"] = "softmax"
) -> Floats:
    """(Q,) from 0 to 1, how far each picture's probabilities lie from the mean of its neighbours'.

    Where classes exclude each other the total variation, half the sum of the differences: 1 where they share no class.
    Where each class has its own yes or no, the mean of the classes' differences: half their sum may be far above 1.
    """
    there = nearest >= 0
    means = (references[nearest] * there[..., None]).sum(1) / np.maximum(1, there.sum(1))[:, None]
    apart = np.abs(asked - means)
    errors = apart.mean(1) if activation == "sigmoid" else apart.sum(1) / 2
    return errors[there.any(1)]


def _margins(logits: Floats, predicted: Rows) -> Floats:
    """(N,) how far the predicted class's logit lies above the best of the others."""
    if logits.shape[1] < 2:
        return np.zeros(len(logits))
    rows = np.arange(len(logits))
    others = logits.copy()
    others[rows, predicted] = -np.inf
    return logits[rows, predicted] - others.max(1)


def _share(hits: NDArray[np.bool_]) -> list[float | None]:
    """[share, low, high] with Wilson's interval; None of nothing."""
    return [float(hits.mean()), *wilson(int(hits.sum()), len(hits))] if len(hits) else [None, None, None]


def _mean(values: Floats) -> list[float | None]:
    if not len(values):
        return [None, None, None]
    return [float(values.mean()), *_bootstrapped(lambda rows: float(values[rows].mean()), len(values))]


def _correlation(a: Floats, b: Floats) -> list[float | None]:
    """Spearman's rank correlation (1904); None where one side is all alike."""
    value = _spearman(a, b)
    if np.isnan(value):
        return [None, None, None]
    return [value, *_bootstrapped(lambda rows: _spearman(a[rows], b[rows]), len(a))]


def _spearman(a: Floats, b: Floats) -> float:
    return float(agreement([a, b])[0, 1]) if len(a) else float("nan")


def _bootstrapped(value: Callable[[Rows], float], count: int) -> tuple[float, float]:
    """The 2.5th and 97.5th percentiles over resamples of the pictures (Efron, 1979)."""
    generator = np.random.default_rng(0)
    values = [value(generator.integers(0, count, count)) for _ in range(_RESAMPLES)]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
