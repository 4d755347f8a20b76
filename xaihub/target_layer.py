"""Which layer to explain, chosen by measurement and proved: no table of models.

A layer qualifies when its output can be read as a map over the picture, when the target's gradient reaches at least
half of that map, and when cutting the gradient there leaves none at the pixels: then everything the logit knows of
the picture passes through it. The last such layer is the target layer.

Both halves are needed. The gradient alone accepts side branches; the cut alone accepts maps that no longer matter,
such as the patch tokens after the last block of a network that reads its class token.
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xaihub.errors import TargetLayerError
from xaihub.hooks import first_tensor, replace_tensor, watching
from xaihub.registry import nearest_name
from xaihub.tracing import Forward, Grid, Layout, Seen, Trace, View, trace

__all__ = ["TargetLayer", "choose_target_layer", "fused", "layer_named"]

Proof = Literal["bottleneck", "fused", "partial", "chosen"]

MOST_TRIES = 40  # forward-and-backward passes spent on proofs
MOST_ALTERNATIVES = 8


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
    """The last layer that shows where, proved to be a bottleneck where the network has one.

    Args:
        module: in eval mode.
        forward: pixels -> logits (1, C), through the module.
        pixels: (1, C, H, W) of a picture with some texture.

    Raises:
        TargetLayerError: nothing in the network is a map that the logit depends on.
    """
    traced = trace(module, forward, pixels)
    latest_first = [seen for seen in reversed(traced.seen) if seen.live]
    if not latest_first:  # a network so narrow that its maps look like pictures or scores
        narrow = trace(module, forward, pixels, fewest=2)
        latest_first = [seen for seen in reversed(narrow.seen) if seen.live]
    if not latest_first:
        raise TargetLayerError(_why_none(traced))
    for rank, seen in enumerate(latest_first[:MOST_TRIES]):
        if _is_bottleneck(module, forward, pixels, traced.target, seen):
            return _layer(seen, "bottleneck", _why(seen, traced, rank), _alternatives(latest_first, seen))
    last = latest_first[0]
    why = (
        "This network has no single layer that everything passes through, so this is the last one that shows where: its"
        " map is a part of the reason, not the whole."
    )
    return _layer(last, "partial", why, _alternatives(latest_first, last))


def layer_named(module: nn.Module, forward: Forward, pixels: Tensor, name: str) -> TargetLayer:
    """The layer of that name, or of several joined by " + ", if its output can be read as a map.

    Raises:
        TargetLayerError: there is none, or it gives no map; the nearest names are offered.
    """
    if "+" in name:
        parts = [layer_named(module, forward, pixels, part.strip()) for part in name.split("+")]
        return fused(tuple(parts), "chosen", "Chosen by you; the contributions of these layers are added.")
    names = [part for part, _ in module.named_modules() if part]
    if name not in names:
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


def _is_bottleneck(module: nn.Module, forward: Forward, pixels: Tensor, target: int, seen: Seen) -> bool:
    """Whether no gradient reaches the pixels when this layer's output is cut from the graph."""
    calls = 0

    def cut(_name: str, output: Any) -> Any:
        nonlocal calls
        calls += 1
        tensor = first_tensor(output)
        return replace_tensor(output, tensor, tensor.detach()) if tensor is not None and calls == seen.calls else None

    leaf = pixels.detach().requires_grad_()
    innermost = seen.names[0]
    with torch.enable_grad(), watching({innermost: module.get_submodule(innermost)}, cut):
        logit = forward(leaf)[0, target]
    if not logit.requires_grad:
        return True
    (left,) = torch.autograd.grad(logit, [leaf], allow_unused=True)
    return left is None or not bool(left.any())


def _layer(
    seen: Seen, proof: Proof, why: str, others: tuple[TargetLayer, ...] = ()
) -> TargetLayer:
    if seen.view is None:
        raise ValueError(f"{seen.name} gives {seen.shape}, which is no map.")
    return TargetLayer(seen.name, seen.view, proof, why, others)


def _why(seen: Seen, traced: Trace, rank: int) -> str:
    early = seen.place < traced.seen[-1].place / 2
    return (
        "It is the last layer that still shows where and that everything the answer rests on passes through (proved:"
        f" with its output cut off, no gradient is left at the pixels; {rank} later candidates failed)."
        + (" It lies in the first half of the network, so later, parallel branches may tell more." if early else "")
    )


def _alternatives(latest_first: list[Seen], chosen: Seen) -> tuple[TargetLayer, ...]:
    """The last layer of every other grid, and the chosen one's siblings ("layer3.1" beside "layer4.1")."""
    pattern = re.sub(r"\d+", "#", chosen.name)
    grids: set[Grid] = set()
    found: list[Seen] = []
    for seen in latest_first:
        grid = seen.view.grid if seen.view else (0, 0)
        if seen is not chosen and (re.sub(r"\d+", "#", seen.name) == pattern or grid not in grids):
            found.append(seen)
        grids.add(grid)
    why = "Chosen by you; the target's gradient reaches it."
    return tuple(_layer(seen, "chosen", why) for seen in found[:MOST_ALTERNATIVES])


def _why_none(traced: Trace) -> str:
    maps = [seen for seen in traced.seen if seen.view is not None]
    if maps and not any(seen.reached for seen in maps):
        return (
            "The gradient of the answer is zero in every layer, as in a network whose head was never trained: there is"
            " nothing to explain. Use trained weights."
        )
    return (
        "No layer of this network keeps a map of the picture that the answer depends on, so no class activation map can"
        " be drawn. Methods that only look at the answer (occlusion, RISE) would work."
    )
