"""Fit a classifier to labelled pictures."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

__all__ = ["Augment", "TrainingSettings", "fit"]

Augment = Callable[[Tensor, Generator], Tensor]
"""From a batch of pixels `(n, 3, H, W)` and a generator to the batch that the network sees."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a classifier is fitted."""

    seed: int = 0  # of the pictures' order, of augmentation and of dropout; the first weights are the caller's
    epochs: int = 10  # often enough for a small network from scratch on a few thousand pictures
    batch_size: int = 32  # small: more steps per epoch, and it fits in any memory
    learning_rate: float = 1e-3  # the peak; AdamW's usual value from scratch, take a tenth or less for fine-tuning
    weight_decay: float = 0.05  # of weight matrices and kernels only, never of biases and normalisation
    label_smoothing: float = 0.0  # none: probabilities shown as reasons should not be pushed away from 0 and 1
    warm_up: float = 0.1  # the share of all steps over which the learning rate climbs


def fit(
    module: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    settings: TrainingSettings = TrainingSettings(),
    *,
    augment: Augment | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> list[float]:
    """The mean loss of each epoch, the module being trained in place and left in evaluation mode.

    AdamW (Loshchilov and Hutter, 2019, arXiv:1711.05101) under cross-entropy; the learning rate climbs linearly and
    falls as a half cosine. The same seed, module and pictures give the same weights on the same machine.

    Args:
        module: returns logits (n, C), or an object that holds them as `.logits`.
        pixels: (N, 3, H, W); bytes are divided by 255 before `augment`, anything else is passed on as it is.
        labels: (N,), class indices.
        settings: the rest.
        augment: called on each batch, on the module's device; normalisation belongs here when pixels are bytes.
        on_step: called after each step with the steps done, their total, and the step's loss.

    Returns:
        One loss for each epoch.
    """
    if len(pixels) != len(labels) or not len(labels):
        raise ValueError(f"{len(pixels)} pictures and {len(labels)} labels: give one label to each, at least one.")
    batches = math.ceil(len(labels) / settings.batch_size)
    optimizer, schedule = _optimizer(module, settings, batches * settings.epochs)
    generator = Generator().manual_seed(settings.seed)
    losses = []
    module.train()
    with torch.random.fork_rng():  # dropout draws from the global generator: seed it, then leave it as it was
        torch.manual_seed(settings.seed)
        for epoch in range(settings.epochs):
            total = 0.0
            for batch, chosen in enumerate(torch.randperm(len(labels), generator=generator).split(settings.batch_size)):
                inputs = _prepare(module, pixels[chosen], augment, generator)
                loss = _step(module, inputs, labels[chosen], settings.label_smoothing, optimizer)
                schedule.step()
                total += loss * len(chosen)
                if on_step:
                    on_step(epoch * batches + batch + 1, batches * settings.epochs, loss)
            losses.append(total / len(labels))
    module.eval()
    return losses


def _prepare(module: nn.Module, batch: Tensor, augment: Augment | None, generator: Generator) -> Tensor:
    batch = batch.to(next(module.parameters()).device)
    if batch.dtype == torch.uint8:
        batch = batch / 255
    return augment(batch, generator) if augment else batch


def _logits(module: nn.Module, inputs: Tensor) -> Tensor:
    output = module(inputs)
    return output if isinstance(output, Tensor) else output.logits


def _step(
    module: nn.Module, inputs: Tensor, labels: Tensor, smoothing: float, optimizer: torch.optim.Optimizer
) -> float:
    """The loss before the step that this takes."""
    logits = _logits(module, inputs)
    loss = cross_entropy(logits, labels.to(logits.device), label_smoothing=smoothing)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def _optimizer(
    module: nn.Module, settings: TrainingSettings, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW over what is trainable, and its schedule over all steps."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
    climb = max(1, round(settings.warm_up * steps))

    def factor(step: int) -> float:
        if step < climb:
            return (step + 1) / climb
        return 0.5 * (1 + math.cos(math.pi * (step - climb) / max(1, steps - climb)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
