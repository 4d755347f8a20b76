"""The cost of a pass through a network, told before it runs: its memory and its arithmetic, from shapes alone.

A copy of the network without numbers (PyTorch's `meta` device) is given pixels without numbers. Every operation says
how large its result is, so what lies in memory at once is counted as it would be, with what autograd keeps, and the
arithmetic of matrix products and convolutions (`torch.utils.flop_counter`). Where that is not possible, as in a network
that looks at numbers while it runs, the real pass is counted instead and ends as soon as it is beyond the limits.
"""

import copy
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from xaihub.errors import TooLargeError, XaihubError
from xaihub.hooks import float_tensors, watching
from xaihub.progress import checkpoint

__all__ = ["SMALL", "PassCost", "PassLimits", "pass_cost", "refuse_beyond", "watched_pass", "without_numbers"]

SMALL = 128 * 128  # pixels: a pass of no more is cheap in any network that answers in a second
STEPS = 40_000  # operations of one pass: the deepest classifiers have some thousands
_UNGRADED = 3  # a pass without a graph holds so many of its largest tensors at once (measured: 1.2 to 2.5)


@dataclass(frozen=True)
class PassLimits:
    """Limits on the cost of one pass of one image.

    Attributes:
        memory: bytes beside the weights; an EfficientNet-B4 of 380 pixels needs 1.7 GB while it is opened, a ViT-B/16
            of 224 needs 0.36. What a processor's own routines use for scratch, 10 to 50 MB, comes on top.
        operations: floating-point; two cores make about 80 G in a second.
        pixels: of the image that goes in; the largest published classifiers read 800 x 800.
    """

    memory: int = 2000 * 10**6
    operations: int = 400 * 10**9
    pixels: int = 1024 * 1024

    @classmethod
    def from_environment(cls) -> "PassLimits":
        """The limits that XAIHUB_MAX_PASS_MEGABYTES, _GFLOPS and _PIXELS state, else the defaults."""
        return cls(
            int(float(os.environ.get("XAIHUB_MAX_PASS_MEGABYTES", cls.memory / 1e6)) * 1e6),
            int(float(os.environ.get("XAIHUB_MAX_PASS_GFLOPS", cls.operations / 1e9)) * 1e9),
            int(float(os.environ.get("XAIHUB_MAX_PASS_PIXELS", cls.pixels))),
        )


@dataclass(frozen=True)
class PassCost:
    """Cost of one pass of one image.

    Attributes:
        memory: bytes at once, with the graph that a gradient to the pixels needs.
        opening: the same while all that layers give is kept besides, to find the target layer.
        largest: bytes of the largest tensor.
        operations: floating-point, of the forward pass: two for each multiplication with its addition.
        whole: False where the count ended at the limits, so that all of these are the least they can be.
        pixels: of the image; where there are too many, nothing else was counted.
    """

    memory: int
    opening: int
    largest: int
    operations: int
    whole: bool = True
    pixels: int = 0

    @property
    def ungraded(self) -> int:
        """Bytes at once without a graph, about."""
        return min(self.memory, _UNGRADED * self.largest)

    def beyond(self, limits: PassLimits) -> tuple[str, str] | None:
        """Return what it needs beyond these limits, and what they allow, in words; None where it needs no more."""
        if self.pixels > limits.pixels:
            return (
                f"reads images of {self.pixels:,} pixels",
                f"at most {limits.pixels:,} are put into a network here (XAIHUB_MAX_PASS_PIXELS)",
            )
        least = "" if self.whole else "at least "
        if self.opening > limits.memory:
            return (
                f"needs {least}{self.opening / 1e6:,.0f} MB of memory for one pass of an image",
                f"at most {limits.memory / 1e6:,.0f} MB are given here (XAIHUB_MAX_PASS_MEGABYTES)",
            )
        if self.operations > limits.operations:
            return (
                f"needs {least}{self.operations / 1e9:,.0f} billion operations for one pass of an image",
                f"at most {limits.operations / 1e9:,.0f} are made here (XAIHUB_MAX_PASS_GFLOPS)",
            )
        return (
            None
            if self.whole
            else ("takes one pass of an image in ever more steps", f"at most {STEPS:,} are made here")
        )


class _EndedError(Exception):
    """The count is beyond the limits."""


