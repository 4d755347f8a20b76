"""Which layer to explain, chosen by measurement and proved: no table of models.

A layer qualifies when its output can be read as a map over the picture, when the target's gradient reaches at least
half of that map, and when cutting the gradient there leaves none at the pixels: then everything the logit knows of
the picture passes through it. Which place of the picture each of its tokens shows is measured as well. The last such
layer is the target layer.

Gradient and cut are both needed. The gradient alone accepts side branches; the cut alone accepts maps that no longer
matter, such as the patch tokens after the last block of a network that reads its class token.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xaihub.cuts import latest_cut
from xaihub.errors import TargetLayerError, shorten
from xaihub.hooks import first_tensor, part_of, replace_tensor, watching
from xaihub.placement import token_places
from xaihub.quadrants import orientation, quadrant_shares
from xaihub.registry import nearest_name
from xaihub.tracing import Forward, Grid, Layout, Seen, Trace, View, to_maps, trace

__all__ = ["TargetLayer", "choose_target_layer", "everything_passes", "fused", "layer_named"]

Proof = Literal["bottleneck", "fused", "partial", "unconfirmed", "chosen"]

MOST_PARTS = 6  # branches that are fused; more would be hard to tell in a sentence
MOST_TRIES = 8  # sets of layers that are measured, each by one pass and one for each of its parts
MOST_UNPLACED = 4  # layers that are measured in vain: each costs ten passes, or about thirty where it gives tokens
NAMED = 5  # layers, to whoever names one that is not there
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
_UNCONFIRMED = (
    " The arrangement of its places could not be confirmed: when a part of the picture changes, they do not answer to"
    " it clearly, so its map may show the wrong places."
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
        view: how its output is read as a map: `layout`, `grid` (h, w), `prefix_tokens`, `channels`, `places`.
        proof: "bottleneck" all the logit knows passes here; "fused" it passes through these layers together; "partial"
            some passes elsewhere; "unconfirmed" all passes here, but which token shows which place could not be
            measured; "chosen" by the user.
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
        """Tokens before the first patch (class token, registers), left out of the map as all that show no place."""
        return self.view.prefix_tokens

    @property
    def in_words(self) -> str:
        """One line: "layer4.1 (7 x 7 places, 512 channels, NCHW)"."""
        if self.parts:
            return " and ".join(part.in_words for part in self.parts) + ", fused"
        (rows, columns), prefix = self.grid, self.prefix_tokens
        after = f" after {prefix} prefix token{'s' if prefix > 1 else ''}" if prefix else ""
        if self.view.places:
            others = len(self.view.tokens_at_none())
            beside = f" and {others} token{'s' if others > 1 else ''} at no place" if others else ""
            after = f" in an order of its own{beside}"
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
    placing = _Placing(module, forward, pixels)
    for strict in (True, False):  # first only layers whose places were confirmed
        chosen = _chosen(traced, live, partial(_doubted, placing, traced, strict), placing)
        if chosen is not None:
            return chosen
    if traced.guessed and not placing.view_of(live[0]):
        raise TargetLayerError(_WHY_NO_MAP)
    why = _WHY_PARTIAL if placing.view_of(live[0]) else _WHY_PARTIAL + _UNCONFIRMED
    return _layer(placing.placed(live[0]), "partial", why, _alternatives(live, live[:1], placing))


def _chosen(
    traced: Trace, live: Sequence[Seen], doubted: Callable[[Sequence[Seen]], list[Seen]], placing: "_Placing"
) -> TargetLayer | None:
    """The last bottleneck; or the last layers of parallel branches, where it lies early; None where there are none."""
    half = traced.seen[-1].place / 2
    single = _cut(traced, live, 1, doubted)
    if not single or single[0].place < half:
        for first in (half, single[0].place + 1 if single else 0):  # of equals the later branches tell more
            branches = _cut(traced, [seen for seen in live if seen.place >= first], MOST_PARTS, doubted)
            if branches:
                others = _alternatives(live, (*branches, *single), placing)
                early = [placing.placed(seen) for seen in single if placing.view_of(seen)]
                return _fused([*map(placing.placed, branches)], early, others)
    if not single:
        return None
    why = _WHY_BOTTLENECK + (_BUT_EARLY if single[0].place < half else "")
    others = _alternatives(live, single, placing)
    if placing.view_of(single[0]) is None:
        return _layer(single[0], "unconfirmed", why + _UNCONFIRMED, others)
    return _layer(placing.placed(single[0]), "bottleneck", why, others)


def layer_named(module: nn.Module, forward: Forward, pixels: Tensor, name: str) -> TargetLayer:
    """The layer of that name, or of several joined by " + ", if its output can be read as a map.

    Raises:
        TargetLayerError: there is none, or it gives no map; the nearest names are offered.
    """
    if "+" in name:
        parts = [layer_named(module, forward, pixels, part.strip()) for part in name.split("+")]
        return fused(tuple(parts), "chosen", "Chosen by you; the contributions of these layers are added.")
    names, traced = [part for part, _ in module.named_modules() if part], trace(module, forward, pixels, fewest=1).seen
    if part_of(name)[0] not in names:
        maps = [seen.names[0] for seen in reversed(traced) if seen.view is not None]
        offered = f" Its last layers that give a map: {', '.join(maps[:NAMED])}." if maps else " None gives a map."
        raise TargetLayerError(f"This network has no layer {shorten(name)!r}.{nearest_name(name, names)}{offered}")
    seen = next((seen for seen in traced if name in seen.names), None)
    if seen is None or seen.view is None:
        what = f"gives {seen.shape}" if seen else "gives nothing that the answer depends on"
        raise TargetLayerError(f"Layer {name!r} {what}, which is no map over the picture. Choose another layer.")
    reach = "the target's gradient reaches it" if seen.live else "the target's gradient hardly reaches it"
    placing = _Placing(module, forward, pixels)
    why = f"Chosen by you; {reach}." + ("" if placing.view_of(seen) else _UNCONFIRMED)
    return replace(_layer(placing.placed(seen), "chosen", why), name=name)


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
            by_node.pop(seen.node, None)
    return ()


def _doubted(placing: "_Placing", traced: Trace, strict: bool, parts: Sequence[Seen]) -> list[Seen]:
    """Those of the layers that a measurement speaks against: none, where together they are the cut they should be.

    With all of them cut off no gradient may be left at the pixels, and with all but one cut off there must be some.
    Tensors that are no maps at all, only as many numbers as a map could have (the 49 states of EfficientViM, the
    latents of a Perceiver), are found among branches, and where no convolution tells the sizes of maps: there the
    places of each layer must be confirmed. Elsewhere only if `strict`, lest a network that looks at all places at once
    is refused.
    """
    left = partial(_gradient_left, placing.module, placing.forward, placing.pixels, traced.target)
    if left(parts):
        return list(parts)
    if len(parts) > 1 and (idle := [part for part in parts if not left([other for other in parts if other != part])]):
        return idle
    if not strict and len(parts) == 1 and not traced.guessed:
        return []
    unplaced = [part for part in parts if placing.view_of(part) is None]
    return unplaced and unplaced + [seen for seen in traced.seen if seen not in unplaced and placing.is_hopeless(seen)]


class _Placing:
    """Finds, once for each layer, which place of the picture each of its tokens shows."""

    def __init__(self, module: nn.Module, forward: Forward, pixels: Tensor) -> None:
        self.module, self.forward, self.pixels = module, forward, pixels
        self._found: dict[str, View | None] = {}
        self._in_vain: list[View | None] = []

    def view_of(self, seen: Seen) -> View | None:
        """The first way to read it whose places answer to the picture; None where none does."""
        if seen.name not in self._found:
            views = (seen.view, *seen.others) if seen.view and len(self._in_vain) < MOST_UNPLACED else ()
            with self._watched(seen) as output_of:
                found = (_confirmed(output_of, self.pixels, view) for view in views if view)
                self._found[seen.name] = next(filter(None, found), None)
            self._in_vain += [seen.view] if self._found[seen.name] is None else []
        return self._found[seen.name]

    def is_hopeless(self, seen: Seen) -> bool:
        """Return whether two layers of the same reading were measured in vain, as of latents in block after block."""
        return self._in_vain.count(seen.view) >= 2

    def placed(self, seen: Seen) -> Seen:
        """The same layer, read as was confirmed, or as before."""
        return replace(seen, view=self.view_of(seen) or seen.view)

    def like(self, seen: Seen) -> Seen:
        """The same layer, read as others of its shape were, without a measurement of its own."""
        view = seen.view
        for known in filter(None, self._found.values()):
            view = view.read_as(known) if view else None
        return replace(seen, view=view)

    @contextmanager
    def _watched(self, seen: Seen) -> Iterator[Callable[[Tensor], Tensor]]:
        given: list[Tensor] = []

        def keep(_name: str, output: Any) -> None:
            tensor = first_tensor(output, part_of(seen.name)[1])
            given[:] = [tensor.clone()] if tensor is not None else []  # what follows may overwrite it

        def output_of(changed: Tensor) -> Tensor:
            self.forward(changed)
            return given[0]

        with torch.no_grad(), watching({seen.name: self.module.get_submodule(part_of(seen.name)[0])}, keep):
            yield output_of


def _confirmed(output_of: Callable[[Tensor], Tensor], pixels: Tensor, view: View) -> View | None:
    """Return how a layer's output is read, with the places that were measured; None where they could not be confirmed.

    Of tokens each is placed; of maps of rows and columns it is only asked whether they are flipped or transposed.
    """
    usual = range(view.grid[0] * view.grid[1])
    if view.layout in ("NCHW", "NHWC"):
        places = _orientation(lambda given: to_maps(output_of(given), view, view.input_size), pixels, view.grid)
    else:
        across = view.layout == "NCL"
        places = token_places(
            lambda changed: output_of(changed)[0].T if across else output_of(changed)[0],
            pixels, view.grid, view.prefix_tokens,
        )  # fmt: skip
    if places is None:
        return None
    if places == (*[-1] * view.prefix_tokens, *usual):
        return view
    first = next(i for i, place in enumerate(places) if place >= 0)
    return view._replace(prefix_tokens=first, places=places)


def _orientation(maps_of: Callable[[Tensor], Tensor], pixels: Tensor, grid: Grid) -> tuple[int, ...] | None:
    """The places of a map, which may be flipped or transposed; that it is must show twice, lest chance decides."""
    found = []
    for given in (pixels, pixels.flip(-2, -1)):  # the second if the first is not clear
        turned = orientation(quadrant_shares(maps_of, given), grid)
        found.append(None if turned is None else tuple(turned.tolist()))
        if found[-1] == tuple(range(grid[0] * grid[1])):
            return found[-1]
    return found[0] if found[0] == found[1] else None


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


def _alternatives(latest_first: Sequence[Seen], chosen: Sequence[Seen], placing: _Placing) -> tuple[TargetLayer, ...]:
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
    return tuple(_layer(placing.like(seen), "chosen", why) for seen in found[:MOST_ALTERNATIVES])


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
