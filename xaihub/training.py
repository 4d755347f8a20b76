"""Fit a classifier to labelled pictures, epoch by epoch, so that a run can be left and taken up again."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = [
    "Augment",
    "Course",
    "Pixels",
    "TrainingSettings",
    "default_device",
    "fit",
    "logits_of",
    "precision",
    "reestimate_batch_norm",
]

Augment = Callable[[Tensor, Generator], Tensor]
"""From a batch of pixels `(n, 3, H, W)` and a generator to the batch that the network sees."""

OnStep = Callable[[int, int, float], None]


class Pixels(Protocol):
    """Pictures by their places: a tensor (N, 3, H, W), or what reads them when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, chosen: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class TrainingSettings:
    """How a classifier is fitted."""

    seed: int = 0  # of the pictures' order, of augmentation and of dropout; the first weights are the caller's
    epochs: int = 10  # often enough for a small network from scratch on a few thousand pictures
    batch_size: int = 32  # small: more steps per epoch, and it fits in any memory
    learning_rate: float = 1e-3  # the peak; AdamW's usual value from scratch, take a tenth or less for fine-tuning
    weight_decay: float = 0.05  # of weight matrices and kernels only, never of biases and normalisation
    label_smoothing: float = 0.0  # none: probabilities shown as reasons should not be pushed away from 0 and 1
    mixup: float = 0.0  # up to this share of another image, and of its label, is mixed into each
    warm_up: float = 0.1  # the share of all steps over which the learning rate climbs
    freeze_batch_norm: bool = False  # True: it keeps its statistics, which a fine-tuned network brings along


