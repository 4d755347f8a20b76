"""One traced pass through a network: what each layer gave, how it can be read as a map, whether the answer needs it."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from xaihub.cuts import Wiring, wiring
from xaihub.errors import TargetLayerError
from xaihub.hooks import first_tensor, float_tensors, part_of, replace_tensor, watching

__all__ = [
    "Forward", "Grid", "Layout", "Seen", "Trace", "View", "finest_grid", "from_maps", "side_by_side", "to_maps",
    "trace",
]  # fmt: skip

Layout = Literal["NCHW", "NHWC", "NLC", "NCL"]
Grid = tuple[int, int]
Forward = Callable[[Tensor], Tensor]

MOST_PREFIX = 16  # class, distillation and register tokens, wherever they stand; Mamba-R has twelve
FEWEST_CHANNELS = 8  # below this a "map" is more likely a picture or a score
ALIVE = 1e-6  # of the largest gradient: layer scales of 1e-6 at initialisation are divided out by this being relative


class View(NamedTuple):
    """The reading of a layer's output as a map over the image; `grid` is that of pixels of `input_size`.

    Attributes:
        prefix_tokens: tokens before the first that shows a place.
        places: for each token, or each place of a map of rows and columns, the place of the image that it shows,
            counted row by row, and -1 for a token at no place; (): what follows the prefix tokens, row by row.
    """

    layout: Layout
    grid: Grid
    prefix_tokens: int
    channels: int
    input_size: tuple[int, int]
    places: tuple[int, ...] = ()

    def read_as(self, measured: "View") -> "View":
        """The places that were measured, if that layer has as many tokens in the same layout; else as it is."""
        mine, theirs = (len(view.places) or view.prefix_tokens + math.prod(view.grid) for view in (self, measured))
        alike = (self.layout, self.grid, mine) == (measured.layout, measured.grid, theirs)
        return self._replace(prefix_tokens=measured.prefix_tokens, places=measured.places) if alike else self

    def tokens_at_places(self, count: int) -> Tensor:
        """(h * w,), which of so many tokens shows each place, row by row."""
        return _at_places(self.places) if self.places else torch.arange(self.prefix_tokens, count)

    def tokens_at_none(self) -> list[int]:
        """The tokens that show no place: class token, registers."""
        return [i for i, place in enumerate(self.places) if place < 0] or list(range(self.prefix_tokens))


@lru_cache(maxsize=64)
def _at_places(places: tuple[int, ...]) -> Tensor:
    order = torch.tensor(places)
    return order.argsort(stable=True)[int((order < 0).sum()) :]


@dataclass(frozen=True, eq=False)
class Seen:
    """What one or more nested modules gave: the very same tensor.

    Attributes:
        names: of the modules, innermost first; "block[1]" is the second tensor that "block" gives.
        name: the innermost that owns parameters: "layer4.1" says more than its activation, which runs twice.
        calls: how often that one ran; what it gave last counts.
        place: in the order of execution.
        node: its number in the trace's wiring.
        view: how it can be read as a map, or None. `others`: further ways, less likely by its shape.
        reached: whether any gradient of the target reaches it.
        live: whether that gradient covers its map.
    """

    names: tuple[str, ...]
    name: str
    shape: tuple[int, ...]
    calls: int
    place: int
    node: int
    view: View | None
    reached: bool
    live: bool
    others: tuple[View, ...] = ()


@dataclass(frozen=True)
class Trace:
    """A traced pass, in the order of execution.

    Attributes:
        target: the class with the largest logit.
        wires: what each step was computed from; where no gradient arrives there are none.
        end: the number of the pixels in it.
        guessed: whether no convolution tells what sizes maps have, so that any number of patches may be one.
    """

    seen: tuple[Seen, ...]
    target: int
    wires: Wiring
    end: int
    guessed: bool = False


def to_maps(output: Tensor, view: View, input_size: tuple[int, int]) -> Tensor:
    """(N, K, h, w) from a layer's raw output, whatever its layout; the same for its gradient.

    The grid follows the input: on pixels of another size than the traced ones it is scaled with them.

    Raises:
        TargetLayerError: the output fills no grid of that shape.
    """
    if view.layout in ("NCHW", "NHWC"):
        maps = output if view.layout == "NCHW" else output.permute(0, 3, 1, 2)
        if not view.places:
            return maps
        _check_grid(view, (maps.shape[2], maps.shape[3]))
        return maps.flatten(2)[..., _at_places(view.places).to(maps.device)].unflatten(2, view.grid)
    tokens = output if view.layout == "NLC" else output.transpose(1, 2)
    count = tokens.shape[1] - len(view.tokens_at_none())
    grid = _grid_for(view, input_size, count)
    if view.places:
        _check_grid(view, grid)
        patches = tokens[:, _at_places(view.places).to(tokens.device)]
    else:
        patches = tokens[:, view.prefix_tokens :]
    return patches.transpose(1, 2).reshape(len(patches), -1, *grid)


def from_maps(maps: Tensor, output: Tensor, view: View) -> Tensor:
    """A layer's output in its own layout, with these maps (B, K, h, w) in place of its own; other tokens stay."""
    flat = maps.flatten(2)
    if view.layout in ("NCHW", "NHWC"):
        if view.places:
            maps = flat[..., list(view.places)].unflatten(2, view.grid)
        return maps if view.layout == "NCHW" else maps.permute(0, 2, 3, 1)
    if not view.prefix_tokens and not view.places:
        return flat if view.layout == "NCL" else flat.transpose(1, 2)
    axis = 1 if view.layout == "NLC" else 2
    given = output.expand(len(maps), -1, -1).clone()
    where = view.tokens_at_places(output.shape[axis]).to(given.device)
    return given.index_copy(axis, where, flat.transpose(1, 2) if axis == 1 else flat)


