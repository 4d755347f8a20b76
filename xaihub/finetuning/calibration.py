"""Probabilities that say how often they are right: one temperature, kept in the weights of the network's own head."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from xaihub.training import logits_of

__all__ = ["fit_temperature", "put_into_head"]

_BOUNDS = (0.05, 20.0)  # beyond, the logits say nothing, or there is nothing to calibrate by
_HALVINGS = 60


def fit_temperature(logits: Tensor, truth: Tensor) -> float:
    """The T for which softmax(logits / T) has the lowest cross-entropy (Guo et al., 2017, arXiv:1706.04599).

    Of N images that were all answered rightly the best T would be 0, and each probability 1. So, as Platt (1999) does,
    each label is taken to be right with probability (N + 1) / (N + 2) only.

    Args:
        logits: (N, C), of images that the network did not learn from.
        truth: (N,), class indices.
    """
    doubt, classes = 1 / (len(truth) + 2), logits.shape[1]
    targets = torch.full(logits.shape, doubt / max(1, classes - 1), dtype=torch.float64)
    targets[torch.arange(len(truth)), truth] = 1 - doubt
    scores = logits.double()

    def slope(inverse: float) -> float:
        """Of the cross-entropy in 1 / T, in which it is convex."""
        chances = log_softmax(scores * inverse, 1).exp()
        return float(((chances - targets) * scores).sum())

    low, high = 1 / _BOUNDS[1], 1 / _BOUNDS[0]
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / high


@torch.no_grad()
def put_into_head(module: nn.Module, heads: Sequence[str], temperature: float, inputs: Tensor) -> bool:
    """Return whether the network now gives its logits divided by T; with a head of another kind it is as before.

    The weights and biases of its last layers are divided, and it is tried on the inputs whether that divides the
    answer.

    Args:
        heads: the names of the layers that answer.
        inputs: a batch that the network takes.
    """
    expected = logits_of(module, inputs) / temperature
    before = {name: tensor.clone() for name, tensor in _weights(module, heads)}
    for _, tensor in _weights(module, heads):
        tensor.div_(temperature)
    found = logits_of(module, inputs)
    exact = 1e-4 if inputs.device.type == "cpu" else 2e-2  # bfloat16 has three digits
    if torch.allclose(found, expected, rtol=exact, atol=exact * max(1.0, float(expected.abs().max()))):
        return True
    for name, tensor in _weights(module, heads):
        tensor.copy_(before[name])
    return False


def _weights(module: nn.Module, heads: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    for head in heads:
        with suppress(AttributeError):  # a bare parameter's owner is no layer
            for name, tensor in module.get_submodule(head).named_parameters(recurse=False):
                yield f"{head}.{name}", tensor
