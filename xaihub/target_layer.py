"""Which layer to explain, chosen by measurement and proved: no table of models.

One pass is traced. A layer qualifies when its output can be read as a map over the picture, when the target's
gradient reaches at least half of that map, and when cutting the gradient there leaves none at the pixels: then
everything the logit knows of the picture passes through it. The last such layer is the target layer.

Both halves are needed. The gradient alone accepts side branches; the cut alone accepts maps that no longer matter,
such as the patch tokens after the last block of a network that reads its class token.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xaihub.errors import TargetLayerError
from xaihub.hooks import first_tensor, replace_tensor, watching
from xaihub.registry import nearest_name

__all__ = ["Layout", "TargetLayer", "choose_target_layer", "layer_named", "to_maps"]

Layout = Literal["NCHW", "NHWC", "NLC", "NCL"]
Grid = tuple[int, int]
Forward = Callable[[Tensor], Tensor]

MOST_TRIES = 40  # forward-and-backward passes spent on proofs
MOST_PREFIX = 8  # class, distillation and register tokens
FEWEST_CHANNELS = 8  # below this a "map" is more likely a picture or a score
ALIVE = 1e-6  # of the largest gradient: layer scales of 1e-6 at initialisation are divided out by this being relative
MOST_ALTERNATIVES = 8


@dataclass(frozen=True)
class TargetLayer:
    """Where an explanation looks.

    Attributes:
        name: of the module, as in `module.named_modules()`; the last of its calls counts.
        layout: how its output is laid out.
        grid: (h, w) of its map when the input has `input_size`.
        channels: K of its map.
        prefix_tokens: tokens before the patches (class token, registers), left out of the map.
        input_size: (H, W) of the pixels it was traced with.
        proof: "bottleneck" all the logit knows passes here; "partial" some passes elsewhere; "chosen" by the user.
        reason: why this layer, in words.
        alternatives: other layers that show where, latest first.
    """

    name: str
    layout: Layout
    grid: Grid
    channels: int
    prefix_tokens: int
    input_size: tuple[int, int]
    proof: Literal["bottleneck", "partial", "chosen"]
    reason: str
    alternatives: tuple["TargetLayer", ...] = ()

    @property
    def in_words(self) -> str:
        rows, columns = self.grid
        prefix = f" after {self.prefix_tokens} prefix token{'s'[: self.prefix_tokens != 1]}" if self.prefix_tokens else ""
        return f"{self.name} ({rows} x {columns} places, {self.channels} channels, {self.layout}{prefix})"


def to_maps(output: Tensor, layer: TargetLayer, input_size: tuple[int, int]) -> Tensor:
    """(N, K, h, w) from a layer's raw output, whatever its layout; the same for its gradient.

    The grid follows the input: on pixels of another size than the traced ones it is scaled with them.
    """
    if layer.layout == "NCHW":
        return output
    if layer.layout == "NHWC":
        return output.permute(0, 3, 1, 2)
    tokens = output if layer.layout == "NLC" else output.transpose(1, 2)
    rows, columns = _grid_for(layer, input_size, tokens.shape[1] - layer.prefix_tokens)
    patches = tokens[:, layer.prefix_tokens :]
    return patches.transpose(1, 2).reshape(len(patches), -1, rows, columns)


def _grid_for(layer: TargetLayer, input_size: tuple[int, int], count: int) -> Grid:
    scaled = tuple(-(-cells * now // then) for cells, now, then in zip(layer.grid, input_size, layer.input_size, strict=True))
    if scaled[0] * scaled[1] == count:
        return scaled[0], scaled[1]
    if layer.grid[0] * layer.grid[1] == count:  # the network resized the picture itself
        return layer.grid
    raise TargetLayerError(
        f"Layer {layer.name} gave {count} places for pixels of {input_size[0]} x {input_size[1]}, which is no grid of that"
        f" shape (expected {scaled[0]} x {scaled[1]}). Choose another layer."
    )


@dataclass
class _Seen:
    """What one module gave in the traced pass."""

    names: list[str]  # every module that gave this very tensor, innermost first
    tensor: Tensor
    calls: int
    place: int  # in the order of execution


@dataclass
class _Trace:
    seen: list[_Seen]  # in the order of execution
    grids: list[Grid]
    logits: Tensor
    target: int
    gradients: list[Tensor | None]
    input_size: tuple[int, int]


def choose_target_layer(module: nn.Module, forward: Forward, pixels: Tensor) -> TargetLayer:
    """The last layer that shows where, proved to be a bottleneck where the network has one.

    Args:
        module: in eval mode.
        forward: pixels -> logits (1, C), through the module.
        pixels: (1, C, H, W) of a picture with some texture.

    Raises:
        TargetLayerError: nothing in the network is a map that the logit depends on.
    """
    trace = _trace(module, forward, pixels)
    live = [found for found in _views(trace) if found[1] is not None and _is_live(found, trace)]
    if not live:
        raise TargetLayerError(_why_none(trace))
    latest_first = sorted(live, key=lambda found: -found[0].place)
    chosen = next(
        (found for found in latest_first[:MOST_TRIES] if _is_bottleneck(module, forward, pixels, trace, found[0])), None
    )
    seen, view = chosen or latest_first[0]
    return replace(
        _layer(module, seen, view, trace, "bottleneck" if chosen else "partial"),
        reason=_reason(seen, trace, proved=chosen is not None, rank=latest_first.index((seen, view))),
        alternatives=_alternatives(module, trace, latest_first, seen),
    )


def layer_named(module: nn.Module, forward: Forward, pixels: Tensor, name: str) -> TargetLayer:
    """The layer of that name, if its output can be read as a map.

    Raises:
        TargetLayerError: there is none, or it gives no map; the nearest names are offered.
    """
    names = dict(module.named_modules())
    if name not in names or not name:
        raise TargetLayerError(
            f"This network has no layer {name!r}.{nearest_name(name, list(names))} Its parts:"
            f" {', '.join(child for child, _ in module.named_children())}."
        )
    trace = _trace(module, forward, pixels)
    for seen, view in _views(trace):
        if name in seen.names and view is not None:
            live = "the target's gradient reaches it" if _is_live((seen, view), trace) else "but the gradient there is zero"
            layer = _layer(module, seen, view, trace, "chosen")
            return replace(layer, name=name, reason=f"Chosen by you; {live}.")
    gave = next((tuple(seen.tensor.shape) for seen in trace.seen if name in seen.names), None)
    what = f"gives {gave}" if gave else "gives nothing that the logit depends on"
    raise TargetLayerError(f"Layer {name!r} {what}, which is no map over the picture. Choose an earlier or a later one.")


def _trace(module: nn.Module, forward: Forward, pixels: Tensor) -> _Trace:
    """One forward pass with every module's output kept, one backward pass to all of them."""
    kept: dict[str, Tensor] = {}
    versions: dict[str, int] = {}
    calls: Counter[str] = Counter()
    convolutions: list[Grid] = []
    layers = {name: layer for name, layer in module.named_modules() if name}

    def see(name: str, output: Any) -> None:
        tensor = first_tensor(output)
        calls[name] += 1
        if tensor is None or not tensor.requires_grad:
            return
        kept.pop(name, None)  # the last call counts, and its place in the order
        kept[name], versions[name] = tensor, tensor._version
        if isinstance(layers[name], nn.Conv2d) and tensor.ndim == 4:
            convolutions.append((tensor.shape[2], tensor.shape[3]))

    size = (pixels.shape[2], pixels.shape[3])
    with torch.enable_grad(), watching(layers, see):
        logits = forward(pixels.detach().requires_grad_())
    target = int(logits[0].argmax())
    seen = _group(kept, versions, calls)
    gradients = _gradients(logits[0, target], [found.tensor for found in seen])
    return _Trace(seen, _grids(convolutions, size), logits, target, gradients, size)


