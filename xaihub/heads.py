"""The head: the last linear map of a classifier, whose input is what it decides by."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["answers", "as_vectors", "candidates", "the_head"]


def candidates(module: nn.Module, classes: int) -> dict[str, nn.Module]:
    """Name -> module of every linear layer and 1x1 convolution that gives one number for each class."""
    return {name: part for name, part in module.named_modules() if _outputs(part) == classes}


def the_head(given: Sequence[tuple[str, Tensor]], logits: Tensor) -> str:
    """Which of the candidates is the head; "" where none can be told from the others.

    Args:
        given: (name, what it gave) of each candidate, in the order in which they ran.
        logits: (N, C), what the network answered.
    """
    answering = [name for name, output in given if answers(output, logits)]
    if answering:
        return answering[-1]
    names = {name for name, _ in given}
    return names.pop() if len(names) == 1 else ""


def answers(output: Tensor, logits: Tensor) -> bool:
    """Whether what a head gave is what the network answered, logits (N, C); one logit z is answered as (-z, z).

    Of a network that goes on after it, with a softmax or a power, say, it is not.
    """
    vectors = as_vectors(output)
    if vectors is None:
        return False
    vectors = vectors.detach().to(logits.device, torch.float32)
    if vectors.shape[1] == 1:
        vectors = torch.cat([-vectors, vectors], dim=1)
    # a picture whose numbers overflow says nothing of the others in its batch
    return vectors.shape == logits.shape and torch.allclose(vectors, logits.detach(), atol=1e-4, equal_nan=True)


def as_vectors(tensor: Tensor) -> Tensor | None:
    """(N, D) of what enters a head: vectors as they are, maps (N, D, h, w) by their mean; None of anything else."""
    if tensor.ndim == 2:
        return tensor
    return tensor.mean((2, 3)) if tensor.ndim == 4 else None


def _outputs(part: nn.Module) -> int | None:
    if isinstance(part, nn.Linear):
        return part.out_features
    if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1) and part.groups == 1:
        return part.out_channels
    return None
