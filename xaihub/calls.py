"""Calls of torch's own functions, seen or changed for the length of a `with` block and on this thread only.

Some things have no module that a hook could watch: a ReLU that is a function, a batch norm with its ReLU inside, the
weights inside an attention.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  everyone's name for it
from torch.overrides import TorchFunctionMode

__all__ = ["LastCall", "attending", "biasing", "last_calls", "rectifying"]

Call = Callable[..., Any]
Weights = Callable[[Tensor], Tensor | None]

_RELUS = {F.relu, F.relu_, F.relu6, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_SOFTMAXES = {F.softmax, torch.softmax, Tensor.softmax, torch.special.softmax}
_LOG_SOFTMAXES = {F.log_softmax, torch.log_softmax, Tensor.log_softmax, torch.special.log_softmax}
_SIGMOIDS = {F.sigmoid, torch.sigmoid, torch.sigmoid_, torch.special.expit, Tensor.sigmoid, Tensor.sigmoid_}
_LINEAR = {
    F.linear, F.conv2d, torch.matmul, torch.mm, torch.addmm, torch.einsum,
    Tensor.matmul, Tensor.mm, Tensor.addmm, Tensor.__matmul__,
}  # fmt: skip
_BOUNDED = {
    torch.exp, torch.tanh, torch.clamp, torch.clip, torch.erf, torch.atan, torch.special.ndtr, F.tanh, F.hardsigmoid,
    F.hardtanh, Tensor.exp, Tensor.tanh, Tensor.clamp, Tensor.clamp_, Tensor.clip, Tensor.erf, Tensor.atan,
}  # fmt: skip
_MOST_CALLS = 64  # that are remembered: a network's answers are among the last

Ending = Literal["softmax", "log_softmax", "sigmoid", "logsigmoid", "bounded", "linear"]


class _Calls(TorchFunctionMode):
    def __init__(self, answer: Callable[[Call, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__()
        self._answer = answer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._answer(func, args, kwargs or {})


@contextmanager
def rectifying(change: Callable[[Tensor], Tensor]) -> Iterator[list[int]]:
    """While open, the gradient that arrives at each ReLU's output becomes `change(gradient)`; gives a list that grows
    by one with each ReLU that ran."""
    ran: list[int] = []

    def answer(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = func(*args, **kwargs)
        if func in _RELUS or (func is F.hardtanh and _from_zero(*args, **kwargs)):
            ran.append(1)
            if output.requires_grad:
                output.register_hook(change)
        return output

    with _Calls(answer):
        yield ran


def _from_zero(_input: Tensor, min_val: float = -1.0, *_args: Any, **_kwargs: Any) -> bool:
    """Whether a clipping is a ReLU: `nn.ReLU6` clips at 0 and 6."""
    return min_val == 0


@contextmanager
def biasing(see: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """While open, `see(output, bias)` is called with the maps (N, K, h, w) that each convolution or batch norm gives
    and with what it adds to each of their places (K,); what it returns is used instead."""

    def answer(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = func(*args, **kwargs)
        bias = _ADDED[func](*args, **kwargs) if func in _ADDED else None
        return output if bias is None or output.ndim != 4 else see(output, bias)

    with _Calls(answer):
        yield


def _added_by_conv(_input: Tensor, _weight: Tensor, bias: Tensor | None = None, *_args: Any, **_kw: Any) -> Any:
    return bias


def _added_by_norm(
    _input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,  # noqa: ARG001  of F.batch_norm
    eps: float = 1e-5,
) -> Any:
    """A batch norm in eval mode scales, and adds its bias less the running mean, scaled."""
    if training or running_mean is None or running_var is None:
        return None
    scale = torch.rsqrt(running_var + eps) * (1 if weight is None else weight)
    return (0 if bias is None else bias) - running_mean * scale


_ADDED: dict[Call, Call] = {F.conv2d: _added_by_conv, F.batch_norm: _added_by_norm}


@contextmanager
def attending(see: Weights) -> Iterator[None]:
    """While open, `see(weights)` is called with each attention's weights (..., queries, keys), whose rows sum to one;
    what it returns, unless None, is used instead. Attention that cannot be taken apart shows as an empty tensor."""

    def answer(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is F.scaled_dot_product_attention:
            return _attention(see, *args, **kwargs)
        if func is F.multi_head_attention_forward:
            return _multi_head_attention(see, *args, **kwargs)
        output = func(*args, **kwargs)
        if func in _SOFTMAXES and output.ndim > 2 and _over_last(*args, **kwargs):
            return _used(see, output)
        return output

    with _Calls(answer):
        yield


class LastCall(NamedTuple):
    """A call that an answer could come from: what ran, what it was given, what it gave.

    The tensors are held of a softmax, a sigmoid or their logarithm that gave a row of numbers for each image: (N, C),
    (N, C, 1, 1) or (N,). Of linear maps and other functions with bounds it only counts that they ran.
    """

    kind: Ending
    given: Tensor | None = None
    gave: Tensor | None = None


_KINDS: dict[Ending, set[Any]] = {
    "softmax": _SOFTMAXES, "log_softmax": _LOG_SOFTMAXES, "sigmoid": _SIGMOIDS, "logsigmoid": {F.logsigmoid},
    "bounded": _BOUNDED, "linear": _LINEAR,
}  # fmt: skip
_ENDINGS: dict[Call, Ending] = {call: kind for kind, calls in _KINDS.items() for call in calls}


@contextmanager
def last_calls() -> Iterator[deque[LastCall]]:
    """While open, gives a list of the last softmaxes, sigmoids, their logarithms, bounded functions and linear maps
    that ran."""
    ran: deque[LastCall] = deque(maxlen=_MOST_CALLS)

    def answer(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kind = _ENDINGS.get(func)
        held = kind not in (None, "linear", "bounded")
        given = (args[0] if args else kwargs.get("input")) if held else None
        if given is not None and func in (torch.sigmoid_, Tensor.sigmoid_):  # they overwrite it
            given = given.clone()
        output = func(*args, **kwargs)
        if kind:
            answers = held and torch.is_tensor(output) and all(size == 1 for size in output.shape[2:])
            ran.append(LastCall(kind, given, output) if answers else LastCall(kind))
        return output

    with _Calls(answer):
        yield ran


def _used(see: Weights, weights: Tensor) -> Tensor:
    changed = see(weights)
    return weights if changed is None else changed


def _over_last(given: Tensor, dim: int | None = None, *_args: Any, **_kwargs: Any) -> bool:
    return dim in (-1, given.ndim - 1)


def _attention(
    see: Weights,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Tensor:
    """`scaled_dot_product_attention` in steps, so that its weights exist (Vaswani et al., 2017, eq. 1)."""
    if is_causal or dropout_p or options.get("enable_gqa"):
        see(torch.empty(0))
        return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, **options)
    scale = options.get("scale")
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return _used(see, scores.softmax(-1)) @ value


def _multi_head_attention(see: Weights, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
    """`nn.MultiheadAttention` (T, N, E) in steps; one with masks, or with keys of its own, runs as it is."""
    _, heads, weight, bias, bias_k, bias_v, add_zero, _, out_weight, out_bias = args[:10]
    plain = weight is not None and bias_k is None and bias_v is None and not add_zero and query.ndim == 3
    masked = any(kwargs.get(name) is not None for name in ("attn_mask", "key_padding_mask", "static_k", "static_v"))
    if not plain or masked or len(args) > 10 or kwargs.get("training", True):
        see(torch.empty(0))
        return F.multi_head_attention_forward(query, key, value, *args, **kwargs)
    biases = (None, None, None) if bias is None else bias.chunk(3)
    q, k, v = (
        F.linear(tokens, *own).unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)  # (N, heads, T, E / heads)
        for tokens, own in zip((query, key, value), zip(weight.chunk(3), biases, strict=True), strict=True)
    )
    weights = _used(see, (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1))
    out = F.linear((weights @ v).permute(2, 0, 1, 3).flatten(2), out_weight, out_bias)
    shown = weights.mean(1) if kwargs.get("average_attn_weights", True) else weights
    return out, shown if kwargs.get("need_weights", True) else None
