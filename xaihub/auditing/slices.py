"""Where a classifier does worse: its accuracy on parts of the pictures, each with an interval."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from xaihub.auditing.looking import Looked
from xaihub.auditing.nuisances import NUISANCES, Nuisance
from xaihub.auditing.records import Slice
from xaihub.auditing.using import Said
from xaihub.intervals import wilson

__all__ = ["slices"]

FEWEST = 10  # pictures of a slice: with fewer an interval covers nearly everything
KINDS = 6  # words of a nuisance that become slices
LABELS = 30


def slices(looked: Looked, said: Said) -> tuple[Slice, ...]:
    """Accuracy by label and by each nuisance, the worst first within each; none where no label is the classifier's."""
    known, right = said.known, said.known & ~said.wrong
    if not known.any():
        return ()
    found = [*_of_labels(looked), *(each for entry in NUISANCES.values() for each in _of_nuisance(looked, entry))]
    made = [
        _slice(by, words, rows & known, known, right) for by, words, rows in found if (rows & known).sum() >= FEWEST
    ]
    alone = {by for by, count in Counter(one.by for one in made).items() if count == 1}  # all pictures are alike there
    kept = [one for one in made if one.by not in alone]
    order = list(dict.fromkeys(one.by for one in kept))
    return tuple(sorted(kept, key=lambda one: (order.index(one.by), one.accuracy)))


def _slice(by: str, words: str, rows: NDArray[np.bool_], known: NDArray[np.bool_], right: NDArray[np.bool_]) -> Slice:
    rest = known & ~rows
    count, hits = int(rows.sum()), int(right[rows].sum())
    interval = wilson(hits, count)
    other = wilson(int(right[rest].sum()), int(rest.sum()))
    return Slice(
        by, words, count, hits, interval, bool(rest.any()) and (interval[1] < other[0] or other[1] < interval[0])
    )


def _of_labels(looked: Looked) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    labels = np.array(looked.labels)
    for name, _ in Counter(looked.labels).most_common(LABELS):
        yield "Label", name, labels == name


def _of_nuisance(looked: Looked, entry: Nuisance) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Thirds of its chief number, or its common words."""
    if entry.chief is None:
        kinds = np.array(looked.kinds[entry.name]) if entry.name in looked.kinds else np.array([])
        for word, _ in Counter(kinds.tolist()).most_common(KINDS):
            yield entry.title, str(word), kinds == word
        return
    values = looked.features[entry.name][:, entry.chief]
    there = ~np.isnan(values)
    if there.sum() < 3 * FEWEST or np.ptp(values[there]) < 1e-9:
        return
    what = entry.features[entry.chief]
    edges = np.quantile(values[there], [1 / 3, 2 / 3])
    low, high = values <= edges[0], values > edges[1]
    for words, rows in (("low", low), ("middle", there & ~low & ~high), ("high", high)):
        if rows.any():
            within = f"{_short(values[rows].min())} to {_short(values[rows].max())}"
            yield entry.title, f"{words} {what} ({within})", rows


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2g}"
