"""What counterfactuals and verified swaps are worth: every picture asked about, among all the others."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.examples.settings import Setting
from xaihub import Query, explain_query
from xaihub.intervals import wilson


@dataclass(frozen=True)
class Asked:
    """One picture: the facts of its counterfactuals, nearest first, and of its swap, if one was found."""

    found: tuple[dict[str, Any], ...]
    swap: dict[str, Any] | None
    runner_up: str


def asked(setting: Setting, every: int = 1) -> Iterator[Asked]:
    """Each picture (or every second, third, ...) with its own counterfactuals and swap."""
    references, classifier = setting.references, setting.classifier
    for row in range(0, len(references), every):
        query = Query(classifier, references.picture(row), references=references)
        shown = explain_query(query, ["counterfactuals", "swap"])
        swap = shown.evidence.get("swap", ())
        yield Asked(
            tuple(dict(evidence.facts) for evidence in shown["counterfactuals"]),
            dict(swap[0].facts) if swap else None,
            classifier.labels[query.prediction.runner_up],
        )


def figures(setting: Setting, every: int = 1) -> dict[str, Any]:
    """The figures of the table."""
    all_of_them = list(asked(setting, every))
    neighbours = [(one, fact) for one in all_of_them for fact in one.found]
    swaps = [one.swap for one in all_of_them if one.swap is not None]
    hits = sum(bool(swap["verified"]) for swap in swaps)
    return {
        "pictures": len(all_of_them),
        "valid": float(np.mean([fact["valid"] for _, fact in neighbours])),
        "of the runner-up": float(np.mean([fact["predicted"] == one.runner_up for one, fact in neighbours])),
        "label agrees": float(np.mean([bool(fact["label agrees"]) for _, fact in neighbours])),
        "by label": by_label(setting),
        "verified": [hits / len(all_of_them), *wilson(hits, len(all_of_them))],
        "cells": float(np.median([swap["cells"] for swap in swaps])) if swaps else None,
        "quarters": np.percentile([swap["cells"] for swap in swaps], [25, 75]).tolist() if swaps else None,
        "of": swaps[0]["of"] if swaps else None,
        "forwards": float(np.median([swap["forwards"] for swap in swaps])) if swaps else None,
    }


def by_label(setting: Setting) -> float:
    """How often the nearest picture of another LABEL is one that the classifier does call another class: the trap."""
    references = setting.references
    labels = np.array(references.labels)
    vectors = references.embeddings.double()
    similarity = (vectors @ vectors.T).numpy()
    valid = []
    for row, name in enumerate(setting.predicted):
        allowed = labels != setting.classifier.labels[name]
        allowed[row] = False
        if allowed.any():
            best = int(np.where(allowed, similarity[row], -np.inf).argmax())
            valid.append(setting.predicted[best] != name)
    return float(np.mean(valid))