def _check_grid(view: View, grid: Grid) -> None:
    """Raise TargetLayerError if an order that was measured on one grid would be used on another."""
    if grid != view.grid:
        raise TargetLayerError(
            f"The order of this layer's places was measured on {view.grid[0]} x {view.grid[1]} of them, and it gave"
            f" {grid[0]} x {grid[1]}, for which it is not known. Use pixels of {view.input_size[0]} x"
            f" {view.input_size[1]}, or choose another layer."
        )


def side_by_side(maps: Sequence[Tensor]) -> Tensor:
    """Channels of several maps on the finest of their grids; each fine place takes the value of the nearest coarse."""
    if len(maps) == 1:
        return maps[0]
    return torch.cat([interpolate(each, finest_grid(maps), mode="nearest-exact") for each in maps], dim=1)


def finest_grid(maps: Sequence[Tensor]) -> Grid:
    """(h, w) of the map with the most places."""
    return max(((each.shape[2], each.shape[3]) for each in maps), key=lambda grid: grid[0] * grid[1])


def _grid_for(view: View, input_size: tuple[int, int], count: int) -> Grid:
    (rows, columns), (height, width), (traced_height, traced_width) = view.grid, input_size, view.input_size
    scaled = -(-rows * height // traced_height), -(-columns * width // traced_width)
    for grid in (scaled, view.grid):  # the second where the network resizes pictures itself
        if grid[0] * grid[1] == count:
            return grid
    raise TargetLayerError(
        f"The target layer gave {count} places for pixels of {height} x {width}, which is no grid of that shape"
        f" (expected {scaled[0]} x {scaled[1]}). Choose another layer."
    )


def trace(module: nn.Module, forward: Forward, pixels: Tensor, fewest: int = FEWEST_CHANNELS) -> Trace:
    """One forward pass with every module's output kept, one backward pass to all of them.

    Args:
        fewest: channels that four-dimensional outputs need to be maps.
        forward: pixels -> logits (1, C), through the module.
        pixels: (1, C, H, W).
    """
    record = _Record({name: layer for name, layer in module.named_modules() if name})
    leaf = pixels.detach().requires_grad_()
    with torch.enable_grad(), watching(record.layers, record.see):
        logits = forward(leaf)
    target = int(logits[0].argmax())
    given = [kept for kept in record.kept if kept.names]
    if not logits.requires_grad:
        return Trace((), target, [[], []], 1)
    wires, end, nodes = wiring(logits[0, target], leaf, [kept.node for kept in given])
    tensors = [leaf, *(kept.tensor for kept in given)]
    arrived, *gradients = torch.autograd.grad(logits[0, target], tensors, allow_unused=True)
    size = (pixels.shape[2], pixels.shape[3])
    convolved = [grid for grid in record.convolved if _same_shape(grid, size)]
    guessed, grids = not convolved, _grids(convolved or _patches(size))
    seen = []
    for place, (kept, node, gradient) in enumerate(zip(given, nodes, gradients, strict=True)):
        views = _views(tuple(kept.tensor.shape), grids, size, fewest)
        view = views[0] if views else None
        name = next((name for name in kept.names if part_of(name)[0] in record.owners), kept.names[0])
        reached = gradient is not None and bool(gradient.any())
        live = view is not None and gradient is not None and _is_live(gradient, view)
        shape, calls = tuple(kept.tensor.shape), record.calls[part_of(name)[0]]
        seen.append(Seen(tuple(kept.names), name, shape, calls, place, node, view, reached, live, tuple(views[1:])))
    dead = arrived is None or not arrived.any()  # as in a network that was never trained: then all wires stay
    silent = set() if dead else {each.node for each in seen if not each.reached}
    return Trace(tuple(seen), target, [() if node in silent else row for node, row in enumerate(wires)], end, guessed)


class _Kept(NamedTuple):
    """A tensor that modules gave, their names, innermost first, and where autograd knows its copy that went on."""

    names: list[str]
    tensor: Tensor
    node: Any


class _Record:
    """What is kept of a pass while it runs."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        self.layers = layers
        self.owners = {name for name, layer in layers.items() if next(layer.parameters(), None) is not None}
        self.kept: list[_Kept] = []
        self.calls: Counter[str] = Counter()
        self.convolved: list[Grid] = []
        self._latest: dict[str, _Kept] = {}
        self._copies: dict[int, tuple[Tensor, _Kept]] = {}  # by id; the copy is held so that no other gets its id

    def see(self, module: str, output: Any) -> Any:
        """Keeps every tensor of a module's output and lets copies go on, as `tap` does: a later in-place operation
        must not change what is kept."""
        self.calls[module] += 1
        changed = output
        for index, tensor in enumerate(float_tensors(output)):
            if tensor.requires_grad:
                changed = self._keep(f"{module}[{index}]" if index else module, tensor, changed)
        first = first_tensor(output)
        if isinstance(self.layers[module], nn.Conv2d) and first is not None and first.ndim == 4 and len(first) == 1:
            self.convolved.append((first.shape[2], first.shape[3]))
        return None if changed is output else changed

    def _keep(self, name: str, tensor: Tensor, output: Any) -> Any:
        if name in self._latest:
            self._latest[name].names.remove(name)  # the last call counts, and its place in the order
        if id(tensor) in self._copies and tensor._version == 0:  # the container of a layer gives what the layer gave
            self._latest[name] = self._copies[id(tensor)][1]
            self._latest[name].names.append(name)
            return output
        copy = tensor.clone()
        self._latest[name] = _Kept([name], tensor, copy.grad_fn)
        self._copies[id(copy)] = (copy, self._latest[name])
        self.kept.append(self._latest[name])
        return replace_tensor(output, tensor, copy)


def _patches(size: tuple[int, int]) -> list[Grid]:
    """Every way to divide the input into square patches."""
    common = math.gcd(*size)
    return [(size[0] // edge, size[1] // edge) for edge in range(1, common + 1) if common % edge == 0]


def _grids(found: Iterable[Grid]) -> list[Grid]:
    """Sizes that maps may have: those that were found, and their halvings rounded up."""
    grids: dict[Grid, None] = {}
    for rows, columns in found:
        while rows > 1 and columns > 1:
            grids.setdefault((rows, columns))
            rows, columns = -(-rows // 2), -(-columns // 2)
    return list(grids)


def _same_shape(grid: Grid, size: tuple[int, int]) -> bool:
    return min(grid) > 1 and abs(grid[0] / size[0] - grid[1] / size[1]) <= 1.0 / min(size)


def _views(shape: tuple[int, ...], grids: list[Grid], size: tuple[int, int], fewest: int) -> list[View]:
    """Return how a tensor of that shape can be read as a map of at least so many channels, the likeliest way first."""
    if shape[0] != 1 or len(shape) not in (3, 4):
        return []
    if len(shape) == 4:
        _, a, b, c = shape
        first = [View("NCHW", (b, c), 0, a, size)] if (b, c) in grids and a >= fewest else []
        return first + ([View("NHWC", (a, b), 0, c, size)] if (a, b) in grids and c >= fewest else [])
    _, a, b = shape
    coarse = [grid for grid in grids if grid != size]  # a token for each pixel is the picture, not a map of features
    views = [
        View("NLC", grid, prefix, b, size)
        for prefix in range(MOST_PREFIX + 1)
        for grid in coarse
        if a - prefix == grid[0] * grid[1] > prefix and b >= FEWEST_CHANNELS
    ]
    return views + [View("NCL", grid, 0, a, size) for grid in coarse if b == grid[0] * grid[1] and a >= FEWEST_CHANNELS]


def _is_live(gradient: Tensor, view: View) -> bool:
    """Whether the target's gradient reaches at least half of the map, and more than one channel of it.

    One channel alone means that the map already is the classes' scores: SqueezeNet's classifier is a convolution.
    """
    maps = to_maps(gradient.detach().abs().float(), view, view.input_size)[0]  # (K, h, w)
    least = ALIVE * float(gradient.abs().max())
    reached = (maps.amax(0) > least).float().mean()
    carrying = (maps.amax((1, 2)) > least).sum()
    return bool(torch.isfinite(maps).all()) and float(reached) >= 0.5 and int(carrying) > 1
