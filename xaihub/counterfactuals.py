"""What the classifier calls something else: the nearest such references, and the picture with a few of their cells."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.discriminant import discriminant_maps, margin_map
from xaihub.embedders import Batch
from xaihub.found import Place, Seen, distance, evidence_of, left_out, none_of, place_of, see
from xaihub.maps import shown
from xaihub.methods import Query, method
from xaihub.passes import tap
from xaihub.quality import SUSPICIOUS, boundary, diversity, plausibility
from xaihub.records import Evidence, Facts
from xaihub.references import Neighbour
from xaihub.swaps import Candidate, Flip, boxes_of, changed, lengths, numbers, smallest_flip, swap_order
from xaihub.unlike import candidates, nearest_first

__all__ = ["counterfactuals", "semifactuals", "swap"]

CANDIDATES = 5  # neighbours that cells are taken from
SPARE = 3  # neighbours that stand by for those whose stored picture is called otherwise: one of a hundred


@method("counterfactuals", needs=("target layer", "references"))
def counterfactuals(query: Query) -> tuple[Evidence, ...]:
    """The references nearest to the picture among those that the classifier gives another class.

    Nearest unlike neighbours (Dasarathy, 1991), by the classifier's own prediction: filtered by the dataset's label,
    many would be pictures that it calls the same. The class is the runner-up unless another one is asked for. Of the
    nearest, those come first whose label agrees, and that the classifier is sure of. It is asked again about each
    stored picture: what it then calls something else gives way to the next nearest, or is flagged and comes last.
    """
    place = place_of(query)
    out = left_out(query, place, "counterfactuals")
    near = candidates(query, place, out, "counterfactuals", query.k, spare=SPARE)
    if not near:
        return ()
    found, seen, said = _confirmed(query, place, near)
    lies = boundary(query, place, out)
    if lies["where"] == SUSPICIOUS:
        query.note("counterfactuals", "The nearest picture of another class lies nearer than any of its own class.")
    vectors = place.vectors([neighbour.row for neighbour in found])
    far, shown_apart = _plausible(query, place, found, vectors), diversity(place, vectors)
    cards: list[Facts] = []
    for neighbour, each in zip(found, far, strict=True):
        valid, now = said.get(neighbour.row, (None, None))
        cards.append({**lies, "valid": valid, "asked again": now, "plausibility": each, "diversity": shown_apart})
    return _against(query, place, "counterfactual", found, seen, cards)


@method("semifactuals", needs=("target layer", "references"), title="Semi-factuals")
def semifactuals(query: Query) -> tuple[Evidence, ...]:
    """Even if it looked like this: references of the picture's own class that lie nearest to a counterfactual.

    KLEOR's Global-Sim (Cummins & Bridge, 2006): of the references that are predicted as the picture is, and that lie
    nearer to it than its nearest unlike neighbour does, the ones nearest to that neighbour.
    """
    place, own = place_of(query), query.prediction.index
    out = left_out(query, place, "semifactuals")
    unlike = candidates(query, place, out, "semifactuals", 1, prefer=False)
    if not unlike:
        return ()
    found = _towards(place, unlike[0], own, out, query.k)
    label = query.classifier.labels[own]
    if not found:
        why = f"no reference predicted {label!r} lies nearer to the picture than its counterfactual does"
        if not place.nearest(1, predicted=own, leave_out=out):
            why = none_of(place.references, own)
        query.note("semifactuals", f"There is no semi-factual to show: {why}.")
        return ()
    seen = see(query, place.references, [neighbour.row for neighbour in found], "semifactuals")
    away = distance(unlike[0].similarity)
    apart = place.distances(place.vectors([unlike[0].row])[0], place.vectors([n.row for n in found]))
    cards: list[Facts] = [
        {"counterfactual": place.references.keys[unlike[0].row], "to counterfactual": d, "on the way": d < away}
        for d in apart
    ]
    return _against(query, place, "semifactual", found, seen, cards, int(place.references.predicted[unlike[0].row]))


def _most(classifier: Classifier) -> int:
    """Pictures that a patch swap asks about at most, the candidates among them."""
    layer = classifier.target_layer
    steps = lengths(layer.grid[0] * layer.grid[1]) if layer else []
    finer = steps[0] - 1 if steps else 0
    return CANDIDATES * (len(steps) + finer) + CANDIDATES + 2  # the picture itself before, the composite after


@method("swap", needs=("target layer", "references"), title="Patch swap", passes=_most)
def swap(query: Query) -> tuple[Evidence, ...]:
    """A few cells of a counterfactual that, put into the picture itself, make the classifier call it that.

    After Goyal et al., 2019 (arXiv:1904.07451). Cells stay in their place and are taken in the order of what they do
    for the margin in feature space; each composite is a real picture that the whole classifier is asked about. Of the
    five nearest candidates the one with the smallest number of cells found is shown, then the nearest. On grids of more
    than 65 cells not every number is asked; a note says which.
    """
    place = place_of(query)
    out = left_out(query, place, "swap")
    found = sorted(candidates(query, place, out, "swap", CANDIDATES), key=nearest_first)
    if not found:
        return ()
    givers = _givers(query, place, found)
    if not givers:
        return ()
    key = "swap", id(place.references), tuple((giver.row, giver.target) for giver in givers)
    flip, asked, _ = query.once(key, lambda: (*_search(query, givers), place.references))  # held, so that its id stays
    if flip is None:
        query.note("swap", _none_found(query, givers, asked))
        return ()
    steps = lengths(flip.swapped.size)
    if steps[0] > 1:
        query.note(
            "swap",
            f"Not every number of cells was asked: {numbers(steps)} of {flip.swapped.size}, until one changed the"
            f" answer, then the numbers between it and the one before. {flip.cells} is the smallest that was found;"
            " fewer may do.",
        )
    return (_swapped(query, place, givers, flip, asked, out),)


def _confirmed(
    query: Query, place: Place, near: Sequence[Neighbour]
) -> tuple[list[Neighbour], Seen, dict[int, tuple[bool, str]]]:
    """The first k that the classifier calls what they are said to be when asked again; others only to fill up."""

    def looked_at(some: Sequence[Neighbour]) -> tuple[Seen, dict[int, tuple[bool, str]]]:
        seen = see(query, place.references, [neighbour.row for neighbour in some], "counterfactuals")
        return seen, _asked_again(query, seen)

    found = list(near[: query.k])
    seen, said = looked_at(found)
    if all(same for same, _ in said.values()):
        return found, seen, said
    said |= looked_at(near[query.k :])[1]
    found = sorted(near, key=lambda neighbour: said.get(neighbour.row, (True, ""))[0] is False)[: query.k]
    return found, *looked_at(found)


def _asked_again(query: Query, seen: Seen) -> dict[int, tuple[bool, str]]:
    """Row -> whether the classifier calls the picture that is stored what its references say, and what it calls it."""
    if seen.passed is None or query.references is None:
        return {}
    now = seen.passed.logits.detach().argmax(1).tolist()
    said = query.references.predicted[list(seen.rows)].tolist()
    labels = query.classifier.labels
    return {row: (a == b, labels[a]) for row, a, b in zip(seen.rows, now, said, strict=True)}


def _plausible(query: Query, place: Place, found: Sequence[Neighbour], vectors: Tensor) -> list[float | None]:
    rows = [neighbour.row for neighbour in found]
    classes = place.references.predicted[rows].tolist()
    return [
        plausibility(query, place, vector[None], index, [row])[0]
        for row, index, vector in zip(rows, classes, vectors, strict=True)
    ]


def _towards(place: Place, unlike: Neighbour, own: int, out: NDArray[np.int64], k: int) -> list[Neighbour]:
    """The k rows of a class nearest to a row of another, of those nearer to the query than that row is."""
    towards, most = place.vectors([unlike.row])[0], 256
    while True:
        near = [n.row for n in place.nearest(most, to=towards, predicted=own, leave_out=out)]
        apart = place.distances(place.vector, place.vectors(near)) if near else []
        within = [(row, d) for row, d in zip(near, apart, strict=True) if d < distance(unlike.similarity)]
        if len(within) >= k or len(near) < most:
            return [Neighbour(row, 1 - d * d / 2) for row, d in within[:k]]
        most *= 8


def _against(
    query: Query,
    place: Place,
    kind: str,
    found: Sequence[Neighbour],
    seen: Seen,
    cards: Sequence[Facts],
    other: int | None = None,
) -> tuple[Evidence, ...]:
    """Each neighbour with what on it speaks for its own class rather than the query's, or than another one."""
    references = place.references
    against = query.prediction.index if other is None else other
    classes = references.predicted[list(seen.rows)].tolist()
    heat, exact = None, torch.zeros(0, dtype=torch.bool)
    if seen.passed is not None:
        raw, exact = discriminant_maps(query, seen.passed, classes, [against] * len(classes))
        heat = raw, shown(raw, seen.size)
    evidence = []
    for neighbour, card in zip(found, cards, strict=True):
        adds = neighbour.row in seen.rows and bool(exact[seen.rows.index(neighbour.row)])
        own, label = references.class_names[references.predicted[neighbour.row]], references.class_names[against]
        says = f"Marked is what speaks for {own!r} rather than {label!r}." if neighbour.row in seen.rows else ""
        if card.get("valid") is False:
            says = f"The stored picture is called {card['asked again']!r} when asked again. {says}"
        if kind == "semifactual":
            way = f"It lies nearer to the nearest {label!r} than your picture does. " if card["on the way"] else ""
            says = f"Even if it looked like this, the classifier would still say {own!r}. {way}{says}"
        facts = {"against": label, "signed": adds, "exact": adds, "map": "discriminant", **card}
        evidence.append(evidence_of(query, place, kind, neighbour, seen, heat, says=says.strip(), facts=facts))
    return tuple(evidence)


