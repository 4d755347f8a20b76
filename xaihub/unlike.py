"""The references of another predicted class that a picture is compared with."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xaihub.found import Place, none_of
from xaihub.methods import Query
from xaihub.references import Neighbour

__all__ = ["candidates", "nearest_first"]

ANY = "any"

_POOL = 10  # nearest, among which those come first that the dataset agrees on and the classifier is sure of
_SURE = 0.5


def candidates(
    query: Query, place: Place, out: NDArray[np.int64], name: str, k: int, *, spare: int = 0, prefer: bool = True
) -> list[Neighbour]:
    """The k references that a method looks at, all of them called the class that is asked for, and some spare ones.

    Args:
        name: the method, which notes what had to be done otherwise.
        prefer: whether, of the nearest, those come first whose label agrees and that the classifier is sure of.
    """
    references, pool = place.references, max(_POOL, 2 * k)
    wanted = _wanted(query, name)
    if wanted is not None:
        found = place.nearest(pool, predicted=wanted, leave_out=out)
        if found:
            return (_preferred(place, found) if prefer else found)[: k + spare]
        if query.against is not None:
            query.note(name, f"{none_of(references, wanted)}. Ask for another class, or for any other.")
            return []
        query.note(name, f"{none_of(references, wanted)}, the runner-up, so the nearest of any other class are shown.")
    found = place.nearest(pool, predicted_not=query.prediction.index, leave_out=out)
    if not found:
        own = query.prediction.index
        all_own = f"All references are predicted {query.classifier.labels[own]!r}"
        copies = "All references of another class are this picture itself or near copies"
        query.note(
            name, f"{copies if set(references.slices) - {own} else all_own}: there is no other class to compare with."
        )
    return (_preferred(place, found) if prefer else found)[: k + spare]


def _wanted(query: Query, name: str) -> int | None:
    """The class that counterfactuals should be of; None for any other than the predicted one."""
    if query.against == ANY:
        return None
    if query.against is None:
        return query.prediction.runner_up if len(query.classifier.labels) > 1 else None
    wanted = query.classifier.class_index(query.against)
    if wanted == query.prediction.index:
        label = query.classifier.labels[wanted]
        query.note(name, f"The picture itself is called {label!r}; its nearest of any other class are shown.")
        return None
    return wanted


def _preferred(place: Place, found: Sequence[Neighbour]) -> list[Neighbour]:
    """First those whose label agrees, then those that the classifier is sure of, and among equals the nearest."""
    references = place.references

    def rank(neighbour: Neighbour) -> tuple[bool, bool]:
        label = references.labels[neighbour.row]
        named = references.class_names[references.predicted[neighbour.row]]
        return label in references.class_names and label != named, references.probability[neighbour.row] < _SURE

    return sorted(found, key=rank)  # stable: they come nearest first


def nearest_first(neighbour: Neighbour) -> tuple[float, int]:
    return -neighbour.similarity, neighbour.row