class _Meter(TorchDispatchMode):
    """Counts what lies in memory at once, and the arithmetic."""

    def __init__(self, module: nn.Module, limits: PassLimits | None) -> None:
        super().__init__()
        self.limits = limits
        self.live = self.peak = self.largest = self.operations = self.steps = self.given = 0
        self._own = [tensor.untyped_storage() for tensor in (*module.parameters(), *module.buffers())]
        self._known: dict[int, Any] = {id(storage): None for storage in self._own}
        self._given: dict[int, Any] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        checkpoint()
        output = function(*args, **(kwargs or {}))
        count = flop_registry.get(function._overloadpacket)
        if count is not None:
            self.operations += int(count(*args, **(kwargs or {}), out_val=output))
        self.steps += 1
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._hold(tensor.untyped_storage())
        self.end_at_limits()
        return output

    def _hold(self, storage: Any) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return

        def gone(_: Any) -> None:
            self._known.pop(key, None)
            self.live -= size

        self._known[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak, self.largest = max(self.peak, self.live), max(self.largest, size)

    def give(self, output: Any) -> None:
        """A layer gave this: while the target layer is looked for, it is kept and a copy goes on."""
        for tensor in float_tensors(output):
            known = self._given.get(id(tensor))
            if tensor.requires_grad and (known is None or known() is not tensor):  # a container gives what its last did
                self._given[id(tensor)] = weakref.ref(tensor)
                self.given += tensor.numel() * tensor.element_size()

    @property
    def opening(self) -> int:
        return self.peak + 2 * self.given  # what a layer gives is kept, and a copy goes on

    def end_at_limits(self) -> None:
        limits = self.limits
        if self.steps > STEPS or (limits and (self.opening > limits.memory or self.operations > limits.operations)):
            raise _EndedError

    def cost(self, *, whole: bool = True) -> PassCost:
        return PassCost(
            self.peak + 2 * self.largest, self.opening + 2 * self.largest, self.largest, self.operations, whole
        )


def pass_cost(
    module: nn.Module, forward: Callable[[nn.Module, Tensor], Tensor], pixels: Tensor, limits: PassLimits | None = None
) -> PassCost | None:
    """The cost of one pass of these pixels, without running it; None where shapes alone do not tell.

    Args:
        forward: (network, pixels) -> logits.
        pixels: (1, C, H, W); only their shape is used.
        limits: where the count may end, since more is not wanted; None to count to the end.
    """
    size = pixels.shape[2] * pixels.shape[3]
    if limits is not None and size > limits.pixels:
        return PassCost(0, 0, 0, 0, whole=False, pixels=size)
    try:
        shapes = without_numbers(module)
        meter = _Meter(shapes, limits)
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            watching(dict(shapes.named_modules()), _giving(meter)),
            _Attention(),
            meter,
        ):
            forward(shapes, torch.empty_like(pixels, device="meta", requires_grad=True))
    except _EndedError:
        return meter.cost(whole=False)
    except XaihubError:
        raise
    except Exception:  # noqa: BLE001  it looks at numbers, or cannot be copied: any library says so in its own way
        return None
    return meter.cost()


def refuse_beyond(cost: PassCost | None, limits: PassLimits, what: str) -> None:
    """Raise TooLargeError if a pass of `what`, which begins the sentence, costs more than these limits allow."""
    over = cost.beyond(limits) if cost is not None else None
    if over:
        raise TooLargeError(
            f"{what} {over[0]}; {over[1]}. A model that reads smaller images, or has fewer layers, works; so does this"
            " one on a machine of your own."
        )


@contextmanager
def watched_pass(module: nn.Module, limits: PassLimits, what: str) -> Iterator[None]:
    """While open, real passes of this thread are counted, and end where they are beyond the limits.

    Raises:
        TooLargeError: they are; `what` begins its sentence.
    """
    meter = _Meter(module, limits)
    with ExitStack() as open_ones:
        open_ones.enter_context(watching(dict(module.named_modules()), _giving(meter)))
        open_ones.enter_context(meter)
        try:
            yield
        except _EndedError:
            refuse_beyond(meter.cost(whole=False), limits, what)


def _giving(meter: _Meter) -> Callable[[str, Any], None]:
    return lambda _name, output: meter.give(output)


def without_numbers(module: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers have shapes alone; what it remembers of a pass is the copy's."""
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(module, memo).eval()


class _Attention(TorchFunctionMode):
    """Attention as processors make it, without a matrix of all tokens beside all tokens."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is nn.functional.scaled_dot_product_attention and all(map(torch.is_tensor, args[:3])):
            return _attended(*args[:3]) if len(args) >= 3 else function(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)[0]