@dataclass(frozen=True, eq=False)
class _Giver(Candidate):
    """A reference that cells may come from."""

    row: int


def _givers(query: Query, place: Place, found: Sequence[Neighbour]) -> list[_Giver]:
    """The references whose pictures are there and of the query's size, with the order of their cells."""
    references = place.references
    seen = see(query, references, [neighbour.row for neighbour in found], "swap")
    if seen.passed is None:
        return []
    own = query.prediction.index
    grid, size = query.activations.shape[1:], query.view.image.size
    targets = references.predicted[list(seen.rows)].tolist()
    theirs = margin_map(seen.passed, targets, [own] * len(targets))
    if theirs.shape[1:] != grid or seen.images[0].size != size or grid.numel() < 2:
        query.note("swap", "No cells can be swapped: the pictures have one cell only, or cells of different sizes.")
        return []
    ours = {target: margin_map(query.passed, [target], [own])[0] for target in set(targets)}
    return [
        _Giver(image, swap_order(ours[target], cells), target, row)
        for row, image, target, cells in zip(seen.rows, seen.images, targets, theirs, strict=True)
    ]


def _search(query: Query, givers: Sequence[_Giver]) -> tuple[Flip | None, int]:
    classifier = query.classifier

    def ask(pictures: Sequence[Image.Image]) -> Tensor:
        return classifier.logits(torch.stack([classifier.transform.pixels_of(picture) for picture in pictures]))

    rows, columns = query.activations.shape[1:]
    return smallest_flip(query.view.image, givers, (rows, columns), ask, classifier.batch, query.progress)


