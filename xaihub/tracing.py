"""One traced pass through a network: what each layer gave, how it can be read as a map, whether the answer needs it."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from xaihub.errors import TargetLayerError
from xaihub.hooks import first_tensor, replace_tensor, watching

__all__ = ["Forward", "Grid", "Layout", "Seen", "Trace", "View", "to_maps", "trace"]

Layout = Literal["NCHW", "NHWC", "NLC", "NCL"]
Grid = tuple[int, int]
Forward = Callable[[Tensor], Tensor]

MOST_PREFIX = 8  # class, distillation and register tokens
FEWEST_CHANNELS = 8  # below this a "map" is more likely a picture or a score
ALIVE = 1e-6  # of the largest gradient: layer scales of 1e-6 at initialisation are divided out by this being relative


class View(NamedTuple):
    """How a layer's output is read as a map over the picture; `grid` is that of pixels of `input_size`."""

    layout: Layout
    grid: Grid
    prefix_tokens: int
    channels: int
    input_size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Seen:
    """What one or more nested modules gave: the very same tensor.

    Attributes:
        names: of the modules, innermost first.
        name: the innermost that owns parameters: "layer4.1" says more than its activation, which runs twice.
        calls: how often the innermost ran; what it gave last counts.
        place: in the order of execution.
        view: how it can be read as a map, or None.
        reached: whether any gradient of the target reaches it.
        live: whether that gradient covers its map.
    """

    names: tuple[str, ...]
    name: str
    shape: tuple[int, ...]
    calls: int
    place: int
    view: View | None
    reached: bool
    live: bool


@dataclass(frozen=True)
class Trace:
    """A traced pass, in the order of execution."""

    seen: tuple[Seen, ...]
    target: int


def to_maps(output: Tensor, view: View, input_size: tuple[int, int]) -> Tensor:
    """(N, K, h, w) from a layer's raw output, whatever its layout; the same for its gradient.

    The grid follows the input: on pixels of another size than the traced ones it is scaled with them.

    Raises:
        TargetLayerError: the output fills no grid of that shape.
    """
    if view.layout == "NCHW":
        return output
    if view.layout == "NHWC":
        return output.permute(0, 3, 1, 2)
    tokens = output if view.layout == "NLC" else output.transpose(1, 2)
    patches = tokens[:, view.prefix_tokens :]
    rows, columns = _grid_for(view, input_size, patches.shape[1])
    return patches.transpose(1, 2).reshape(len(patches), -1, rows, columns)


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
    layers = {name: layer for name, layer in module.named_modules() if name}
    groups: list[tuple[list[str], Tensor]] = []  # the names that gave one tensor, innermost first
    copies: dict[int, tuple[Tensor, int]] = {}  # id of a copy that went on -> itself, kept alive, and its group
    calls: Counter[str] = Counter()
    convolved: list[Grid] = []

    def see(name: str, output: Any) -> Any:
        tensor = first_tensor(output)
        calls[name] += 1
        if tensor is None or not tensor.requires_grad:
            return None
        for names, _ in groups:
            if name in names:
                names.remove(name)  # the last call counts, and its place in the order
        if isinstance(layers[name], nn.Conv2d) and tensor.ndim == 4:
            convolved.append((tensor.shape[2], tensor.shape[3]))
        if id(tensor) in copies and tensor._version == 0:  # the container of a layer gives what the layer gave
            groups[copies[id(tensor)][1]][0].append(name)
            return None
        copy = tensor.clone()  # goes on, as in `tap`: a later in-place operation must not change what is kept
        copies[id(copy)] = (copy, len(groups))
        groups.append(([name], tensor))
        return replace_tensor(output, tensor, copy)

    size = (pixels.shape[2], pixels.shape[3])
    with torch.enable_grad(), watching(layers, see):
        logits = forward(pixels.detach().requires_grad_())
    target = int(logits[0].argmax())
    given = [(tuple(names), tensor) for names, tensor in groups if names]
    gradients = _gradients(logits[0, target], [tensor for _, tensor in given])
    grids = _grids(convolved, size)
    owners = {name for name, layer in layers.items() if next(layer.parameters(), None) is not None}
    seen = []
    for place, ((names, tensor), gradient) in enumerate(zip(given, gradients, strict=True)):
        view = _view(tuple(tensor.shape), grids, size, fewest)
        name = next((name for name in names if name in owners), names[0])
        reached = gradient is not None and bool(gradient.any())
        live = view is not None and gradient is not None and _is_live(gradient, view)
        seen.append(Seen(names, name, tuple(tensor.shape), calls[names[0]], place, view, reached, live))
    return Trace(tuple(seen), target)


def _gradients(logit: Tensor, tensors: list[Tensor]) -> list[Tensor | None]:
    if not logit.requires_grad or not tensors:
        return [None] * len(tensors)
    return list(torch.autograd.grad(logit, tensors, allow_unused=True))


def _grids(convolved: Iterable[Grid], size: tuple[int, int]) -> list[Grid]:
    """Sizes of maps with the input's proportions: those of the convolutions, and their halvings rounded up."""
    grids: dict[Grid, None] = {}
    for rows, columns in [grid for grid in convolved if _same_shape(grid, size)] or [size]:
        while rows > 1 and columns > 1:
            grids.setdefault((rows, columns))
            rows, columns = -(-rows // 2), -(-columns // 2)
    return list(grids)


def _same_shape(grid: Grid, size: tuple[int, int]) -> bool:
    return min(grid) > 1 and abs(grid[0] / size[0] - grid[1] / size[1]) <= 1.0 / min(size)


def _view(shape: tuple[int, ...], grids: list[Grid], size: tuple[int, int], fewest: int) -> View | None:
    """How a tensor of that shape can be read as a map of at least so many channels, or None."""
    if shape[0] != 1 or len(shape) not in (3, 4):
        return None
    if len(shape) == 4:
        _, a, b, c = shape
        if (b, c) in grids and a >= fewest:
            return View("NCHW", (b, c), 0, a, size)
        return View("NHWC", (a, b), 0, c, size) if (a, b) in grids and c >= fewest else None
    _, a, b = shape
    coarse = [grid for grid in grids if grid != size]  # a token for each pixel is the picture, not a map of features
    for prefix in range(MOST_PREFIX + 1):
        for grid in coarse:
            cells = grid[0] * grid[1]
            if a - prefix == cells and prefix < cells and b >= FEWEST_CHANNELS:
                return View("NLC", grid, prefix, b, size)
    fitting = [grid for grid in coarse if b == grid[0] * grid[1] and a >= FEWEST_CHANNELS]
    return View("NCL", fitting[0], 0, a, size) if fitting else None


def _is_live(gradient: Tensor, view: View) -> bool:
    """Whether the target's gradient reaches at least half of the map, and more than one channel of it.

    One channel alone means that the map already is the classes' scores: SqueezeNet's classifier is a convolution.
    """
    maps = to_maps(gradient.detach().abs().float(), view, view.input_size)[0]  # (K, h, w)
    least = ALIVE * float(gradient.abs().max())
    reached = (maps.amax(0) > least).float().mean()
    carrying = (maps.amax((1, 2)) > least).sum()
    return bool(torch.isfinite(maps).all()) and float(reached) >= 0.5 and int(carrying) > 1
