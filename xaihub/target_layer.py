"""Which layer to explain, chosen by measurement and proved: no table of models.

A layer qualifies when its output can be read as a map over the picture, when the target's gradient reaches at least
half of that map, and when cutting the gradient there leaves none at the pixels: then everything the logit knows of
the picture passes through it. The last such layer is the target layer.

Both halves are needed. The gradient alone accepts side branches; the cut alone accepts maps that no longer matter,
such as the patch tokens after the last block of a network that reads its class token.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xaihub.cuts import latest_cut
from xaihub.errors import TargetLayerError
from xaihub.hooks import first_tensor, part_of, replace_tensor, watching
from xaihub.quadrants import quadrant_shares, right_way_up
from xaihub.registry import nearest_name
from xaihub.tracing import Forward, Grid, Layout, Seen, Trace, View, to_maps, trace

__all__ = ["TargetLayer", "choose_target_layer", "everything_passes", "fused", "layer_named"]

Proof = Literal["bottleneck", "fused", "partial", "chosen"]

MOST_PARTS = 6  # branches that are fused; more would be hard to tell in a sentence
MOST_TRIES = 4  # sets of layers that are measured, each by one pass and one for each of its parts
MOST_ALTERNATIVES = 8

_WHY_BOTTLENECK = (
    "It is the last layer that still shows where and that everything the answer rests on passes through (proved: with"
    " its output cut off, no gradient is left at the pixels)."
)
_BUT_EARLY = " It lies in the first half of the network, so later, parallel branches may tell more."
_WHY_PARTIAL = (
    "No layer of this network, and no few of them together, carry everything that the answer rests on, so this is the"
    " last one that shows where: its map is a part of the reason, not the whole."
)
_WHY_NO_MAP = (
    "No layer of this network keeps a map of the picture that the answer depends on, so no class activation map can"
    " be drawn. Methods that only look at the answer (occlusion, RISE) would work."
)


@dataclass(frozen=True)
class TargetLayer:
    """Where an explanation looks.

    Attributes:
        name: of the module, as in `module.named_modules()`; the last of its calls counts.
        view: how its output is read as a map: `layout`, `grid` (h, w), `prefix_tokens`, `channels`.
        proof: "bottleneck" all the logit knows passes here; "fused" it passes through these layers together; "partial"
            some passes elsewhere; "chosen" by the user.
        reason: why this layer, in words.
        alternatives: other layers that show where, latest first.
        parts: of a fused layer: the layers whose channels are laid side by side, on the finest of their grids.
    """

    name: str
    view: View
    proof: Proof
    reason: str
    alternatives: tuple["TargetLayer", ...] = ()
    parts: tuple["TargetLayer", ...] = ()

    @property
    def layers(self) -> tuple["TargetLayer", ...]:
        """The layers that are watched: itself, or its parts where several are fused."""
        return self.parts or (self,)

    @property
    def layout(self) -> Layout:
        """NCHW, NHWC, NLC (tokens) or NCL."""
        return self.view.layout

    @property
    def grid(self) -> Grid:
        """(h, w) of its map."""
        return self.view.grid

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patches (class token, registers), left out of the map."""
        return self.view.prefix_tokens

    @property
    def in_words(self) -> str:
        """One line: "layer4.1 (7 x 7 places, 512 channels, NCHW)"."""
        if self.parts:
            return " and ".join(part.in_words for part in self.parts) + ", fused"
        (rows, columns), prefix = self.grid, self.prefix_tokens
        after = f" after {prefix} prefix token{'s' if prefix > 1 else ''}" if prefix else ""
        return f"{self.name} ({rows} x {columns} places, {self.view.channels} channels, {self.layout}{after})"