def _none_found(query: Query, givers: Sequence[_Giver], asked: int) -> str:
    wanted = " or ".join(sorted({repr(query.classifier.labels[giver.target]) for giver in givers}))
    cells = query.activations[0].numel()
    tried = numbers(lengths(cells))
    return (
        f"No pixel counterfactual was found: of {asked} pictures with {tried} of {cells} cells from the"
        f" {len(givers)} nearest references, the classifier calls none {wanted}."
    )


def _swapped(
    query: Query, place: Place, givers: Sequence[_Giver], flip: Flip, asked: int, out: NDArray[np.int64]
) -> Evidence:
    """The composite, with what the classifier said before and says now."""
    giver, own, labels = givers[flip.candidate], query.prediction.index, query.classifier.labels
    before, after = (query.classifier.probabilities(logits).tolist() for logits in (flip.before, flip.after))
    target, key, of = giver.target, place.references.keys[giver.row], flip.swapped.size
    near, typical = query.once(("composite", flip), lambda: _lies(query, place, flip.picture, giver, out))
    return Evidence(
        flip.picture,
        f"With {flip.cells} of {of} cells from {key}, the classifier says {labels[target]!r} at {after[target]:.0%}"
        f" (before: {before[target]:.0%}) and {labels[own]!r} at {after[own]:.0%} (before: {before[own]:.0%})."
        " It was asked about this very picture.",
        score=after[target],
        boxes=boxes_of(flip.swapped, flip.picture.size),
        facts={
            "kind": "swap",
            "key": key,
            "predicted": labels[target],
            "target": labels[target],
            "original": labels[own],
            "cells": flip.cells,
            "of": of,
            "target before": before[target],
            "target after": after[target],
            "original before": before[own],
            "original after": after[own],
            "verified": True,
            "candidates": len(givers),
            "forwards": asked,
            "changed": changed(query.view.image, flip.picture, flip.swapped),
            "distance": near,
            "plausibility": typical,
        },
    )


def _lies(
    query: Query, place: Place, picture: Image.Image, giver: _Giver, out: NDArray[np.int64]
) -> tuple[float, float | None]:
    """How far a composite lies from the query, and how typical of its new class it is.

    Of both pictures that it is made of, the rows (`out` are the query's) are left out: near them it lies anyway.
    """
    with tap(query.classifier) as run:
        passed = run(query.classifier.transform.pixels_of(picture)[None])
    vector = place.embedder.embed(Batch((picture,), passed, query.classifier.activation)).detach().float().cpu()
    near = place.distances(place.vector, vector)[0]
    return near, plausibility(query, place, vector, giver.target, out=[giver.row, *out.tolist()])[0]
