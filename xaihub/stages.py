"""A look inside: the layers from first to last, and one picture's map at each of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from xaihub.cams import CAMS, fuse
from xaihub.classifier import Classifier
from xaihub.cuts import latest_cut
from xaihub.maps import FAINT
from xaihub.methods import METHODS, Query
from xaihub.passes import tap, target_layer_of
from xaihub.records import Evidence, Prediction
from xaihub.target_layer import TargetLayer
from xaihub.tracing import Seen, Trace, trace

__all__ = ["MOST_STAGES", "Strip", "cautious", "common_gradient", "stages", "strip"]

MOST_STAGES = 8  # what fits beside each other and can still be told apart
FEW = 4  # layers that everything passes: with fewer, layers of parallel branches are shown as well
COMMON = 0.2  # of the gradient: below this a channel's mean gradient says little about its places

_WHY = "One of the layers from first to last."
_ONE_WEIGHT = frozenset({"gradcam", "gradcam++", "xgradcam"})  # they weigh a channel by one number for all its places


@dataclass(frozen=True, eq=False)
class Strip:
    """One picture's maps from the first layer to the last.

    Attributes:
        layers: first to last.
        shown: the evidence at each, by one method.
        common: at each, the share of the gradient that is the same at all places: `common_gradient`.
        fused: the maps together, without those that must not be read.
        vectors: of each layer, (K,) the picture's embedding, of length one.
        prediction, target: what the classifier says, and the class that is explained.
    """

    layers: tuple[TargetLayer, ...]
    shown: tuple[Evidence, ...]
    common: tuple[float, ...]
    fused: Evidence
    vectors: tuple[Tensor, ...]
    prediction: Prediction
    target: int


def stages(classifier: Classifier, most: int = MOST_STAGES) -> tuple[TargetLayer, ...]:
    """The layers that are shown, first to last: measured in one traced pass, not looked up.

    They are layers that show where, and that everything the answer rests on passes through (of parallel branches, in a
    network that has few such layers): the first, the last of each grid, the target layer, and others evenly between.

    Raises:
        TargetLayerError: no layer shows where.
    """
    targets = {part.name: part for part in target_layer_of(classifier).layers}
    traced = trace(*classifier._tracing())
    live = [seen for seen in traced.seen if seen.live or targets.keys() & set(seen.names)]
    wanted = [seen for seen in live if targets.keys() & set(seen.names)]
    main = _passed_by_all(traced, live)
    ends = _ends_of_blocks(main if len(main) >= FEW else live, most)
    ordered = sorted({seen.place: seen for seen in (*ends, *wanted)}.values(), key=lambda seen: seen.place)
    chosen = _spread(ordered, {seen.place for seen in wanted}, most)
    inside = {seen.names[0] for seen in chosen}
    return tuple(_stage(seen, targets, inside) for seen in chosen)


def strip(query: Query, layers: Sequence[TargetLayer], method: str = "gradcam") -> Strip:
    """The map of the query's target at each layer, from one forward and one backward pass.

    Args:
        method: a name in `CAMS`.

    Raises:
        ValueError: it is none of those.
    """
    if method not in CAMS:
        raise ValueError(f"The maps of several layers are drawn by one of {', '.join(CAMS)}, not by {method!r}.")
    with tap(query.classifier, layers) as run:
        passed = run(query.view.pixels)
    query.__dict__.setdefault("logits", passed.logits[0].detach())  # the same pass tells what the classifier says
    pairs = passed.by_layer([query.target])
    shown = [
        METHODS[method].run(_asked_at(query, layer, a[0], g[0]))[0] for layer, (a, g) in zip(layers, pairs, strict=True)
    ]
    vectors = [torch.nn.functional.normalize(a.mean((-2, -1))[0], dim=0).cpu() for a, _ in pairs]
    common = [common_gradient(g[0]) for _, g in pairs]
    fused = _fused(query, [one for one, c in zip(shown, common, strict=True) if not cautious(method, c)], method)
    return Strip(tuple(layers), tuple(shown), tuple(common), fused, tuple(vectors), query.prediction, query.target)


def common_gradient(gradients: Tensor) -> float:
    """The share, in [0, 1], of a gradient (K, h, w) that is the same at all places: 1 below a mean, 1 / hw for noise.

    It is the energy of each channel's mean over that of its values. Grad-CAM keeps the mean alone.
    """
    kept = gradients.double().mean((-2, -1)).square().sum() * gradients[0].numel()
    return float(kept / gradients.double().square().sum().clamp_min(torch.finfo(torch.float64).tiny))


def cautious(method: str, common: float) -> str:
    """Why a map of this method means little where so much of the gradient is common, in words, or ""."""
    if method not in _ONE_WEIGHT or common >= COMMON:
        return ""
    share = f"only {common:.0%}" if common >= 0.005 else "less than 1%"
    return (
        f"{METHODS[method].title} weighs each channel by one number for the whole picture, but here {share} of the"
        " gradient is common to all places: do not read this map. HiResCAM and LayerCAM weigh each place by itself."
    )


@dataclass(frozen=True)
class _Known:
    """What a pass kept of one picture at one layer."""

    activations: Tensor


def _asked_at(query: Query, layer: TargetLayer, activations: Tensor, gradients: Tensor) -> Query:
    """The same question at another layer, whose maps (K, h, w) are known already."""
    other = query.about()
    other.classifier = replace(query.classifier, target_layer=layer)
    other.__dict__ |= {"passed": _Known(activations[None]), "gradients": gradients}
    return other


def _fused(query: Query, shown: Sequence[Evidence], method: str) -> Evidence:
    height, width = query.view.pixels.shape[2:]
    raws = [torch.from_numpy(one.raw)[None] for one in shown if one.raw is not None and not one.facts["void"]]
    label, empty = query.classifier.labels[query.target], np.zeros((height, width), np.float32)
    heatmap = fuse(raws, (height, width), signed=METHODS[method].signed)[0].numpy() if raws else empty
    caption = f"{METHODS[method].title} for {label!r} at {len(shown)} layers together, each counting alike."
    if heatmap.max() < FAINT:
        caption = f"No positive evidence for {label!r} at these layers together. {caption}"
    return Evidence(
        query.view.image, caption, heatmap=heatmap, facts={"method": method, "label": label, "layers": len(shown)}
    )


def _passed_by_all(traced: Trace, live: Sequence[Seen]) -> list[Seen]:
    """The layers, first to last, each of which alone parts the answer from the pixels."""
    by_node = {seen.node: seen for seen in live}
    found: list[Seen] = []
    while (nodes := latest_cut(traced.wires, traced.end, by_node, 1)) is not None and nodes:
        found.append(by_node[nodes[0]])
        by_node = {node: seen for node, seen in by_node.items() if seen.place < found[-1].place}
    return found[::-1]


def _ends_of_blocks(seen: Sequence[Seen], most: int) -> list[Seen]:
    """The outputs of the largest parts of the network that are enough to choose so many from; all, where none are.

    What a block gives says more than what lies inside it. Enough is half as many again: ResNet's four layers and the
    four parts of its stem would else be all that is shown.
    """
    for depth in range(max((_depth(each) for each in seen), default=0)):
        outer = [each for each in seen if _depth(each) <= depth]
        if len(outer) >= 3 * most // 2:
            return outer
    return list(seen)


def _depth(seen: Seen) -> int:
    return min(name.count(".") for name in seen.names)


def _spread(ordered: Sequence[Seen], wanted: set[int], most: int) -> list[Seen]:
    """At most so many of them, and never fewer than are wanted: the first, the last of each grid, then evenly."""
    last = {seen.view.grid: i for i, seen in enumerate(ordered) if seen.view}
    fixed = {i for i, seen in enumerate(ordered) if seen.place in wanted} | {0, len(ordered) - 1}
    chosen = sorted(fixed | set(last.values()))
    while len(chosen) > most and (loose := [i for i in chosen if i not in fixed]):
        chosen.remove(min(loose, key=lambda i: _gap_around(chosen, i)))
    while len(chosen) < min(most, len(ordered)):
        low, high = max(pairwise(chosen), key=lambda pair: pair[1] - pair[0])
        chosen = sorted([*chosen, (low + high) // 2])
    return [ordered[i] for i in chosen]


def _gap_around(chosen: Sequence[int], place: int) -> int:
    """How far apart its neighbours are: the smaller, the less is lost without it."""
    at = chosen.index(place)
    return chosen[at + 1] - chosen[at - 1]


def _stage(seen: Seen, targets: dict[str, TargetLayer], inside: set[str]) -> TargetLayer:
    """The target itself, or a layer named by the outermost module that holds no other stage."""
    for name in seen.names:
        if name in targets:
            return targets[name]
    others = inside - {seen.names[0]}
    outer = [name for name in seen.names if not any(other.startswith(f"{name}.") for other in others)]
    if seen.view is None:
        raise ValueError(f"{seen.name} gives {seen.shape}, which is no map.")
    view = seen.view
    for layer in targets.values():  # whose places were measured
        view = view.read_as(layer.view)
    return TargetLayer(min(outer or seen.names, key=lambda name: name.count(".")), view, "chosen", _WHY)
