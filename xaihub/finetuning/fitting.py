"""A trained network made to tell other classes apart, in runs that can be killed and that the next start goes on with.

First the head alone, then everything: with a random head the first steps would spoil what the network below has learned
(LP-FT, Kumar et al., 2022, arXiv:2202.10054). The head is a convex problem and solved as one where it is linear.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from xaihub.families.from_transformers import Backbone
from xaihub.finetuning.augmentation import vary
from xaihub.finetuning.checkpoints import read_checkpoint, write_checkpoint
from xaihub.finetuning.pixel_store import Part, PixelStore, network_inputs
from xaihub.finetuning.probing import features_below, fit_head
from xaihub.finetuning.settings import FineTuning, Kept, refuse_too_few
from xaihub.progress import Pace, Progress, silent
from xaihub.training import Course, Pixels, TrainingSettings, logits_of, reestimate_batch_norm

__all__ = ["FineTuned", "fine_tune", "run_key"]

_JUDGED_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class FineTuned:
    """What came out; the backbone's module holds the final weights, in evaluation mode.

    Attributes:
        history: one record for each epoch.
        kept: which epochs' weights the module has, in words.
        out_of_fold: (N, C) probabilities of each training picture by a network that never saw it, or None.
        fold_of: (N,), which fold each picture was in, or None.
        seconds: of this process, so less than the whole where a run was interrupted.
    """

    history: tuple[Mapping[str, Any], ...]
    kept: str
    seconds: float
    out_of_fold: Tensor | None = None
    fold_of: Tensor | None = None


def run_key(settings: Any, backbone: str, training: PixelStore, validation: PixelStore | None) -> str:
    """Names the folder of a run's checkpoints: it changes with anything that would change the result.

    Args:
        settings: a dataclass.
        backbone: which network it begins with, and in which state.
    """
    facts = [asdict(settings), backbone, training.fingerprint, validation and validation.fingerprint, torch.__version__]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def fine_tune(
    backbone: Backbone,
    training: PixelStore,
    validation: PixelStore | None,
    settings: FineTuning,
    *,
    work: Path,
    folds: Tensor | None = None,
    device: str | torch.device = "cpu",
    progress: Progress = silent,
) -> FineTuned:
    """Trains the backbone's module in place: once for each fold, then on everything.

    After each epoch all that the next one needs is in `work`; a second call with the same arguments goes on from there
    and ends with the same bytes. Whoever calls removes the folder when the result is safe.

    Args:
        validation: chooses the epoch and ends the training; without it all epochs run and the last are averaged.
        folds: (N,), which fold each training picture belongs to; needed where the settings ask for folds.
        work: a folder of this run's own, see `run_key`.

    Raises:
        DatasetError: too few classes or pictures.
        CancelledError: from `progress`.
    """
    labels = training.labels
    refuse_too_few(training.rows.name, labels, [labels[i] for i in training.truth.tolist()], settings.folds)
    started = time.monotonic()
    bench = _Bench(backbone, training, settings, work, torch.device(device), progress)
    found = _cross_validated(bench, folds) if folds is not None and settings.folds else None
    judge = (validation, validation.truth) if validation is not None else None
    kept = _fitted(bench, "all", torch.arange(len(training)), judge)
    return FineTuned(tuple(kept.history), kept.in_words, time.monotonic() - started, found, folds)


@dataclass(eq=False)
class _Bench:
    """What all runs share."""

    backbone: Backbone
    training: PixelStore
    settings: FineTuning
    work: Path
    device: torch.device
    progress: Progress
    pace: Pace = field(default_factory=Pace)
    run: str = ""

    def __post_init__(self) -> None:
        module = self.backbone.module.to(self.device, memory_format=torch.channels_last)
        self.initial = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        self._features: Tensor | Literal["unknown"] | None = "unknown"

    @property
    def runs(self) -> list[str]:
        return [*(f"fold {k + 1} of {self.settings.folds}" for k in range(self.settings.folds)), "all"]

    def file(self, run: str) -> Path:
        """The checkpoint of a run."""
        return self.work / f"{run.replace(' ', '-')}.safetensors"

    def inputs(self, levels: Tensor) -> Tensor:
        """What the network takes, of bytes or of levels in [0, 1]."""
        pixels = network_inputs(levels.to(self.device), self.backbone.transform)
        return pixels.contiguous(memory_format=torch.channels_last)

    def augment(self, levels: Tensor, generator: Generator) -> Tensor:
        return self.inputs(vary(levels, generator, shift=self.settings.shift, light=self.settings.light))

    def features(self) -> Tensor | None:
        """(2, N, K) of each picture and its mirror image below the new head, once for all runs; None if it has none."""
        if isinstance(self._features, str):
            self.backbone.module.load_state_dict(self.initial)
            heads = self.backbone.heads
            self._features = None
            if len(heads) == 1:
                ways = [features_below(self.backbone.module, heads[0], self._seen(mirror)) for mirror in (False, True)]
                if ways[0] is not None and ways[1] is not None:
                    self._features = torch.stack([ways[0], ways[1]])
        return self._features

    def _seen(self, mirror: bool) -> Iterator[Tensor]:
        done = 0
        for levels in self.training.batches(_JUDGED_AT_ONCE):
            self.progress(0.0, f"Looking at picture {done + 1:,} of {len(self.training):,}{', mirrored' * mirror}")
            done += len(levels)
            yield self.inputs(levels.flip(-1) if mirror else levels)

    @torch.no_grad()
    def answers(self, pixels: Pixels) -> Tensor:
        """(n, C) logits on the CPU."""
        places = torch.arange(len(pixels)).split(_JUDGED_AT_ONCE)
        return torch.cat([logits_of(self.backbone.module, self.inputs(pixels[chosen])).cpu() for chosen in places])

    def on_step(self, done: int, total: int, loss: float) -> None:
        """Says how far all runs are, and how long the rest takes at the pace so far."""
        place = self.runs.index(self.run)
        left = self.pace.left(total - done + total * (len(self.runs) - 1 - place))
        epoch = (done - 1) * self.settings.epochs // total + 1
        which = "" if self.run == "all" else f"{self.run.capitalize()}, "
        said = f"{which}epoch {epoch} of {self.settings.epochs}, loss {loss:.3f}, {left}"
        self.progress((place + done / total) / len(self.runs), said)


def _cross_validated(bench: _Bench, folds: Tensor) -> Tensor:
    """(N, C) probabilities of each picture by the network of its fold."""
    found = torch.zeros(len(bench.training), len(bench.training.labels))
    for fold, name in enumerate(bench.runs[:-1]):
        file = bench.work / f"fold-{fold}-answers.safetensors"
        inside = torch.nonzero(folds == fold)[:, 0]
        done = read_checkpoint(file)
        if done is None:
            _fitted(bench, name, torch.nonzero(folds != fold)[:, 0], None)
            answers = bench.answers(Part(bench.training, inside)).softmax(1)
            write_checkpoint(file, {"answers": answers}, {})
            bench.file(name).unlink(missing_ok=True)  # its weights are not needed any more
        else:
            answers = done[0]["answers"]
        found[inside] = answers
    return found


def _fitted(bench: _Bench, name: str, places: Tensor, judge: tuple[PixelStore, Tensor] | None) -> Kept:
    """What was kept; the module then holds it, in evaluation mode."""
    settings, module = bench.settings, bench.backbone.module
    bench.run = name
    part, truth = Part(bench.training, places), bench.training.truth[places]
    file = bench.file(name)
    found = read_checkpoint(file)
    if found is None:
        module.load_state_dict(bench.initial)
        _fit_head(bench, part, truth)
    course = Course(module, part, truth, _course_settings(settings), augment=bench.augment, on_step=bench.on_step)
    kept = Kept(settings, judge is not None)
    if found is not None:
        course.restore(found[0])
        kept.restore(*found)
    for number in range(len(kept.history), settings.epochs):
        if kept.ended:
            break
        row = {"epoch": number + 1, "loss": course.epoch(number)}
        _settle(bench, part)
        if judge is not None:
            row |= _judged(bench.answers(judge[0]), judge[1])
        kept.add(row, module.state_dict())
        write_checkpoint(file, course.state() | kept.state(), {"history": kept.history, "count": kept.count})
    kept.put(module)
    _settle(bench, part)
    return kept


def _course_settings(settings: FineTuning) -> TrainingSettings:
    shared = {
        name: getattr(settings, name) for name in TrainingSettings.__dataclass_fields__ if hasattr(settings, name)
    }
    return TrainingSettings(**shared, freeze_batch_norm=settings.batch_norm == "frozen")


def _fit_head(bench: _Bench, part: Part, truth: Tensor) -> None:
    """Solves for the head where it is one linear layer; else trains the layers of the head by gradient."""
    module, settings, features = bench.backbone.module, bench.settings, bench.features()
    if features is not None:
        seen = features[:, part.places].flatten(0, 1)
        fit_head(module.get_submodule(bench.backbone.heads[0]), seen, truth.repeat(2), strength=settings.head_strength)
        return
    heads = {id(p) for name in bench.backbone.heads for p in module.get_submodule(name).parameters()}
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(id(parameter) in heads)
    only = replace(_course_settings(settings), epochs=settings.head_epochs, learning_rate=1e-3, freeze_batch_norm=True)
    course = Course(module, part, truth, only, augment=bench.augment)
    for number in range(settings.head_epochs):
        bench.progress(0.0, f"Training the head, epoch {number + 1} of {settings.head_epochs}")
        course.epoch(number)
    for parameter in trained:
        parameter.requires_grad_(True)


def _settle(bench: _Bench, part: Part) -> None:
    """Evaluation mode, with the batch norm's statistics taken anew where they are not frozen."""
    bench.backbone.module.eval()
    if bench.settings.batch_norm == "reestimated":
        places = torch.arange(len(part)).split(_JUDGED_AT_ONCE)
        reestimate_batch_norm(bench.backbone.module, (bench.inputs(part[chosen]) for chosen in places))


def _judged(logits: Tensor, truth: Tensor) -> dict[str, float]:
    right = (logits.argmax(1) == truth).float().mean()
    return {"validation_loss": float(cross_entropy(logits, truth)), "validation_accuracy": float(right)}
