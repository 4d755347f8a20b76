"""The only hooks in the project: watch layers for the length of a `with` block, on this thread, and leave no trace."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from itertools import islice
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from xaihub.progress import checkpoint

__all__ = [
    "between_layers", "entering", "evaluating", "first_tensor", "float_tensors", "part_of", "recording",
    "replace_tensor", "run_network", "watching",
]  # fmt: skip

P = ParamSpec("P")
R = TypeVar("R")


def recording(function: Callable[P, R]) -> Callable[P, R]:
    """The function with gradients on, whatever its caller switched off: under `no_grad` every map would be empty."""

    @wraps(function)
    def recorded(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.inference_mode(False), torch.enable_grad():
            return function(*args, **kwargs)

    return recorded


See = Callable[[str, Any], Any]


@contextmanager
def watching(layers: Mapping[str, nn.Module], see: See) -> Iterator[None]:
    """While open, `see(name, output)` is called after each layer ran; what it returns, unless None, goes on instead.

    A web server runs one module on several threads: a call on another thread is not seen. The hooks are gone
    afterwards, also when an exception flies through.
    """
    owner = threading.get_ident()

    def hook_for(name: str) -> Callable[..., Any]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            return see(name, output) if threading.get_ident() == owner else None

        return hook

    with ExitStack() as handles:
        for name, layer in layers.items():
            if not isinstance(layer, torch.jit.ScriptModule):  # it runs outside of Python, and takes no hooks
                handles.callback(layer.register_forward_hook(hook_for(name)).remove)
        yield


@contextmanager
def entering(layer: nn.Module, see: Callable[[Any], None]) -> Iterator[None]:
    """While open, `see(input)` is called with the first argument of the layer before it runs, on this thread only."""
    owner = threading.get_ident()

    def hook(_module: nn.Module, inputs: Any) -> None:
        if inputs and threading.get_ident() == owner:
            see(inputs[0])

    handle = layer.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def between_layers() -> Iterator[None]:
    """While open, any network on this thread asks `checkpoint` before each layer, forward and backward.

    So a running pass is stopped within the time of one layer. A graph may outlive the work that made it, so its hooks
    ask whoever runs the backward pass; on a GPU that is a thread of PyTorch's own, which nobody stops.
    """
    owner = threading.get_ident()

    def before(_layer: nn.Module, _inputs: Any) -> None:
        if threading.get_ident() == owner:
            checkpoint()

    def after(_layer: nn.Module, _inputs: Any, output: Any) -> None:
        if threading.get_ident() == owner:
            for tensor in float_tensors(output):
                if tensor.grad_fn is not None:
                    tensor.grad_fn.register_prehook(_before_step)

    with ExitStack() as handles:
        handles.callback(register_module_forward_pre_hook(before).remove)
        handles.callback(register_module_forward_hook(after).remove)
        yield


def _before_step(_gradients: Any) -> None:
    checkpoint()


class _Found:
    """How many passes are under way through a module, and which of its parts were in training mode before."""

    def __init__(self) -> None:
        self.passes = 0
        self.training: list[nn.Module] = []


_EVALUATED: WeakKeyDictionary[nn.Module, _Found] = WeakKeyDictionary()


@contextmanager
def evaluating(module: nn.Module, lock: threading.RLock) -> Iterator[None]:
    """While open, every part of the module is in eval mode; afterwards each part is as it was.

    Passes on several threads may overlap: the last one to end restores what the others found.

    Args:
        lock: held at both ends, not in between.
    """
    with lock:
        found = _EVALUATED.setdefault(module, _Found())
        found.passes += 1
        for part in [part for part in module.modules() if part.training]:
            part.training = False
            found.training.append(part)
    try:
        yield
    finally:
        with lock:
            found.passes -= 1
            if not found.passes:
                del _EVALUATED[module]
                for part in found.training:
                    part.training = True


def float_tensors(output: Any) -> Iterator[Tensor]:
    """Each floating-point tensor in a tensor, or in a tuple, list or mapping of them, in order."""
    if torch.is_tensor(output):
        if output.is_floating_point():
            yield output
        return
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    for part in parts:
        yield from float_tensors(part)


def first_tensor(output: Any, index: int = 0) -> Tensor | None:
    """The first floating-point tensor in a tensor, or in a tuple, list or mapping of them; or another by its index."""
    return next(islice(float_tensors(output), index, None), None)


def part_of(name: str) -> tuple[str, int]:
    """A module's name and which of the tensors that it gives is meant: "block[1]" is the second, "block" the first."""
    module, bracket, index = name.partition("[")
    return module, int(index.rstrip("]")) if bracket else 0


def replace_tensor(output: Any, old: Tensor, new: Tensor) -> Any:
    """The same structure with one tensor exchanged."""
    if output is old:
        return new
    if isinstance(output, Mapping):
        exchanged = {key: replace_tensor(value, old, new) for key, value in output.items()}
        return type(output)(**exchanged) if type(output) is not dict else exchanged
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*(replace_tensor(part, old, new) for part in output))
    if isinstance(output, tuple | list):
        return type(output)(replace_tensor(part, old, new) for part in output)
    return output


def run_network(module: nn.Module, pixels: Tensor) -> Any:
    """Run the network on pixels, on its own device and in its own precision; return whatever it gives."""
    weight = next((p for p in module.parameters() if p.is_floating_point()), pixels)
    return module(pixels.to(weight.device, weight.dtype, copy=True))  # the network may change it in place
