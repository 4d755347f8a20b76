"""Calls of torch's own functions, seen or changed for the length of a `with` block and on this thread only.

Some things have no module that a hook could watch: a ReLU that is a function, the weights inside an attention.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  everyone's name for it
from torch.overrides import TorchFunctionMode

__all__ = ["attending", "rectifying"]

Weights = Callable[[Tensor], Tensor | None]

_RELUS = {F.relu, F.relu_, F.relu6, F.hardtanh, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_SOFTMAXES = {F.softmax, torch.softmax, Tensor.softmax}


class _Calls(TorchFunctionMode):
    def __init__(self, answer: Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__()
        self._answer = answer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._answer(func, args, kwargs or {})


@contextmanager
def rectifying(change: Callable[[Tensor], Tensor]) -> Iterator[list[int]]:
    """While open, the gradient that arrives at each ReLU's output becomes `change(gradient)`; gives a list that grows
    by one with each ReLU that ran."""
    ran: list[int] = []

    def answer(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = func(*args, **kwargs)
        if func in _RELUS:
            ran.append(1)
            if output.requires_grad:
                output.register_hook(change)
        return output

    with _Calls(answer):
        yield ran


@contextmanager
def attending(see: Weights) -> Iterator[None]:
    """While open, `see(weights)` is called with each self-attention's weights (N, heads, T, T), whose rows sum to one;
    what it returns, unless None, is used instead."""

    def answer(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is F.scaled_dot_product_attention:
            return _attention(see, *args, **kwargs)
        if func is F.multi_head_attention_forward and kwargs.get("use_separate_proj_weight") is not True:
            return _multi_head_attention(see, *args, **kwargs)
        output = func(*args, **kwargs)
        if func in _SOFTMAXES and output.ndim == 4 and output.shape[-1] == output.shape[-2]:
            changed = see(output)
            return output if changed is None else changed
        return output

    with _Calls(answer):
        yield


def _attention(
    see: Weights,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`scaled_dot_product_attention` in steps, so that its weights exist (Vaswani et al., 2017, eq. 1)."""
    if is_causal or dropout_p or enable_gqa or query.ndim != 4 or query.shape[-2] != key.shape[-2]:
        return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale)
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    weights = scores.softmax(-1)
    changed = see(weights)
    return (weights if changed is None else changed) @ value


def _multi_head_attention(see: Weights, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
    """`nn.MultiheadAttention` of a sequence (T, N, E) on itself; its own fast path would hide the weights."""
    _, heads, weight, bias, bias_k, bias_v, add_zero, dropout, out_weight, out_bias = args[:10]
    plain = weight is not None and bias_k is None and bias_v is None and not add_zero
    if not plain or query is not key or key is not value or kwargs.get("attn_mask") is not None:
        return F.multi_head_attention_forward(query, key, value, *args, **kwargs)
    count, batch, width = query.shape
    packed = F.linear(query, weight, bias).view(count, batch, 3, heads, width // heads)
    q, k, v = packed.permute(2, 1, 3, 0, 4)  # each (N, heads, T, E / heads)
    mixed = _attention(see, q, k, v, dropout_p=dropout if kwargs.get("training") else 0.0)
    out = F.linear(mixed.permute(2, 0, 1, 3).reshape(count, batch, width), out_weight, out_bias)
    return out, None
