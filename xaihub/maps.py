"""From a raw map to what is shown: the positive part, enlarged to the picture, with a caption that claims no more."""

from collections.abc import Callable
from functools import wraps

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from xaihub.methods import METHODS, Need, Passes, Query, method
from xaihub.records import Evidence

__all__ = ["CLAIM", "FAINT", "enlarged", "evidence", "map_method", "over_largest", "shown"]

RawMap = Callable[[Query], Tensor]

CLAIM = "Where {label} comes from"

FAINT = 0.05  # of the largest absolute value: positive evidence below it cannot be told from none on the map
WEAK = 0.5  # below it the caption says how strong the evidence against is

_SATURATED = (
    "But this network gives probabilities only, and that of {label} is 0 or 1 to float precision: no gradient is left"
    " of it, and this map means nothing where it rests on one."
)
_TINY = torch.finfo(torch.float32).tiny


def shown(raw: Tensor, size: tuple[int, int], clip: float = 0.0, *, signed: bool = True) -> Tensor:
    """(N, H, W) in [0, 1] of raw maps (N, h, w): the positive part, enlarged, over the largest absolute value.

    A class that hardly anything speaks for and much against has a dark map; over its own largest value the positive
    part would shine as brightly as that of any other class. Zeros stay.

    Args:
        clip: the share of the largest values that are shown as 1: one wild pixel would hide all others.
        signed: whether values below zero are evidence against; else the positive part's own largest value is the scale.
    """
    raw = raw.nan_to_num().float()
    positive = enlarged(raw.relu(), size)
    return over_largest(positive, enlarged((-raw).relu(), size) if signed else torch.zeros_like(positive), clip)


def over_largest(positive: Tensor, negative: Tensor, clip: float = 0.0) -> Tensor:
    """(N, H, W) in [0, 1], the positive part over the largest value of either part (N, H, W); zeros stay."""
    sizes = (positive + negative).flatten(1)  # beside each other, but for where they meet
    largest = torch.maximum(positive, negative).flatten(1).amax(1)
    if clip:
        near = sizes.kthvalue(max(1, round((1 - clip) * sizes.shape[1])), dim=1).values
        largest = torch.where(near > 0, near, largest)
    largest = largest[:, None, None]
    return torch.where(largest > 0, (positive / largest.clamp_min(_TINY)).clamp_max(1), 0)


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W) of maps (N, h, w), bilinear with half-pixel centres: the heat of a place lies over its part."""
    return interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def map_method(
    name: str,
    *,
    needs: tuple[Need, ...] = (),
    title: str = "",
    passes: Passes = 0,
    signed: bool = False,
    above: bool = False,
    clip: float = 0.0,
    claim: str = CLAIM,
) -> Callable[[RawMap], RawMap]:
    """Registers `name(query) -> raw map (h, w)` as a method that shows one heatmap.

    Args:
        clip: as in `shown`.
        claim: what the map shows, for its caption, with `{label}` and `{other}` where it depends on them.
    """

    def register(function: RawMap) -> RawMap:
        @wraps(function)
        def run(query: Query) -> tuple[Evidence, ...]:
            return (evidence(query, name, function(query), clip=clip, claim=claim),)

        compares = "{other}" in claim
        method(name, needs=needs, title=title, passes=passes, signed=signed, compares=compares, above=above)(run)
        return function

    return register


def evidence(
    query: Query, name: str, raw: Tensor, *, clip: float = 0.0, claim: str = CLAIM, void: str = ""
) -> Evidence:
    """The heatmap of one raw map (h, w).

    Args:
        claim: as in `map_method`.
        void: why the map means nothing, in words; it is then shown as empty.
    """
    entry = METHODS[name]
    label, other = query.classifier.labels[query.target], query.classifier.labels[query.other]
    layer = query.classifier.target_layer if "target layer" in entry.needs else None
    how = f"{entry.title} at {layer.name}" if layer else entry.title
    claimed = claim.format(label=repr(label), other=repr(other))
    height, width = query.view.pixels.shape[2:]
    heatmap = shown(raw[None] * (not void), (height, width), clip, signed=entry.signed)[0].cpu().numpy()
    strength = float(heatmap.max())
    if void:
        caption = f"No map for {label!r} ({how}): {void}"
    elif query.classifier.reading.saturated(query.logits[query.target]):
        caption = f"{claimed}: {how}. {_SATURATED.format(label=repr(label))}"
    elif strength < FAINT:
        nothing = f"No positive evidence for {label!r}{' at this layer' * bool(layer)} ({how})"
        caption = f"{nothing}: {_strength_in_words(strength) if strength else 'nothing speaks for it'}."
    else:
        weak = f" {_strength_in_words(strength).capitalize()}." if strength < WEAK else ""
        caption = f"{claimed}: {how}.{weak}"
    return Evidence(
        query.view.image,
        caption,
        heatmap=heatmap,
        raw=raw.detach().float().cpu().numpy().astype(np.float32),
        facts={
            "method": name,
            "label": label,
            "layer": layer.name if layer else None,
            "other": other if "{other}" in claim else None,
            "positive": strength >= FAINT,
            "signed": entry.signed and not void,
            "clip": clip,
            "void": bool(void),
        },
    )


def _strength_in_words(strength: float) -> str:
    share = f"{strength:.0%}" if strength >= 0.01 else "less than 1%"
    return f"the strongest place for it has {share} of the size of the strongest against it"
