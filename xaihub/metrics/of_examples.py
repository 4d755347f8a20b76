"""How good the examples are that one picture is explained by: twins, counterfactuals and prototypes.

A metric here is `f(query, method)` -> a number, or not a number where it says nothing of the picture. What a method
showed is asked of the query, which computes it once for all metrics.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from xaihub.classifier import Classifier
from xaihub.fidelity import AT, FEWEST, Found, of_class, sides, summary
from xaihub.found import left_out, place_of
from xaihub.methods import METHODS, Query
from xaihub.metrics.table import metric
from xaihub.prototype_health import Health, health, kept_in_place
from xaihub.prototype_maps import look
from xaihub.prototype_sheet import reading_of
from xaihub.records import Evidence
from xaihub.references import ReferenceSet

__all__ = [
    "agreement_at_1", "agreement_at_3", "agreement_at_5", "coverage", "plausibility", "probability_error", "proximity",
    "purity", "sparsity", "stability", "validity",
]  # fmt: skip


@metric("agreement@1", higher_is_better=True, category="examples", of="twins", title="Agreement of the nearest")
def agreement_at_1(query: Query, method: str = "twins") -> float:  # noqa: ARG001  all are called alike
    """Whether the nearest reference of any class is predicted as the picture is: then twins stand for the classifier.

    Searched in all classes, the picture and its near copies left out (Kenny & Keane, 2019): within the predicted class
    agreement would be no merit.
    """
    return _fidelity(query)["agreement@1"][0]


@metric("agreement@3", higher_is_better=True, category="examples", of="twins", title="Agreement of the nearest 3")
def agreement_at_3(query: Query, method: str = "twins") -> float:  # noqa: ARG001
    """Whether most of the 3 nearest references are predicted as the picture is; see `agreement@1`."""
    return _fidelity(query)["agreement@3"][0]


@metric("agreement@5", higher_is_better=True, category="examples", of="twins", title="Agreement of the nearest 5")
def agreement_at_5(query: Query, method: str = "twins") -> float:  # noqa: ARG001
    """Whether most of the 5 nearest references are predicted as the picture is; see `agreement@1`."""
    return _fidelity(query)["agreement@5"][0]


@metric("probability-error", higher_is_better=False, category="examples", of="twins", title="Probability error")
def probability_error(query: Query, method: str = "twins") -> float:  # noqa: ARG001
    """How far the picture's probabilities lie from the mean of its 3 nearest references', from 0 (alike) to 1.

    Half the sum of the differences where classes exclude each other, else their mean.
    """
    value = _fidelity(query)["probability_error@3"][0]
    return math.nan if value is None else value


@metric("validity", higher_is_better=True, category="examples", of="counterfactuals")
def validity(query: Query, method: str = "counterfactuals") -> float:
    """Whether the classifier, asked again about the picture that is shown, calls it another class than this one.

    A patch swap that found nothing counts as 0, and so does a picture without any counterfactual. The nearest stored
    picture of another predicted class is valid by construction, unless storing it changed the answer.
    """
    shown = _shown(query, method)
    if not shown:
        return 0.0
    facts = shown[0].facts
    said = facts.get("verified") if method == "swap" else facts.get("valid")
    return math.nan if said is None else float(bool(said))


@metric("proximity", higher_is_better=False, category="examples", of="counterfactuals")
def proximity(query: Query, method: str = "counterfactuals") -> float:
    """How far the nearest counterfactual lies from the picture, as its class sees it: 0 is the picture, 2 its opposite.

    The distance of two vectors of length one, in the space that is searched.
    """
    return _fact(query, method, "distance")


@metric("sparsity", higher_is_better=False, category="examples", of="counterfactuals")
def sparsity(query: Query, method: str = "swap") -> float:
    """What share of the picture's cells had to be exchanged before the answer changed (Goyal et al., 2019).

    Of a picture that stands for itself, as the nearest reference does, it says nothing.
    """
    return _fact(query, method, "cells") / _fact(query, method, "of") if method == "swap" else math.nan


@metric("plausibility", higher_is_better=False, category="examples", of="counterfactuals")
def plausibility(query: Query, method: str = "counterfactuals") -> float:
    """How far the counterfactual lies from pictures of its new class, beside what is usual there; to 1 is typical.

    Its mean distance to the 5 nearest references of that class, over the median of the class's own.
    """
    return _fact(query, method, "plausibility")


@metric("purity", higher_is_better=True, category="prototypes", of="prototypes")
def purity(query: Query, method: str = "prototypes") -> float:  # noqa: ARG001
    """Of the patches nearest to the prototypes that speak for the class here, the share that is of their own class.

    The 6 nearest patches among the references, as Chen et al. (2019, supplement) prune; weighed by the points that each
    prototype adds to this picture's logit.
    """
    if query.references is None:
        return math.nan
    told = _health(query.classifier, query.references).prototypes
    spoke = _speaking(query)
    known = [(points, told[place].purity) for place, points in spoke.items() if told[place].purity is not None]
    total = sum(points for points, _ in known)
    return sum(points * float(pure or 0) for points, pure in known) / total if total else math.nan


@metric("coverage", higher_is_better=True, category="prototypes", of="prototypes")
def coverage(query: Query, method: str = "prototypes") -> float:  # noqa: ARG001
    """Whether any prototype of the class is active in the picture: without one, nothing shown stands for the answer."""
    return float(bool(_speaking(query)))


@metric("stability", higher_is_better=True, category="prototypes", of="prototypes", passes=3)
def stability(query: Query, method: str = "prototypes") -> float:  # noqa: ARG001
    """How often a prototype of the class stays in its place, or next to it, under a small shift and under noise."""
    spoke = list(_speaking(query))
    if not spoke:
        return math.nan
    generator = torch.Generator().manual_seed(0)
    return float(kept_in_place(query.classifier, query.view.pixels, generator)[:, spoke].double().mean())


def _fidelity(query: Query) -> dict[str, Any]:
    """The figures of `fidelity.summary`, of this picture alone."""
    references = query.references
    if references is None:
        raise ValueError("Twins are searched among references; give the query `references=`.")

    def asked() -> dict[str, Any]:
        place = place_of(query)
        out = left_out(query, place, "twins")
        rows = [neighbour.row for neighbour in place.nearest(max(AT), leave_out=out)]
        nearest = np.full((1, max(AT)), -1, dtype=np.int64)
        nearest[0, : len(rows)] = rows
        like = place.nearest(1, predicted=query.prediction.index, leave_out=out)
        found = Found(
            nearest,
            np.array([like[0].row if like else -1]),
            np.array([like[0].similarity if like else 0], dtype=np.float32),
        )
        if not rows:
            return {**{f"agreement@{k}": [math.nan] for k in AT}, "probability_error@3": [None]}
        found, used = found.compact()
        own = sides(query.classifier, query.logits[None].cpu(), np.array([query.prediction.index]))
        theirs = sides(query.classifier, references.logits[torch.from_numpy(used)], references.predicted[used])
        enough = of_class(references, query.prediction.index, out) >= FEWEST
        figures = summary(found, own, theirs)
        return figures if enough else figures | {f"agreement@{k}": [math.nan] for k in AT}

    figures, _ = query.once(("fidelity", id(references)), lambda: (asked(), references))  # held, so that its id stays
    return dict(figures)


def _shown(query: Query, method: str) -> tuple[Evidence, ...]:
    """What the method shows of the picture."""
    key = "shown", method, id(query.references), query.target
    shown, _ = query.once(key, lambda: (METHODS[method].run(query), query.references))
    return tuple(shown)


def _fact(query: Query, method: str, name: str) -> float:
    """A number that the first of what is shown says of itself."""
    shown = _shown(query, method)
    value = shown[0].facts.get(name) if shown else None
    return math.nan if value is None else float(value)


def _speaking(query: Query) -> dict[int, float]:
    """Prototype of the explained class -> the points it adds to this picture's logit, where it adds any."""
    made = query.classifier.prototypes
    if made is None:
        raise ValueError(f"{query.classifier.repo_id} does not answer by prototypes.")
    points = made.network.head.points(reading_of(query).scores[:1]).detach()[0, query.target]  # (P,)
    return {place: float(points[place]) for place in made.of_class(query.target) if points[place] > 0}


@lru_cache(maxsize=1)
def _health(classifier: Classifier, references: ReferenceSet) -> Health:
    """One look at all references serves every picture that is asked about."""
    return health(classifier, look(classifier, references))
