"""Twins: the references that the classifier treats as it treats the picture, and the cells they owe that to."""

from collections.abc import Sequence
from typing import TypedDict

from torch import Tensor

from xaihub.cams import CAMS
from xaihub.found import Place, Seen, evidence_of, left_out, none_of, place_of, see
from xaihub.maps import shown
from xaihub.methods import METHODS, Query, method
from xaihub.passes import Pass
from xaihub.records import Box, Evidence, Facts
from xaihub.regions import Pair, cell_box, centred_score, pairs

__all__ = ["twins"]

_NO_PAIRS = (
    "No two cells of the picture and of {some} are each other's nearest and both speak for {label!r} more than an"
    " average cell does, so no regions are marked there."
)


@method("twins", needs=("target layer", "references"))
def twins(query: Query) -> tuple[Evidence, ...]:
    """The references nearest to the picture among those that the classifier gives the same class.

    Twin systems: Kenny & Keane, 2019, "Twin-systems to explain artificial neural networks using case-based reasoning".
    Each twin comes with the regions that carry the evidence it shares with the picture, where there are any.
    """
    place, predicted = place_of(query), query.prediction.index
    found = place.nearest(query.k, predicted=predicted, leave_out=left_out(query, place, "twins"))
    if not found:
        query.note("twins", f"{none_of(place.references, predicted)}, so there is no twin to show.")
    seen = see(query, place.references, [neighbour.row for neighbour in found], "twins")
    if seen.passed is None:
        return tuple(evidence_of(query, place, "twin", neighbour, seen, None) for neighbour in found)
    heat, shared = _heat(query, seen, seen.passed), _shared(query, place, seen, seen.passed)
    return tuple(
        evidence_of(query, place, "twin", neighbour, seen, heat, **shared.get(neighbour.row, {})) for neighbour in found
    )


class _Regions(TypedDict, total=False):
    """What `evidence_of` says of the regions of one twin."""

    says: str
    facts: Facts
    boxes: tuple[tuple[Box, ...], tuple[Box, ...]]


def _heat(query: Query, seen: Seen, passed: Pass) -> tuple[Tensor, Tensor]:
    """(N, h, w) raw and (N, H, W) shown, each picture's own heat for the class, by the map that is asked for."""
    name = query.map if query.map in CAMS else "gradcam"
    raw = CAMS[name](passed.activations, passed.gradients([query.prediction.index] * len(seen.rows)))
    return raw, shown(raw, seen.size, signed=METHODS[name].signed)


def _shared(query: Query, place: Place, seen: Seen, passed: Pass) -> dict[int, _Regions]:
    """Row -> the regions of its picture and of the query's that carry the evidence both share."""
    ours, theirs = _terms(query, query.passed)[0], _terms(query, passed)
    grid, size = (theirs.shape[2], theirs.shape[3]), (seen.size[1], seen.size[0])
    found: dict[int, _Regions] = {}
    alone: list[str] = []
    for row, terms in zip(seen.rows, theirs, strict=True):
        paired = pairs(ours, terms)
        there = tuple(cell_box(pair.twin, grid, size) for pair in paired)
        here = tuple(cell_box(pair.query, (ours.shape[1], ours.shape[2]), query.view.image.size) for pair in paired)
        found[row] = _Regions(says=_in_words(paired), facts=_facts(paired), boxes=(there, here))
        alone += [] if paired else [place.references.keys[row]]
    if alone:
        label = query.classifier.labels[query.prediction.index]
        query.note("twins", _NO_PAIRS.format(some=", ".join(alone), label=label))
    return found


def _terms(query: Query, passed: Pass) -> Tensor:
    """(N, K, h, w), activations times gradients for the query's class."""
    score = centred_score(passed, [query.prediction.index] * len(passed.logits), query.classifier.activation)
    return passed.activations * passed.gradients_of(score)


def _facts(paired: Sequence[Pair]) -> Facts:
    facts: dict[str, str | int | float | bool | None] = {"pairs": len(paired)}
    for i, pair in enumerate(paired, 1):
        facts[f"pair {i} share"] = pair.share
        facts[f"pair {i} twin share"] = pair.twin_share
        facts[f"pair {i} similarity"] = pair.similarity
    return facts


def _in_words(paired: Sequence[Pair]) -> str:
    """What the pairs carry, for the caption."""
    if not paired:
        return ""
    shares = [f"{pair.share:.0%}" for pair in paired]
    if len(shares) == 1:
        return f"The cell marked in both carries {shares[0]} of your picture's evidence for this class."
    listed = f"{', '.join(shares[:-1])} and {shares[-1]}"
    return f"The cells marked in both carry {listed} of your picture's evidence for this class."
