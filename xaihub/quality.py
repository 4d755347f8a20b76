"""How good a counterfactual is, in numbers: how near, how typical of its class, and how different from the others."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from xaihub.found import Place, distance
from xaihub.index import Where
from xaihub.methods import Query

__all__ = ["boundary", "diversity", "plausibility"]

_NEAREST = 5  # of a class say how far into it a picture lies
_SAMPLE = 32  # pictures of a class say how far into it its own lie
_NEAR = 0.95  # of the distance to another class: from here on a picture lies near the boundary

INSIDE = "inside its class"
NEAR = "near the boundary"
SUSPICIOUS = "nearer to another class than to its own"


def boundary(query: Query, place: Place, out: NDArray[np.int64]) -> dict[str, float | str | None]:
    """How far the query lies from the nearest reference of its own predicted class and of any other, and their ratio.

    Below 1 it lies inside its class, near 1 near the boundary; above 1 the answer is suspicious.
    """
    own = query.prediction.index
    like = place.nearest(1, predicted=own, leave_out=out)
    unlike = place.nearest(1, predicted_not=own, leave_out=out)
    near, far = (distance(found[0].similarity) if found else None for found in (like, unlike))
    ratio = near / far if near is not None and far else None
    return {"nearest like": near, "nearest unlike": far, "like to unlike": ratio, "where": _in_words(ratio)}


def _in_words(ratio: float | None) -> str | None:
    if ratio is None:
        return None
    return SUSPICIOUS if ratio > 1 else NEAR if ratio >= _NEAR else INSIDE


def plausibility(
    query: Query, place: Place, vectors: Tensor, index: int, rows: Sequence[int] = (), out: Sequence[int] = ()
) -> list[float | None]:
    """How far vectors (n, K) lie from their 5 nearest references of a predicted class, beside the class's own median.

    At most about 1, a picture is as typical of the class as the class's own; None where the class is too small to say.

    Args:
        rows: which references the vectors are, if they are any, so that none is its own neighbour.
        out: rows that are no neighbour of any.
    """
    typical = query.once(
        ("typical", id(place.references), place.space, index), lambda: (_typical(place, index), place.references)
    )[0]
    far = _spread(place, vectors, index, rows, out)
    return [None if each is None or not typical else each / typical for each in far]


def diversity(place: Place, vectors: Tensor) -> float | None:
    """The mean distance between each two of vectors (n, K); None of fewer than two."""
    apart = [d for i, one in enumerate(vectors) for d in place.distances(one, vectors[i + 1 :])]
    return float(np.mean(apart)) if apart else None


def _typical(place: Place, index: int) -> float | None:
    """The median, over rows of a class, of their own distance to their 5 nearest in it; None of a class of one."""
    span = place.references.slices.get(index, slice(0, 0))
    rows = np.unique(np.linspace(span.start, span.stop - 1, min(_SAMPLE, span.stop - span.start)).astype(np.int64))
    if not len(rows):
        return None
    far = [each for each in _spread(place, place.vectors(rows.tolist()), index, rows.tolist(), ()) if each is not None]
    return float(np.median(far)) if far else None


def _spread(place: Place, vectors: Tensor, index: int, rows: Sequence[int], out: Sequence[int]) -> list[float | None]:
    """The mean distance of each vector (n, K) to its 5 nearest references of a class, itself left out."""
    where, index_of = Where(predicted=index, leave_out=list(out)), place.references.index(place.space)
    found, cosines = index_of.search(vectors.float(), _NEAREST + 1, where, weights=place.weights)
    own = np.array(rows if len(rows) else [-1] * len(found))[:, None]
    spread: list[float | None] = []
    for kept, values in zip((found >= 0) & (found != own), cosines, strict=True):
        near = [distance(float(value)) for value in values[kept][:_NEAREST]]
        spread.append(float(np.mean(near)) if near else None)
    return spread