def _group(kept: dict[str, Tensor], versions: dict[str, int], calls: Counter[str]) -> list[_Seen]:
    """One entry per tensor: a block, its container and its in-place activation give the very same one."""
    groups: dict[tuple[int, int], _Seen] = {}
    for place, (name, tensor) in enumerate(kept.items()):  # inner modules end before outer ones
        key = (id(tensor), versions[name])
        if key in groups:
            groups[key].names.append(name)
        else:
            groups[key] = _Seen([name], tensor, calls[name], place)
    # a tensor that was changed in place later is no longer what its first owner gave
    latest = {id(found.tensor): found for found in groups.values()}
    return [found for found in groups.values() if latest[id(found.tensor)] is found]


def _gradients(logit: Tensor, tensors: list[Tensor]) -> list[Tensor | None]:
    if not logit.requires_grad or not tensors:
        return [None] * len(tensors)
    return list(torch.autograd.grad(logit, tensors, allow_unused=True, retain_graph=False))


def _grids(convolutions: Iterable[Grid], size: tuple[int, int]) -> list[Grid]:
    """Sizes of maps with the input's proportions: those of the convolutions, and their halvings rounded up."""
    grids: dict[Grid, None] = {}
    for rows, columns in [grid for grid in convolutions if _same_shape(grid, size)] or [size]:
        while rows > 1 and columns > 1:
            grids.setdefault((rows, columns))
            rows, columns = -(-rows // 2), -(-columns // 2)
    return list(grids)


def _same_shape(grid: Grid, size: tuple[int, int]) -> bool:
    return min(grid) > 1 and abs(grid[0] / size[0] - grid[1] / size[1]) <= 1.0 / min(size)


View = tuple[Layout, Grid, int, int]  # layout, grid, prefix tokens, channels


def _views(trace: _Trace) -> list[tuple[_Seen, View | None]]:
    return [(found, _view(tuple(found.tensor.shape), trace.grids)) for found in trace.seen]


def _view(shape: tuple[int, ...], grids: list[Grid]) -> View | None:
    """How a tensor of that shape can be read as a map, or None."""
    if shape[0] != 1 or any(size < 1 for size in shape):
        return None
    if len(shape) == 4:
        _, a, b, c = shape
        if (b, c) in grids and a >= FEWEST_CHANNELS:
            return "NCHW", (b, c), 0, a
        return ("NHWC", (a, b), 0, c) if (a, b) in grids and c >= FEWEST_CHANNELS else None
    if len(shape) == 3:
        _, a, b = shape
        for prefix in range(MOST_PREFIX + 1):
            for rows, columns in grids:
                if a - prefix == rows * columns and b >= FEWEST_CHANNELS:
                    return "NLC", (rows, columns), prefix, b
        for rows, columns in grids:
            if b == rows * columns and a >= FEWEST_CHANNELS:
                return "NCL", (rows, columns), 0, a
    return None


def _is_live(found: tuple[_Seen, View | None], trace: _Trace) -> bool:
    """Whether the target's gradient reaches at least half of the map, and more than one channel of it.

    One channel alone means that the map already is the classes' scores: SqueezeNet's classifier is a convolution.
    """
    seen, view = found
    gradient = trace.gradients[trace.seen.index(seen)]
    if gradient is None or view is None:
        return False
    layout, grid, prefix, channels = view
    size = trace.input_size
    probe = TargetLayer("", layout, grid, channels, prefix, size, "chosen", "")
    maps = to_maps(gradient.detach().abs().float(), probe, size)[0]  # (K, h, w)
    largest = float(gradient.abs().max())
    reached = (maps.amax(0) > ALIVE * largest).float().mean()
    carrying = (maps.amax((1, 2)) > ALIVE * largest).sum()
    return largest > 0 and bool(torch.isfinite(maps).all()) and float(reached) >= 0.5 and int(carrying) > 1


def _is_bottleneck(module: nn.Module, forward: Forward, pixels: Tensor, trace: _Trace, found: _Seen) -> bool:
    """Whether no gradient reaches the pixels when this layer's output is cut from the graph."""
    layer = dict(module.named_modules())[found.names[0]]
    calls = 0

    def cut(_name: str, output: Any) -> Any:
        nonlocal calls
        calls += 1
        tensor = first_tensor(output)
        return replace_tensor(output, tensor, tensor.detach()) if tensor is not None and calls == found.calls else None

    leaf = pixels.detach().requires_grad_()
    with torch.enable_grad(), watching({found.names[0]: layer}, cut):
        logit = forward(leaf)[0, trace.target]
    if not logit.requires_grad:
        return True
    (left,) = torch.autograd.grad(logit, [leaf], allow_unused=True)
    return left is None or not bool(left.any())


def _layer(module: nn.Module, seen: _Seen, view: View, trace: _Trace, proof: Any) -> TargetLayer:
    layout, grid, prefix, channels = view
    return TargetLayer(_best_name(module, seen), layout, grid, channels, prefix, trace.input_size, proof, "")


def _best_name(module: nn.Module, seen: _Seen) -> str:
    """The innermost module that owns parameters: "layer4.1" says more than its activation, which runs twice."""
    parts = dict(module.named_modules())
    owners = (name for name in seen.names if next(parts[name].parameters(), None) is not None)
    return next(owners, seen.names[0])


def _reason(seen: _Seen, trace: _Trace, *, proved: bool, rank: int) -> str:
    if not proved:
        return (
            "This network has no single layer that everything passes through, so this is the last one that shows where:"
            " its map is a part of the reason, not the whole."
        )
    early = seen.place < trace.seen[-1].place / 2
    why = "It is the last layer that still shows where and that everything the answer rests on passes through"
    how = f" (proved: with its output cut off, no gradient is left at the pixels; {rank} later candidates failed)."
    warning = " It lies in the first half of the network, so later, parallel branches may tell more." if early else ""
    return why + how + warning


def _alternatives(
    module: nn.Module, trace: _Trace, latest_first: list[tuple[_Seen, View | None]], chosen: _Seen
) -> tuple[TargetLayer, ...]:
    """The last layer of every other grid, and the chosen one's siblings ("layer3.1" beside "layer4.1")."""
    pattern = re.sub(r"\d+", "#", _best_name(module, chosen))
    grids: set[Grid] = set()
    found: list[TargetLayer] = []
    for seen, view in latest_first:
        if view is None:
            continue
        sibling = re.sub(r"\d+", "#", _best_name(module, seen)) == pattern
        if seen is not chosen and (sibling or view[1] not in grids):
            layer = _layer(module, seen, view, trace, "chosen")
            found.append(replace(layer, reason="Chosen by you; the target's gradient reaches it."))
        grids.add(view[1])
    return tuple(found[:MOST_ALTERNATIVES])


def _why_none(trace: _Trace) -> str:
    maps = [place for place, (_, view) in enumerate(_views(trace)) if view is not None]
    if maps and not any(trace.gradients[place] is not None and bool(trace.gradients[place].any()) for place in maps):
        return (
            "The gradient of the answer is zero in every layer, as in a network whose head was never trained:"
            " there is nothing to explain. Use trained weights."
        )
    return (
        "No layer of this network keeps a map of the picture that the answer depends on, so no class activation map"
        " can be drawn. Methods that only look at the answer (occlusion, RISE) would work, and so do twins."
    )