def choose_target_layer(module: nn.Module, forward: Forward, pixels: Tensor) -> TargetLayer:
    """The last layer that shows where, proved to be a bottleneck; or the last ones of parallel branches, fused.

    Args:
        module: in eval mode.
        forward: pixels -> logits (1, C), through the module.
        pixels: (1, C, H, W) of a picture with some texture.

    Raises:
        TargetLayerError: nothing in the network is a map that the logit depends on.
    """
    traced = trace(module, forward, pixels)
    if not any(seen.live for seen in traced.seen):  # a network so narrow that its maps look like pictures or scores
        traced = trace(module, forward, pixels, fewest=2)
    live = [seen for seen in reversed(traced.seen) if seen.live]
    if not live:
        raise TargetLayerError(_why_none(traced))
    doubted = partial(_doubted, module, forward, pixels, traced)
    half = traced.seen[-1].place / 2
    single = _cut(traced, live, 1, doubted)
    if single and single[0].place >= half:
        return _layer(single[0], "bottleneck", _WHY_BOTTLENECK, _alternatives(live, single))
    for first in (half, single[0].place + 1 if single else 0):  # of equals the later branches tell more
        branches = _cut(traced, [seen for seen in live if seen.place >= first], MOST_PARTS, doubted)
        if branches:
            return _fused(branches, single, _alternatives(live, (*branches, *single)))
    if single:
        return _layer(single[0], "bottleneck", _WHY_BOTTLENECK + _BUT_EARLY, _alternatives(live, single))
    if traced.guessed and not _is_upright(module, forward, pixels, live[0]):
        raise TargetLayerError(_WHY_NO_MAP)
    return _layer(live[0], "partial", _WHY_PARTIAL, _alternatives(live, live[:1]))


def layer_named(module: nn.Module, forward: Forward, pixels: Tensor, name: str) -> TargetLayer:
    """The layer of that name, or of several joined by " + ", if its output can be read as a map.

    Raises:
        TargetLayerError: there is none, or it gives no map; the nearest names are offered.
    """
    if "+" in name:
        parts = [layer_named(module, forward, pixels, part.strip()) for part in name.split("+")]
        return fused(tuple(parts), "chosen", "Chosen by you; the contributions of these layers are added.")
    names = [part for part, _ in module.named_modules() if part]
    if part_of(name)[0] not in names:
        children = ", ".join(child for child, _ in module.named_children())
        raise TargetLayerError(f"This network has no layer {name!r}.{nearest_name(name, names)} Its parts: {children}.")
    seen = next((seen for seen in trace(module, forward, pixels, fewest=1).seen if name in seen.names), None)
    if seen is None or seen.view is None:
        what = f"gives {seen.shape}" if seen else "gives nothing that the answer depends on"
        raise TargetLayerError(f"Layer {name!r} {what}, which is no map over the picture. Choose another layer.")
    reach = "the target's gradient reaches it" if seen.live else "the target's gradient hardly reaches it"
    return replace(_layer(seen, "chosen", f"Chosen by you; {reach}."), name=name)


def fused(
    parts: tuple[TargetLayer, ...], proof: Proof, reason: str, alternatives: tuple[TargetLayer, ...] = ()
) -> TargetLayer:
    """One layer of several: their channels side by side, on the finest of their grids."""
    grid = max((part.grid for part in parts), key=lambda grid: grid[0] * grid[1])
    channels = sum(part.view.channels for part in parts)
    view = View("NCHW", grid, 0, channels, parts[0].view.input_size)
    return TargetLayer(" + ".join(part.name for part in parts), view, proof, reason, alternatives, parts)


def _cut(
    traced: Trace, candidates: Sequence[Seen], most: int, doubted: Callable[[Sequence[Seen]], list[Seen]]
) -> tuple[Seen, ...]:
    """The fewest candidates, `most` of them, that everything passes through, and of equals the last; () if none do."""
    by_node = {seen.node: seen for seen in candidates}
    for _ in range(MOST_TRIES):
        nodes = latest_cut(traced.wires, traced.end, by_node, most)
        if nodes is None:
            break
        parts = sorted((by_node[node] for node in nodes), key=lambda seen: seen.place)
        wrong = doubted(parts)
        if not wrong:
            return tuple(parts)
        for seen in wrong:
            del by_node[seen.node]
    return ()


def _doubted(module: nn.Module, forward: Forward, pixels: Tensor, traced: Trace, parts: Sequence[Seen]) -> list[Seen]:
    """Those of the layers that a measurement speaks against: none, where together they are the cut they should be.

    With all of them cut off no gradient may be left at the pixels, and with all but one cut off there must be some.
    Tensors that are no maps at all, only as many numbers as a map could have (the 49 states of EfficientViM, the
    latents of a Perceiver), are found among branches, and where no convolution tells the sizes of maps: there each
    layer must be the right way up as well. Elsewhere not, lest a network that looks at all places at once is refused.
    """
    left = partial(_gradient_left, module, forward, pixels, traced.target)
    if left(parts):
        return list(parts)
    if len(parts) == 1 and not traced.guessed:
        return []
    idle = [part for part in parts if not left([other for other in parts if other is not part])]
    return idle or [part for part in parts if not _is_upright(module, forward, pixels, part)]


