"""How well labelled groups of embeddings stand apart: a linear probe, and the silhouette.

Letters: R rows, K channels, G groups. A row that belongs to no group, or to one of a single row, is left out: nothing
could be learned of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Separability", "folds", "linear_probe", "separability", "silhouette"]

Vectors: TypeAlias = NDArray[np.floating]
Groups: TypeAlias = NDArray[np.int64]

FOLDS = 5
PENALTY = 0.01  # of the rows' variance: as good as a logistic regression on two sets of 100 photographs


@dataclass(frozen=True)
class Separability:
    """How far apart the groups are at one layer.

    Attributes:
        probe: balanced accuracy of a linear probe on rows that it has not seen.
        error: its standard error, from the number of rows alone.
        chance: what guessing gives, 1 / G.
        silhouette: mean cosine silhouette, in [-1, 1].
        rows, groups: how many took part.
    """

    probe: float
    error: float
    chance: float
    silhouette: float
    rows: int
    groups: int


def separability(embeddings: Vectors, names: Sequence[str | None]) -> Separability | None:
    """Both measures for rows (R, K) and the name of each one's group; None with fewer than two groups of two rows."""
    groups = _numbered(names)
    kept = groups >= 0
    if len(np.unique(groups[kept])) < 2:
        return None
    rows, groups = np.asarray(embeddings, dtype=np.float64)[kept], groups[kept]
    found = linear_probe(rows, groups)
    right, sizes = _by_group(found == groups, groups)
    likely = (right + 1) / (sizes + 2)  # Laplace's: ten of ten right are no certainty
    error = float(np.sqrt((likely * (1 - likely) / sizes).sum()) / len(sizes))
    probe = float((right / sizes).mean())
    return Separability(probe, error, 1 / len(sizes), silhouette(rows, groups), len(rows), len(sizes))


def linear_probe(embeddings: Vectors, groups: Groups, penalty: float = PENALTY) -> Groups:
    """(R,), the group that a linear probe gives each row: one fitted to the other folds only.

    The probe (Alain & Bengio, 2016) is a ridge regression to one-hot groups (Hoerl & Kennard, 1970), which has a closed
    form; each group weighs the same, so a large one is not favoured. Rows are dealt to five folds group by group.

    Args:
        groups: 0 to G - 1.
        penalty: relative to the variance of the rows that are fitted.
    """
    wanted = np.eye(int(groups.max()) + 1)[groups]  # (R, G)
    dealt = folds(groups)
    found = np.empty_like(groups)
    for fold in np.unique(dealt):
        held, fitted = dealt == fold, dealt != fold
        scores = _ridge(embeddings[fitted], wanted[fitted], embeddings[held], penalty)
        found[held] = scores.argmax(1)
    return found


def folds(groups: Groups, count: int = FOLDS) -> Groups:
    """(R,), to which fold each row is dealt: the rows of each group in turn, so that every fold has some of each."""
    dealt = np.empty_like(groups)
    start = 0
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        dealt[rows] = (start + np.arange(len(rows))) % count
        start += len(rows)
    return dealt


def silhouette(embeddings: Vectors, groups: Groups) -> float:
    """The mean silhouette (Rousseeuw, 1987) by the cosine distance: 1 tight, 0 mixed, below 0 in the wrong group."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.where(lengths > 0, lengths, 1)
    member = np.eye(int(groups.max()) + 1)[groups]  # (R, G)
    sizes = member.sum(0)
    distances = (1 - unit @ unit.T) @ member  # (R, G), summed over each group
    rows = np.arange(len(groups))
    within = distances[rows, groups] / np.maximum(sizes[groups] - 1, 1)
    beside = distances / np.maximum(sizes, 1)
    beside[:, sizes == 0] = np.inf
    beside[rows, groups] = np.inf
    nearest = beside.min(1)
    larger = np.maximum(within, nearest)
    values = np.where((larger > 0) & (sizes[groups] > 1), (nearest - within) / np.where(larger > 0, larger, 1), 0)
    return float(values.mean())


def _ridge(rows: Vectors, wanted: Vectors, held: Vectors, penalty: float) -> Vectors:
    """The scores of held rows by a ridge regression fitted to others, each group weighing the same; the intercept free.

    Solved in the space of the rows, of which there are fewer than channels: with A = sqrt(w) (x - mean),
    scores = (held - mean) A^T (A A^T + penalty)^-1 sqrt(w) (wanted - mean) + mean.
    """
    weights = (wanted / np.maximum(wanted.sum(0), 1)).sum(1)
    weights = weights / weights.sum()
    middle, offset = weights @ rows, weights @ wanted
    root = np.sqrt(weights)[:, None]
    scaled = root * (rows - middle)
    gram = scaled @ scaled.T
    variance = max(float(np.trace(gram)), np.finfo(float).tiny)
    solved = np.linalg.solve(gram + penalty * variance * np.eye(len(gram)), root * (wanted - offset))
    return (held - middle) @ (scaled.T @ solved) + offset


def _numbered(names: Sequence[str | None]) -> Groups:
    """(R,), 0 to G - 1 in the order of the names; -1 for None and for groups of one row."""
    counted: dict[str, int] = {}
    for name in names:
        if name is not None:
            counted[name] = counted.get(name, 0) + 1
    number = {name: i for i, name in enumerate(sorted(name for name, count in counted.items() if count > 1))}
    return np.array([-1 if name is None else number.get(name, -1) for name in names], dtype=np.int64)


def _by_group(right: NDArray[np.bool_], groups: Groups) -> tuple[Vectors, Vectors]:
    return np.bincount(groups, weights=right).astype(np.float64), np.bincount(groups).astype(np.float64)
