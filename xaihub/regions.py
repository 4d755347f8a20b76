"""Which cells of two pictures carry the evidence that they share, and what a cell carries at all.

Letters: N pictures, K channels, h x w cells of the target layer. Terms are activations times gradients, (K, h, w); the
evidence of a cell is their sum over the channels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from xaihub.passes import Pass
from xaihub.records import Box

__all__ = [
    "MARGIN",
    "Cell",
    "Pair",
    "adds_up",
    "cell_box",
    "cell_evidence",
    "centred_score",
    "pairs",
    "told_by_head",
]  # fmt: skip

Cell = tuple[int, int]  # row, column

MARGIN = 0.25  # of a cell, drawn on each side of it: what a cell answers to does not end at its edge
MOST_PAIRS = 3

_EXACT = 1e-4  # of the larger of the sum and the strongest cell
_MOST_CELLS = 4096  # of a picture are compared: of finer grids the strongest


@dataclass(frozen=True)
class Pair:
    """A cell of the query and the cell of its twin that carries the same evidence.

    Attributes:
        similarity: cosine of their terms.
        share: of the query's positive evidence, what its cell carries; `twin_share` likewise.
    """

    query: Cell
    twin: Cell
    similarity: float
    share: float
    twin_share: float


def cell_evidence(activations: Tensor, gradients: Tensor) -> Tensor:
    """(..., h, w) of (..., K, h, w): to first order, what each cell adds to the logit that the gradients are of."""
    return (activations * gradients).sum(-3)


def told_by_head(passed: Pass, score: Tensor) -> Tensor | None:
    """(N,), the score less the head's bias, for any sum (N,) of logits; None where no linear head gives the logits."""
    gradients, read = passed.head_gradients(score), passed.penultimate
    return None if gradients is None or read is None else (gradients * read).sum(1)


def adds_up(cells: Tensor, told: Tensor | None, rounding: float = 0.0) -> Tensor:
    """(N,) bool: whether the cells' evidence (N, h, w) and the head's bias are the logit, but for rounding.

    They are where only a mean over places lies between the layer and a linear head, and are not with a further
    nonlinear layer: nothing may then be said of their sum.

    Args:
        told: (N,), the logit less the head's bias, as `told_by_head` gives it; None where nobody knows.
        rounding: of the network's own numbers, where it is in half precision.
    """
    if told is None:
        return torch.zeros(len(cells), dtype=torch.bool, device=cells.device)
    places = cells.flatten(1).double()
    scale = torch.maximum(told.double().abs(), places.abs().amax(1))
    return (places.sum(1) - told.double()).abs() <= max(_EXACT, rounding) * scale


def centred_score(passed: Pass, targets: Tensor | list[int], activation: Literal["softmax", "sigmoid"]) -> Tensor:
    """(N,), each target's logit; where classes exclude each other, less the mean of all of them.

    One vector added to all rows of a linear head changes no answer, so it must change no evidence.
    """
    score = passed.score(targets)
    return score - passed.logits.mean(1) if activation == "softmax" else score


def pairs(query_terms: Tensor, twin_terms: Tensor, most: int = MOST_PAIRS) -> tuple[Pair, ...]:
    """Cells of query and twin that carry the same evidence, strongest first, at most so many and none side by side.

    After the latent parts of Kenny, Delaney & Keane, 2023 (arXiv:2311.03246): each is the other's nearest by the cosine
    of their terms, and a pair counts by evidence times evidence times cosine, of which all must be positive. Ours is
    that a cell must carry at least an average cell's share: less would be marked, and mean nothing. A picture of a
    single cell has no parts, so no pairs.

    Args:
        query_terms: (K, h, w) for the query's class; `twin_terms` (K, h', w') for the same class.
    """
    if min(query_terms[0].numel(), twin_terms[0].numel()) < 2:
        return ()
    (ours, own), (theirs, other) = _cells(query_terms), _cells(twin_terms)
    cosines = normalize(ours, dim=1) @ normalize(theirs, dim=1).t()
    nearest = cosines.argmax(1)
    mutual = cosines.argmax(0)[nearest] == torch.arange(len(nearest), device=nearest.device)
    similarity = cosines.amax(1)
    evidence, answering = ours.sum(1), theirs.sum(1)[nearest]
    share, twin_share = _share(evidence, query_terms), _share(answering, twin_terms)
    enough = (share * query_terms[0].numel() >= 1) & (twin_share * twin_terms[0].numel() >= 1)
    scores = evidence.relu() * answering.relu() * similarity.relu() * (mutual & enough)
    found: list[Pair] = []
    for i in scores.argsort(descending=True, stable=True)[: int((scores > 0).sum())].tolist():
        here = divmod(int(own[i]), query_terms.shape[2])
        there = divmod(int(other[nearest[i]]), twin_terms.shape[2])
        if not any(_touch(here, pair.query) or _touch(there, pair.twin) for pair in found):
            found.append(Pair(here, there, float(similarity[i]), float(share[i]), float(twin_share[i])))
        if len(found) == most:
            break
    return tuple(found)


def _share(evidence: Tensor, terms: Tensor) -> Tensor:
    """Of cells' evidence (n,) in all the positive evidence of their picture."""
    return evidence / terms.sum(0).relu().sum().clamp_min(torch.finfo(terms.dtype).tiny)


def cell_box(cell: Cell, grid: tuple[int, int], size: tuple[int, int], margin: float = MARGIN) -> Box:
    """A cell with its margin in the pixels of a crop, cut off at its edges.

    It is where the cell lies, not all that it answers to: that may be the whole picture.

    Args:
        grid: rows and columns. `size`: the crop's width and height.
        margin: on each side, in cells.
    """
    (row, column), (rows, columns), (width, height) = cell, grid, size
    wide, high = width / columns, height / rows
    return (
        max(0.0, (column - margin) * wide),
        max(0.0, (row - margin) * high),
        min(float(width), (column + 1 + margin) * wide),
        min(float(height), (row + 1 + margin) * high),
    )


def _cells(terms: Tensor) -> tuple[Tensor, Tensor]:
    """(n, K) the terms of a picture's cells, and (n,) which cells they are: all of them, or the strongest."""
    places = terms.flatten(1).t()
    if len(places) <= _MOST_CELLS:
        return places, torch.arange(len(places), device=terms.device)
    strongest = places.sum(1).topk(_MOST_CELLS).indices.sort().values
    return places[strongest], strongest


def _touch(one: Cell, other: Cell) -> bool:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) <= 1