def _is_upright(module: nn.Module, forward: Forward, pixels: Tensor, part: Seen) -> bool:
    given: list[Tensor] = []

    def keep(name: str, output: Any) -> None:
        tensor = first_tensor(output, part_of(name)[1])
        given[:] = [tensor] if tensor is not None else []

    def maps_of(changed: Tensor) -> Tensor:
        forward(changed)
        return to_maps(given[0], part.view, part.view.input_size) if part.view else given[0]

    with torch.no_grad(), watching({part.name: module.get_submodule(part_of(part.name)[0])}, keep):
        return right_way_up(quadrant_shares(maps_of, pixels))


def everything_passes(module: nn.Module, forward: Forward, pixels: Tensor, target: int, parts: Sequence[Seen]) -> bool:
    """Whether no gradient of the target's logit is left at the pixels when the outputs of these layers are cut off."""
    return not _gradient_left(module, forward, pixels, target, parts)


def _gradient_left(module: nn.Module, forward: Forward, pixels: Tensor, target: int, parts: Sequence[Seen]) -> bool:
    """Whether the target's gradient still reaches the pixels when the outputs of these layers are detached."""
    wanted = {seen.name: seen for seen in parts}
    calls: Counter[str] = Counter()

    def cut(name: str, output: Any) -> Any:
        calls[name] += 1
        tensor = first_tensor(output, part_of(name)[1])
        last = tensor is not None and calls[name] == wanted[name].calls
        return replace_tensor(output, tensor, tensor.detach()) if last and tensor is not None else None

    leaf = pixels.detach().requires_grad_()
    watched = {name: module.get_submodule(part_of(name)[0]) for name in wanted}
    with torch.enable_grad(), watching(watched, cut):
        logit = forward(leaf)[0, target]
    if not logit.requires_grad:
        return False
    (left,) = torch.autograd.grad(logit, [leaf], allow_unused=True)
    return left is not None and bool(left.any())


def _fused(branches: Sequence[Seen], single: Sequence[Seen], others: tuple[TargetLayer, ...]) -> TargetLayer:
    """The last layers of parallel branches as one; a single layer that lies before them is offered beside it."""
    parts = tuple(
        _layer(seen, "fused", "One of several, through which everything passes only together.") for seen in branches
    )
    early = tuple(_layer(seen, "bottleneck", _WHY_BOTTLENECK + _BUT_EARLY) for seen in single)
    before = f" but {single[0].name}, in the first half of the network" if single else ""
    why = (
        f"No single layer carries everything that the answer rests on{before}: these {len(parts)} layers of parallel"
        " branches do together (proved: with all of their outputs cut off, no gradient is left at the pixels, and with"
        " any one of them left in, there is some). Their contributions are added."
    )
    return fused(parts, "fused", why, (*early, *others))


def _layer(seen: Seen, proof: Proof, why: str, others: tuple[TargetLayer, ...] = ()) -> TargetLayer:
    if seen.view is None:
        raise ValueError(f"{seen.name} gives {seen.shape}, which is no map.")
    return TargetLayer(seen.name, seen.view, proof, why, others)


def _alternatives(latest_first: Sequence[Seen], chosen: Sequence[Seen]) -> tuple[TargetLayer, ...]:
    """The last layer of every other grid, and the chosen ones' siblings ("layer3.1" beside "layer4.1")."""
    patterns = {_pattern(seen) for seen in chosen}
    grids: set[Grid] = set()
    found: list[Seen] = []
    for seen in latest_first:
        grid = seen.view.grid if seen.view else (0, 0)
        if seen not in chosen and (_pattern(seen) in patterns or grid not in grids):
            found.append(seen)
        grids.add(grid)
    why = "Chosen by you; the target's gradient reaches it."
    return tuple(_layer(seen, "chosen", why) for seen in found[:MOST_ALTERNATIVES])


def _pattern(seen: Seen) -> str:
    return re.sub(r"\d+", "#", seen.name)


def _why_none(traced: Trace) -> str:
    maps = [seen for seen in traced.seen if seen.view is not None]
    if maps and not any(seen.reached for seen in maps):
        return (
            "The gradient of the answer is zero in every layer, as in a network whose head was never trained: there is"
            " nothing to explain. Use trained weights."
        )
    return _WHY_NO_MAP
