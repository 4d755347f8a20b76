"""From a raw map to what is shown: the positive part, enlarged to the picture, with a caption that claims no more."""

from collections.abc import Callable
from functools import wraps

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from xaihub.methods import METHODS, Need, Passes, Query, method
from xaihub.records import Evidence

__all__ = ["CLAIM", "enlarged", "evidence", "map_method", "shown"]

RawMap = Callable[[Query], Tensor]

CLAIM = "Where {label} comes from"

_SATURATED = (
    "But this network gives probabilities only, and that of {label} is 0 or 1 to float precision: no gradient is left"
    " of it, and this map means nothing where it rests on one."
)
_TINY = torch.finfo(torch.float32).tiny


def shown(raw: Tensor, size: tuple[int, int], clip: float = 0.0) -> Tensor:
    """(N, H, W) in [0, 1] of raw maps (N, h, w): the positive part, enlarged, over its largest value; zeros stay.

    Args:
        clip: the share of the hottest values that are shown as 1: one wild pixel would hide all others.
    """
    positive = enlarged(raw.nan_to_num().relu().float(), size)
    largest = positive.flatten(1).amax(1)
    if clip:
        near = positive.flatten(1).kthvalue(max(1, round((1 - clip) * positive[0].numel())), dim=1).values
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
    heatmap = shown(raw[None] * (not void), (height, width), clip)[0].cpu().numpy()
    if void:
        caption = f"No map for {label!r} ({how}): {void}"
    elif query.classifier.reading.saturated(query.logits[query.target]):
        caption = f"{claimed}: {how}. {_SATURATED.format(label=repr(label))}"
    elif not heatmap.any():
        caption = f"No positive evidence for {label!r}{' at this layer' * bool(layer)} ({how}): nothing speaks for it."
    else:
        caption = f"{claimed}: {how}."
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
            "positive": bool(heatmap.any()),
            "signed": entry.signed and not void,
            "clip": clip,
        },
    )
