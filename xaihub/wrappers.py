"""The network inside its wrappers: compiled, or spread over devices, it would run past every hook."""

import types
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

__all__ = ["unwrapped"]

_COMPILED = "_torchdynamo_orig_callable"  # what torch.compile keeps of a function that it replaced


def unwrapped(module: nn.Module) -> nn.Module:
    """The same network with the same weights, run by Python layer by layer; itself where nothing wraps it.

    `torch.compile(module)` holds the network as a part, `module.compile()` and a compiled `forward` replace its calls,
    and each can be done to a part alone. Hooks do not see inside. The parts on the way to a compiled one are copied
    without their weights, which both share: the caller's object is not touched, and stays compiled.
    """
    return _view(module, {})


def _view(module: nn.Module, known: dict[int, nn.Module]) -> nn.Module:
    if id(module) in known:
        return known[id(module)]
    known[id(module)] = module  # a network may hold itself
    if isinstance(module, torch.jit.ScriptModule):  # it is compiled for good
        return module
    inside = _inside(module)
    known[id(module)] = _view(inside, known) if inside is not None else _copied(module, known)
    return known[id(module)]


def _inside(module: nn.Module) -> nn.Module | None:
    """Return what a wrapper holds, or None of anything else."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return module.module
    return module._modules.get("_orig_mod") if list(module._modules) == ["_orig_mod"] else None


def _copied(module: nn.Module, known: dict[int, nn.Module]) -> nn.Module:
    children = {name: child and _view(child, known) for name, child in module._modules.items()}
    kind: Any = type(module)
    calls = {**_compiled_methods(kind), **_compiled(vars(module))}
    same = all(children[name] is child for name, child in module._modules.items())
    if same and not calls and getattr(module, "_compiled_call_impl", None) is None:
        return module
    copy: nn.Module = module.__class__.__new__(module.__class__)
    own = {name: value.copy() if name.endswith("_hooks") else value for name, value in vars(module).items()}
    vars(copy).update(own, _modules=children, _compiled_call_impl=None)
    vars(copy).update({name: _of(copy, module, function) for name, function in calls.items()})
    return copy


def _of(copy: nn.Module, module: nn.Module, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as a method of the copy, if it was one of the module."""
    if getattr(function, "__self__", module) is not module:
        return function
    return types.MethodType(getattr(function, "__func__", function), copy)


def _compiled(names: Any) -> dict[str, Callable[..., Any]]:
    """Name -> the function as it was written, of each that torch.compile replaced."""
    found = {name: vars(value).get(_COMPILED) for name, value in names.items() if isinstance(value, types.FunctionType)}
    return {name: function for name, function in found.items() if function and name != "_compiled_call_impl"}


@cache
def _compiled_methods(kind: type) -> dict[str, Callable[..., Any]]:
    return {name: value for base in reversed(kind.__mro__) for name, value in _compiled(vars(base)).items()}