class Course:
    """The epochs of one fit, each of which depends on nothing but the state before it, the seed and its number.

    Mixup (Zhang et al., 2018, arXiv:1710.09412) mixes what the module is given, pixels or the maps of layers below it
    (Verma et al., 2019, arXiv:1806.05236), with a share that is uniform from 0 to the largest.

    AdamW (Loshchilov and Hutter, 2019, arXiv:1711.05101) under cross-entropy; the learning rate climbs linearly and
    falls as a half cosine. The same seed, module and pictures give the same weights on the same machine, whether the
    epochs run in one go or `state` and `restore` carry them over to another process.

    Args:
        module: returns logits (n, C), or an object that holds them as `.logits`; only parameters that require a
            gradient are trained.
        pixels: (N, 3, H, W); bytes are divided by 255 before `augment`, anything else is passed on as it is.
        labels: (N,), class indices.
        settings: the rest.
        augment: called on each batch, on the module's device; normalisation belongs here when pixels are bytes.
        on_step: called after each step with the steps done, their total, and the step's loss.
    """

    def __init__(
        self,
        module: nn.Module,
        pixels: Pixels,
        labels: Tensor,
        settings: TrainingSettings = TrainingSettings(),
        *,
        augment: Augment | None = None,
        on_step: OnStep | None = None,
    ) -> None:
        if len(pixels) != len(labels) or not len(labels):
            raise ValueError(f"{len(pixels)} pictures and {len(labels)} labels: give one label to each, at least one.")
        self.module, self.pixels, self.labels, self.settings = module, pixels, labels, settings
        self.augment, self.on_step = augment, on_step
        self.batches = math.ceil(self.drawn / settings.batch_size)
        self.optimizer = self.made_optimizer()

    @property
    def drawn(self) -> int:
        """How many pictures an epoch goes through."""
        return len(self.labels)

    def order(self, generator: Generator) -> Tensor:
        """(drawn,) places of the pictures, in the order of an epoch."""
        return torch.randperm(len(self.labels), generator=generator)

    def made_optimizer(self) -> torch.optim.Optimizer:
        """Over all that is trained; a group's rate at its highest is its "peak"."""
        return _optimizer(self.module, self.settings)

    def share(self, step: int) -> float:
        """Of the peak learning rate, at a step."""
        return _factor(step, self.batches * self.settings.epochs, self.settings)

    def loss(self, chosen: Tensor, generator: Generator) -> Tensor:
        """Of one batch, in the graph."""
        inputs, smoothing = self.seen(chosen, generator), self.settings.label_smoothing
        truth = self.labels[chosen].to(inputs.device)
        if not self.settings.mixup:
            return cross_entropy(logits_of(self.module, inputs), truth, label_smoothing=smoothing)
        share = self.settings.mixup * float(torch.rand((), generator=generator))
        others = torch.randperm(len(chosen), generator=generator).to(inputs.device)
        logits = logits_of(self.module, torch.lerp(inputs, inputs[others], share))
        own, other = (cross_entropy(logits, each, label_smoothing=smoothing) for each in (truth, truth[others]))
        return torch.lerp(own, other, share)

    def seen(self, chosen: Tensor, generator: Generator) -> Tensor:
        """What the module is given of these pictures."""
        return _prepare(self.module, self.pixels[chosen], self.augment, generator)

    def epoch(self, number: int) -> float:
        """The mean loss of this epoch, counted from 0; the module is trained in place and left in training mode."""
        settings, total = self.settings, 0.0
        seed = settings.seed + 1_000_003 * number  # drawn anew for each: an epoch needs no memory of those before
        generator = Generator().manual_seed(seed)
        self._training_mode()
        with torch.random.fork_rng():  # dropout draws from the global generator: seed it, then leave it as it was
            torch.manual_seed(seed)
            for batch, chosen in enumerate(self.order(generator).split(settings.batch_size)):
                step = number * self.batches + batch
                loss = self._step(chosen, step, generator)
                total += loss * len(chosen)
                if self.on_step:
                    self.on_step(step + 1, self.batches * settings.epochs, loss)
        return total / self.drawn

    def state(self) -> dict[str, Tensor]:
        """All that the next epoch depends on, by name."""
        moments = self.optimizer.state_dict()["state"]
        return {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()} | {
            f"optimizer.{place}.{name}": tensor for place, held in moments.items() for name, tensor in held.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Puts module and optimizer where `state` found them."""
        moments: dict[int, dict[str, Tensor]] = {}
        for key in (key for key in state if key.startswith("optimizer.")):
            _, place, name = key.split(".")
            moments.setdefault(int(place), {})[name] = state[key]
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        weights = {key.removeprefix("module."): state[key] for key in state if key.startswith("module.")}
        self.module.load_state_dict(weights)

    def _training_mode(self) -> None:
        self.module.train()
        if self.settings.freeze_batch_norm:
            for norm in _norms(self.module):
                norm.eval()

    def _step(self, chosen: Tensor, step: int, generator: Generator) -> float:
        """The loss before the step that this takes."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self.share(step)
        loss = self.loss(chosen, generator)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def fit(
    module: nn.Module,
    pixels: Pixels,
    labels: Tensor,
    settings: TrainingSettings = TrainingSettings(),
    *,
    augment: Augment | None = None,
    on_step: OnStep | None = None,
) -> list[float]:
    """The mean loss of each epoch, the module being trained in place and left in evaluation mode; see `Course`."""
    course = Course(module, pixels, labels, settings, augment=augment, on_step=on_step)
    losses = [course.epoch(number) for number in range(settings.epochs)]
    module.eval()
    return losses


@torch.no_grad()
def reestimate_batch_norm(module: nn.Module, batches: Iterator[Tensor]) -> None:
    """Sets each batch norm's statistics to the plain mean over these inputs, and leaves all in evaluation mode.

    A running average with momentum would keep what came before, or, where a checkpoint's momentum is 0.997 in PyTorch's
    sense, only the last batch. The momentum itself is left as it was.
    """
    module.eval()
    momenta = {norm: norm.momentum for norm in _norms(module)}
    for norm in momenta:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch's name for the mean over all batches
        norm.train()
    for inputs in batches if momenta else ():
        logits_of(module, inputs)
    for norm, momentum in momenta.items():
        norm.momentum = momentum
        norm.eval()


def logits_of(module: nn.Module, inputs: Tensor) -> Tensor:
    """(n, C) in float32; on a GPU the network computes in bfloat16.

    A context of its own for each pass: autocast keeps the weights it cast until its context ends, without a graph if
    the first pass was one without, and a training step after it would then learn nothing.
    """
    with precision(inputs.device):
        output: Any = module(inputs)
    return (output if isinstance(output, Tensor) else output.logits).float()


def precision(device: torch.device) -> AbstractContextManager[Any]:
    """In which a network computes: bfloat16 on a GPU."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def _norms(module: nn.Module) -> list[_BatchNorm]:
    return [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]


def _prepare(module: nn.Module, batch: Tensor, augment: Augment | None, generator: Generator) -> Tensor:
    batch = batch.to(next(module.parameters()).device)
    if batch.dtype == torch.uint8:
        batch = batch / 255
    return augment(batch, generator) if augment else batch


def _optimizer(module: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW over what is trainable."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([{**group, "peak": settings.learning_rate} for group in groups], lr=settings.learning_rate)


def _factor(step: int, steps: int, settings: TrainingSettings) -> float:
    """The share of the peak learning rate at a step."""
    climb = max(1, round(settings.warm_up * steps))
    if step < climb:
        return (step + 1) / climb
    return 0.5 * (1 + math.cos(math.pi * (step - climb) / max(1, steps - climb)))


def default_device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
