"""How far one map of one picture can be relied on: a trust card, from about sixty passes.

faithfulness.py   what the probability does as the parts that the map calls hot are veiled
checks.py         the questions that are asked, and their answers in words
record.py         the card

A score never says that a classifier is right, nor that people trust it rightly: the latter is measured (`quiz`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

import xaihub.explaining  # noqa: F401  every method has been registered
from xaihub.errors import TargetLayerError
from xaihub.hooks import recording
from xaihub.maps import FAINT, enlarged
from xaihub.methods import METHODS, Query
from xaihub.metrics.baselines import NO_LAYER
from xaihub.progress import Progress, silent
from xaihub.records import Evidence
from xaihub.trusting.checks import (
    Findings,
    agreeing,
    at_an_edge,
    by_lot,
    depends_on_picture,
    hardly_an_answer,
    head_replaced,
    twins_agree,
)  # fmt: skip
from xaihub.trusting.faithfulness import Faithfulness, faithfulness
from xaihub.trusting.record import Check, Trust, Verdict

__all__ = ["Check", "Faithfulness", "Trust", "Verdict", "trust"]


@recording
def trust(
    query: Query, method: str = "gradcam", *, evidence: Evidence | None = None, progress: Progress = silent
) -> Trust:
    """How far the map of a query's picture can be relied on.

    Asked are: whether the answer depends on the picture at all; whether veiling what the map calls hot does more than
    veiling parts by lot (deletion and insertion, Petsiuk et al., 2018, in a few steps); whether the map changes when
    the network's last layer is replaced (one step of Adebayo et al., 2018); whether other methods agree; whether the
    class rests on a corner or an edge where most of the heat lies. How far the neighbours beside the map agree, where
    the references say so, is told as well; the verdict on the map does not depend on it.

    Args:
        query: its target is the class that the map explains.
        method: a name in `METHODS` that shows a map.
        evidence: what the method showed, if it ran already.
        progress: told of the passes; what it raises ends the work.

    Raises:
        UnknownNameError: there is no such method.
        TargetLayerError: it shows no map of this picture.
    """
    if evidence is None:
        missing = METHODS[method].missing(query.classifier, query.references)
        shown = () if missing else METHODS[method].run(query)
        if not shown:
            raise TargetLayerError(f"{METHODS[method].title} shows no map here. {missing}".strip())
        evidence = shown[0]
    label = query.classifier.labels[query.target]
    if evidence.raw is None or evidence.heatmap is None or evidence.heatmap.max() < FAINT:
        why = f"Nothing on the map speaks for {label!r}: there is no heat to judge."
        return Trust(method, label, "do not rely", (Check("There is heat", "bad", why),), {"positive": False})
    size = (query.view.pixels.shape[2], query.view.pixels.shape[3])
    heat = enlarged(torch.from_numpy(evidence.raw)[None].nan_to_num(), size)[0]
    findings: Findings = {"positive": True}
    depends, chance = _faithful(query, heat, findings, progress)
    asked = [
        depends,
        at_an_edge(query, torch.from_numpy(evidence.heatmap), findings),
        chance,
        head_replaced(query, method, findings),
        agreeing(query, method, heat, findings),
    ]
    checks = tuple(check for check in asked if check is not None)
    return Trust(method, label, _verdict(checks), checks, findings, twins_agree(query, findings))


def _faithful(query: Query, heat: Tensor, findings: Findings, progress: Progress) -> tuple[Check | None, Check]:
    """Whether the class depends on the picture, and the map (H, W) is better than chance."""
    if scarce := hardly_an_answer(query):
        return None, scarce
    layer, label = query.classifier.target_layer, query.classifier.labels[query.target]
    grid = (layer.grid[0], layer.grid[1]) if layer is not None else NO_LAYER
    found = faithfulness(query.classifier, query.view.pixels, heat, query.target, grid=grid, progress=progress)
    findings |= _figures(found)
    return depends_on_picture(found, label, is_answer=query.target == query.prediction.index), by_lot(found)


def _verdict(checks: Sequence[Check]) -> Verdict:
    outcomes = {check.outcome for check in checks}
    return "do not rely" if "bad" in outcomes else "care" if "care" in outcomes else "passed"


def _figures(found: Faithfulness) -> Findings:
    return {
        "probability": found.probability,
        "veiled": found.veiled,
        "mean colour": found.blank,
        "deletion": found.deletion,
        "insertion": found.insertion,
        "by lot": found.by_lot,
        "gain": found.gain,
        "spread by lot": found.spread,
        "passes": found.passes,
    }
