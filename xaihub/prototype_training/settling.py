"""What makes a trained layer one that can be shown: each prototype a real patch, and then the last layer."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from xaihub.prototype_training.course import Lesson, PrototypeCourse
from xaihub.prototype_training.settings import PrototypeTraining
from xaihub.prototype_training.watching import nearest_cells, take
from xaihub.prototypes import PrototypeLayer, Source, fit_weights, project

__all__ = ["judged", "scores_of", "settle"]

_AT_ONCE = 64  # pictures


def settle(
    layer: PrototypeLayer, maps: Tensor, lesson: Lesson, groups: Sequence[int], settings: PrototypeTraining
) -> tuple[Source, ...]:
    """Moves each prototype onto a patch of its own class, fits the last layer to what is then seen, in place.

    Args:
        maps: (N, K, h, w), of pictures that were not varied, on the layer's device.
        groups: (N,), equal numbers are copies of one picture.

    Returns:
        (P,), where each prototype now is.
    """
    if settings.distinct:
        sources = project(layer, maps, lesson.targets, groups)
    else:
        sources = nearest_cells(layer, maps, lesson.targets)
        take(layer, maps, sources)
    weigh(layer, maps, lesson, settings)
    return sources


def weigh(layer: PrototypeLayer, maps: Tensor, lesson: Lesson, settings: PrototypeTraining) -> None:
    """Fits the last layer, in place: solved as a convex problem, or by gradient as published."""
    if settings.last_layer == "gradient":
        course = PrototypeCourse(layer, "last layer", maps, lesson, settings)
        for number in range(settings.last_epochs):
            course.epoch(number)
        layer.eval()
        return
    scores = scores_of(layer, maps)
    fitted = fit_weights(scores, lesson.targets, layer.owners, layer.settings.classes, settings.sparsity)
    with torch.no_grad():
        layer.weights.copy_(fitted[0])
        layer.bias.copy_(fitted[1])


@torch.no_grad()
def scores_of(layer: PrototypeLayer, maps: Tensor) -> Tensor:
    """(N, P) of maps (N, K, h, w)."""
    return torch.cat([layer.scores(layer.similarities(layer.embed(some))) for some in maps.split(_AT_ONCE)])


@torch.no_grad()
def judged(layer: PrototypeLayer, maps: Tensor, truth: Tensor) -> dict[str, float]:
    """How well a settled layer does on pictures that it was not settled on."""
    logits = layer.logits(scores_of(layer, maps))
    right = (logits.argmax(1) == truth).float().mean()
    return {"validation_loss": float(cross_entropy(logits, truth)), "validation_accuracy": float(right)}
