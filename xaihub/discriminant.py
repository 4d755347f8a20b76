"""What speaks for one class rather than another, place by place: exact where the head allows it, else SCOUT."""

from dataclasses import replace

import torch
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.maps import evidence
from xaihub.methods import Query, method
from xaihub.passes import Pass
from xaihub.records import Evidence
from xaihub.regions import adds_up, cell_evidence, told_by_head

__all__ = ["discriminant", "discriminant_maps", "margin_map", "scout"]

CLAIM = "What speaks for {label} rather than {other}"
EXACT = "Margin map: with the head's bias it adds up to the lead of its logit."
SCOUT = "SCOUT, since the head is more than linear."

Targets = Tensor | list[int]


def _cost(classifier: Classifier) -> int:
    """One pass to find the bias of a head that is not known; also of one that only the pass finds to be none."""
    return 0 if classifier.head else 1


@method("discriminant", needs=("target layer",), title="Discriminant", passes=_cost, signed=True, compares=True)
def discriminant(query: Query) -> tuple[Evidence, ...]:
    """What tells the class from another one: the margin map where it is exact, else SCOUT (Wang & Vasconcelos, 2020).

    The other class is the one that is asked for, else the most probable one besides the target. The margin map is
    signed; SCOUT's only says what speaks for the class.
    """
    maps, exact = discriminant_maps(query, query.passed, [query.target], [query.other])
    shown = evidence(query, "discriminant", maps[0], claim=CLAIM)
    adds = bool(exact[0])
    facts = {**shown.facts, "signed": adds, "exact": adds}
    return (replace(shown, caption=f"{shown.caption} {EXACT if adds else SCOUT}", facts=facts),)


def discriminant_maps(query: Query, passed: Pass, targets: list[int], others: list[int]) -> tuple[Tensor, Tensor]:
    """(N, h, w) what speaks for each target rather than the other class, and (N,) whether that is the margin map.

    Args:
        passed: a pass of the query's classifier over N pictures, the query's own or others'.
    """
    cells = margin_map(passed, targets, others)
    rounding = next(
        (torch.finfo(p.dtype).eps for p in query.classifier.module.parameters() if p.is_floating_point()), 0
    )
    exact = adds_up(cells, _without_bias(query, passed, targets, others), rounding)
    if bool(exact.all()):
        return cells, exact
    activations = passed.activations
    own, other, confidence = (
        cell_evidence(activations, passed.gradients_of(score))
        for score in (passed.score(targets), passed.score(others), _confidence(query, passed, targets))
    )
    return torch.where(exact[:, None, None], cells, scout(own, other, confidence)), exact


def margin_map(passed: Pass, targets: Targets, others: Targets) -> Tensor:
    """(N, h, w), each cell's evidence for each target's logit less the other class's.

    Where the head is a mean over places and linear, it adds up to that difference, less the one of the head's biases.
    """
    return cell_evidence(passed.activations, passed.gradients_of(passed.score(targets) - passed.score(others)))


def _without_bias(query: Query, passed: Pass, targets: list[int], others: list[int]) -> Tensor:
    """(N,), the lead of each target over the other class that comes from the picture, and not from the head's bias.

    Where no linear head is known, its bias is what the network answers with its maps switched off.
    """
    score = passed.score(targets) - passed.score(others)
    told = told_by_head(passed, score)
    if told is not None:
        return told
    zero = query.logits_at_zero
    return score.detach() - (zero[targets] - zero[others]).to(score.device)


def scout(own: Tensor, other: Tensor, confidence: Tensor) -> Tensor:
    """SCOUT (Wang & Vasconcelos, 2020, arXiv:2004.07769): where the class, not the other one, and certainty come from.

    Each of the maps runs from 0 to 1. Ours is that where the other class, or certainty, comes from no place rather than
    another, it leaves the rest as it is.

    Args:
        own: (N, h, w), the evidence for the class. `other`: for the other one. `confidence`: for being certain.
    """
    return _unit(own) * (1 - _unit(other)) * _unit(confidence, flat=1.0)


def _confidence(query: Query, passed: Pass, targets: list[int]) -> Tensor:
    """(N,), the log odds of each target: they rise with its probability, and do not fade where that is near 1."""
    own = passed.score(targets)
    if query.classifier.activation == "sigmoid" or passed.logits.shape[1] == 1:
        return own
    index = torch.as_tensor(targets, dtype=torch.long, device=passed.logits.device)[:, None]
    return own - passed.logits.scatter(1, index, -torch.inf).logsumexp(1)


def _unit(maps: Tensor, flat: float = 0.0) -> Tensor:
    """Each map (N, h, w) from 0 at its least place to 1 at its largest; a flat one tells nothing, and is `flat`."""
    low, high = (extreme[:, None, None] for extreme in (maps.flatten(1).amin(1), maps.flatten(1).amax(1)))
    return torch.where(high > low, (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny), flat)
