"""The epochs in which prototypes learn: alone on maps that are kept, or together with the network below them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from xaihub.prototype_training.settings import PrototypeTraining
from xaihub.prototypes import PrototypeLayer, PrototypeNetwork
from xaihub.prototypes.losses import (
    cluster_cost,
    distillation,
    nearest_distances,
    other_class_weights,
    separation_cost,
)
from xaihub.training import Augment, Course, OnStep, Pixels, TrainingSettings, precision

__all__ = ["Lesson", "PrototypeCourse", "Stage", "upper_weights"]

Stage = Literal["warm-up", "joint", "last layer"]
_PUBLISHED_LAST_RATE = 1e-4
_STEP, _FALL = 5, 0.1  # epochs after which the published rate falls, and to which share


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is to be learned of N pictures.

    Attributes:
        targets: (N,), class indices.
        teacher: (N, C), the black box's probabilities; None where it has other classes.
    """

    targets: Tensor
    teacher: Tensor | None = None


class PrototypeCourse(Course):
    """One stage: a `Course` with the costs of prototypes, which trains only what belongs to the stage.

    Args:
        network: all of it, or the prototypes' layer alone.
        pixels: pictures (N, 3, H, W) of the joint stage, else the network's maps (N, K, h, w) of them.
        below: what of the network learns in the joint stage, beside the prototypes.
    """

    def __init__(
        self,
        network: PrototypeNetwork | PrototypeLayer,
        stage: Stage,
        pixels: Pixels,
        lesson: Lesson,
        settings: PrototypeTraining,
        *,
        below: Sequence[nn.Parameter] = (),
        augment: Augment | None = None,
        on_step: OnStep | None = None,
    ) -> None:
        self.below = list(below)
        self.layer = network.head if isinstance(network, PrototypeNetwork) else network
        self.stage, self.lesson, self.asked = stage, lesson, settings
        epochs = {"warm-up": settings.warm_up, "joint": settings.epochs, "last layer": settings.last_epochs}[stage]
        plain = TrainingSettings(
            seed=settings.seed, epochs=epochs, batch_size=settings.batch_size,
            freeze_batch_norm=settings.batch_norm == "frozen",
        )  # fmt: skip
        super().__init__(network, pixels, lesson.targets, plain, augment=augment, on_step=on_step)

    @property
    def drawn(self) -> int:
        counts = torch.bincount(self.labels)
        held = counts[counts > 0]
        return math.ceil(len(self.labels) / len(held)) * len(held) if self.asked.balanced else len(self.labels)

    def order(self, generator: Generator) -> Tensor:
        """Class by class in turn where batches are balanced: those of a small class come more than once."""
        if not self.asked.balanced:
            return super().order(generator)
        classes = [torch.nonzero(self.labels == label)[:, 0] for label in self.labels.unique().tolist()]
        turns = self.drawn // len(classes)
        return torch.stack([_turns(own, turns, generator) for own in classes], 1).flatten()

    def made_optimizer(self) -> torch.optim.Optimizer:
        asked, layer = self.asked, self.layer
        rates: list[tuple[list[nn.Parameter], float, float]] = [([layer.weights], _PUBLISHED_LAST_RATE, 0.0)]
        if self.stage != "last layer":
            rates = [
                (list(layer.add_on.parameters()), asked.rate, asked.weight_decay),
                ([layer.vectors], asked.rate, 0),
            ]
        if self.below:
            rates.append((self.below, asked.backbone_rate, asked.weight_decay))
        self._trained = {id(parameter) for parameters, _, _ in rates for parameter in parameters}
        groups = [{"params": held, "peak": rate, "lr": rate, "weight_decay": decay} for held, rate, decay in rates]
        return torch.optim.Adam(groups) if asked.schedule == "steps" else torch.optim.AdamW(groups)

    def epoch(self, number: int) -> float:
        for parameter in self.module.parameters():
            parameter.requires_grad_(id(parameter) in self._trained)
        loss = super().epoch(number)
        self.module.eval()
        return loss

    def share(self, step: int) -> float:
        if self.asked.schedule == "cosine":
            return super().share(step)
        return _FALL ** (step // self.batches // _STEP) if self.stage == "joint" else 1.0

    def loss(self, chosen: Tensor, generator: Generator) -> Tensor:
        maps = self._maps(self.seen(chosen, generator))
        similarities = self.layer.similarities(self.layer.embed(maps))
        logits = self.layer.logits(self.layer.scores(similarities))
        targets, owners = self.labels[chosen].to(logits.device), self.layer.owners
        loss = cross_entropy(logits, targets)
        if self.stage == "last layer":
            return loss + self.asked.other_weights * other_class_weights(self.layer.weights, owners)
        distances = nearest_distances(similarities, self.layer.settings.similarity)
        loss = loss + self.asked.cluster * cluster_cost(distances, targets, owners)
        loss = loss - self.asked.separation * separation_cost(distances, targets, owners)
        if self.lesson.teacher is not None and self.asked.distilled:
            loss = loss + self.asked.distilled * distillation(logits, self.lesson.teacher[chosen].to(logits.device))
        return loss

    def _maps(self, inputs: Tensor) -> Tensor:
        if not isinstance(self.module, PrototypeNetwork):
            return inputs
        with precision(inputs.device):
            return self.module.maps(inputs)[0]


def _turns(places: Tensor, turns: int, generator: Generator) -> Tensor:
    """(turns,) of the places in random order, all of them once before any comes again."""
    rounds = [places[torch.randperm(len(places), generator=generator)] for _ in range(-(-turns // len(places)))]
    return torch.cat(rounds)[:turns]


def upper_weights(network: PrototypeNetwork, pixels: Tensor, share: float) -> list[nn.Parameter]:
    """Those of the weights that the maps depend on which come last, up to a share of them, in the network's order.

    Args:
        pixels: (1, 3, H, W), any picture.
    """
    held = list(network.black_box.parameters())
    for parameter in held:
        parameter.requires_grad_(True)
    with torch.enable_grad():
        found = torch.autograd.grad(network.maps(pixels)[0].sum(), held, allow_unused=True)
    used = [parameter for parameter, gradient in zip(held, found, strict=True) if gradient is not None]
    left, kept = share * sum(parameter.numel() for parameter in used), list[nn.Parameter]()
    for parameter in reversed(used):
        left -= parameter.numel()
        if left < 0 and kept:
            break
        kept.insert(0, parameter)
    return kept
