"""A trained network made to tell other classes apart, in runs that can be killed and that the next start goes on with.

First the head alone, then the upper layers too: with a random head the first steps would spoil what the network below
has learned (LP-FT, Kumar et al., 2022, arXiv:2202.10054). The head is a convex problem and solved as one where it is
linear. The lower layers stay as they are (see trunk.py), so what they make of each image is computed once.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from xaihub.families.from_transformers import Backbone
from xaihub.finetuning.calibration import fit_temperature, put_into_head
from xaihub.finetuning.checkpoints import read_checkpoint, write_checkpoint
from xaihub.finetuning.choosing import Choice, Tried, leaves_room, tried
from xaihub.finetuning.folding import folds_of, most_folds
from xaihub.finetuning.inputs import AT_ONCE, Inputs, affordable, kept_maps, normalised
from xaihub.finetuning.pixel_store import PixelStore
from xaihub.finetuning.probing import features_below, fit_head
from xaihub.finetuning.settings import Calibration, FineTuning, Kept, refuse_too_few
from xaihub.finetuning.trunk import Tail, Trunk, find_trunk
from xaihub.progress import Pace, Progress, part, silent
from xaihub.training import Course, TrainingSettings, logits_of, reestimate_batch_norm

__all__ = ["FineTuned", "fine_tune", "run_key"]

_LOOKED_AT = 2  # images by which the trunk is found
_TRIED = 0.9  # of the progress is told by then, about, where more layers are tried


@dataclass(frozen=True, eq=False)
class FineTuned:
    """What came out; the backbone's module holds the final weights, in evaluation mode.

    Attributes:
        history: one record for each epoch.
        kept: which epochs' weights the module has, in words.
        trained: which layers were trained, in words.
        calibration: the temperature in the module's head, and where it is from.
        choice: how it was chosen what is trained; None where that was given, or nothing unseen could tell.
        out_of_fold: (N, C) probabilities of each training picture by a network that never saw it, or None.
        fold_of: (N,), which fold each picture was in, or None.
        seconds: of this process, so less than the whole where a run was interrupted.
    """

    history: tuple[Mapping[str, Any], ...]
    kept: str
    trained: str
    calibration: Calibration
    seconds: float
    out_of_fold: Tensor | None = None
    fold_of: Tensor | None = None
    choice: Choice | None = None


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
        folds: (N,), which fold each training picture belongs to; drawn by seed where it is not given.
        work: a folder of this run's own, see `run_key`.

    Raises:
        DatasetError: too few classes or pictures.
        CancelledError: from `progress`.
    """
    labels = training.labels
    refuse_too_few(training.rows.name, labels, [labels[i] for i in training.truth.tolist()], settings.folds)
    started = time.monotonic()
    bench = _Bench(backbone, training, validation, settings, work, torch.device(device), progress)
    if settings.folds and folds is None:
        folds = folds_of(training, settings.folds, settings.seed)
    if not settings.folds:
        folds = bench.calibrating_folds()
    bench, choice = _chosen(bench, folds)
    unseen = _out_of_fold(bench, folds) if folds is not None else None
    kept = _fitted(bench, "all", torch.arange(len(training)), judged=validation is not None)
    calibration = _calibrated(bench, folds, unseen)
    known = (folds, unseen) if settings.folds else (None, None)
    return FineTuned(
        tuple(kept.history), kept.in_words, bench.trained_in_words(kept), calibration, time.monotonic() - started,
        _probabilities(*known, training.truth), known[0], choice,
    )  # fmt: skip


@dataclass(eq=False)
class _Bench:
    """What all runs share."""

    backbone: Backbone
    training: PixelStore
    validation: PixelStore | None
    settings: FineTuning
    work: Path
    device: torch.device
    progress: Progress
    pace: Pace = field(default_factory=Pace)
    run: str = ""
    folds: int = 0

    def __post_init__(self) -> None:
        module = self.backbone.module.to(self.device, memory_format=torch.channels_last).eval()
        self.initial = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        self._features: Tensor | Literal["unknown"] | None = "unknown"
        self.trunk = self._trunk()
        self.network = module if self.trunk is None else Tail(module, self.trunk)
        prefix = "" if self.trunk is None else "module."
        self.heads = [f"{prefix}{head}" for head in self.backbone.heads]
        self.begun = 0.0 if self.trunk is None else 0.4  # the share of the time until the first step, about
        self.inputs = self._inputs("training", self.training, self.settings.copies)
        self.judge = None if self.validation is None else self._inputs("validation", self.validation, 1)

    def _trunk(self) -> Trunk | None:
        if self.settings.batch_norm == "reestimated":  # of every layer, by each network's own training pictures
            return None
        some = torch.linspace(0, len(self.training) - 1, _LOOKED_AT).long()
        pixels = normalised(self.training, self.training[some], self.device)
        return find_trunk(self.backbone.module, pixels, self.settings.first_share)

    def _below(self, pixels: Tensor) -> Tensor:
        return pixels if self.trunk is None else self.trunk.maps(self.backbone.module, pixels)

    def _inputs(self, name: str, store: PixelStore, copies: int) -> Inputs:
        """With maps where there is a trunk, and room for them."""
        maps = None
        if self.trunk is not None and (count := affordable(store, self.trunk, self.backbone.module, self.settings)):
            file = self.work / f"{name}-maps.npy"
            watched = part(self.progress, 0.0, self.begun)
            maps = kept_maps(file, store, self._below, self.settings, min(count, copies), self.device, watched)
        return Inputs(store, self.settings, self.device, self._below, maps)

    def calibrating_folds(self) -> Tensor | None:
        """(N,), where a temperature is fitted to what networks say of pictures that they did not see."""
        few = min(self.settings.calibration_folds, most_folds(self.training))
        cheap = self.inputs.maps is not None or not self.settings.epochs
        if self.validation is not None or few < 2 or not cheap:
            return None
        return folds_of(self.training, few, self.settings.seed)

    def wider(self) -> "_Bench":
        """The same with all layers trained, in a folder of its own."""
        self.backbone.module.load_state_dict(self.initial)
        said = self.progress = part(self.progress, _TRIED, 1.0)
        return _Bench(
            self.backbone, self.training, self.validation, replace(self.settings, trained_share=1.0),
            self.work / "all-layers", self.device, lambda share, stage: said(share, f"All layers. {stage}"),
        )  # fmt: skip

    @property
    def runs(self) -> list[str]:
        return [*(f"fold {k + 1} of {self.folds}" for k in range(self.folds)), "all"]

    def file(self, run: str) -> Path:
        """The checkpoint of a run."""
        return self.work / f"{run.replace(' ', '-')}.safetensors"

    def features(self) -> Tensor | None:
        """(V, N, K) of V copies of each picture below the new head, once for all runs; None if it has none."""
        if isinstance(self._features, str):
            self.backbone.module.load_state_dict(self.initial)
            self._features, found = None, list[Tensor]()
            for way in range(self.inputs.ways if len(self.heads) == 1 else 0):
                self.progress(0.0, f"Looking at copy {way + 1} of {self.inputs.ways} of each picture")
                every = self.inputs.batches(torch.arange(len(self.training)), way)
                features = features_below(self.network, self.heads[0], every)
                if features is None:
                    return None
                found.append(features)
            self._features = torch.stack(found) if found else None
        return self._features

    @torch.no_grad()
    def answers(self, inputs: Inputs, places: Tensor) -> Tensor:
        """(n, C) logits on the CPU."""
        return torch.cat([logits_of(self.network, batch).cpu() for batch in inputs.batches(places)])

    def on_step(self, done: int, total: int, loss: float) -> None:
        """Says how far all runs are, and how long the rest takes at the pace so far."""
        place = self.runs.index(self.run)
        left = self.pace.left(total - done + total * (len(self.runs) - 1 - place))
        epoch = (done - 1) * self.settings.epochs // total + 1
        which = "" if self.run == "all" else f"{self.run.capitalize()}, "
        said = f"{which}epoch {epoch} of {self.settings.epochs}, loss {loss:.3f}, {left}"
        part(self.progress, self.begun, 1.0)((place + done / total) / len(self.runs), said)

    def trained_in_words(self, kept: Kept) -> str:
        if not kept.history:
            return "the head; all layers below it are unchanged"
        if self.trunk is not None:
            return self.trunk.in_words
        if self.settings.first_share >= 1 or self.settings.batch_norm == "reestimated":
            return "all layers"
        return "all layers: no layer was found through which everything passes, so none could be left unchanged"


def _chosen(bench: _Bench, folds: Tensor | None) -> tuple[_Bench, Choice | None]:
    """The one for all layers if they answer unseen images better and it was worth trying, else this one; and why."""
    settings, judge = bench.settings, bench.validation
    parts = folds if judge is None else torch.zeros(len(judge), dtype=torch.long)
    if settings.trained_share is not None or bench.trunk is None or not settings.epochs or parts is None:
        return bench, None
    usual, truth = _unseen(bench, parts), (bench.training if judge is None else judge).truth
    source = _source(folds if judge is None else None)
    first = tried(settings.first_share, usual, truth)
    if not leaves_room(first):
        return bench, Choice(source, first)
    wider = bench.wider()
    choice = Choice(source, first, _compared(first.share, usual, wider, parts, truth))
    return wider if choice.share == 1 else bench, choice


def _compared(share: float, usual: Tensor, wider: _Bench, parts: Tensor, truth: Tensor) -> tuple[Tried, Tried]:
    """Those answers and the wider network's, on all parts or up to the one after which it is no better."""
    for count in range(1, int(parts.max()) + 2):
        answers, there = _unseen(wider, parts, count), parts < count
        both = tried(share, usual[there], truth[there]), tried(1.0, answers[there], truth[there])
        if both[1].log_loss >= both[0].log_loss:
            break
    return both


def _unseen(bench: _Bench, parts: Tensor, count: int | None = None) -> Tensor:
    """(N, C) logits of the images that judge: the validation split, or the first so many parts out of fold."""
    if bench.judge is None:
        return _out_of_fold(bench, parts, count)
    _fitted(bench, "all", torch.arange(len(bench.training)), judged=True)
    return bench.answers(bench.judge, torch.arange(len(parts)))


def _source(folds: Tensor | None) -> str:
    return "the validation split" if folds is None else f"{int(folds.max()) + 1}-fold out-of-fold predictions"


def _out_of_fold(bench: _Bench, folds: Tensor, count: int | None = None) -> Tensor:
    """(N, C) logits of each picture by the network of its fold, which did not see it; 0 beyond the first so many."""
    bench.folds = int(folds.max()) + 1
    found = torch.zeros(len(bench.training), len(bench.training.labels))
    for fold, name in enumerate(bench.runs[:-1][:count]):
        file = bench.work / f"fold-{fold}-answers.safetensors"
        inside = torch.nonzero(folds == fold)[:, 0]
        done = read_checkpoint(file)
        if done is None:
            _fitted(bench, name, torch.nonzero(folds != fold)[:, 0])
            answers = bench.answers(bench.inputs, inside)
            write_checkpoint(file, {"answers": answers}, {})
            bench.file(name).unlink(missing_ok=True)  # its weights are not needed any more
        else:
            answers = done[0]["answers"]
        found[inside] = answers
    return found


def _probabilities(folds: Tensor | None, unseen: Tensor | None, truth: Tensor) -> Tensor | None:
    """(N, C), each fold's at the temperature that is best for the others: no picture calibrates its own."""
    if folds is None or unseen is None:
        return None
    found = torch.zeros_like(unseen)
    for fold in folds.unique().tolist():
        inside = folds == fold
        found[inside] = (unseen[inside] / fit_temperature(unseen[~inside], truth[~inside])).softmax(1)
    return found


def _calibrated(bench: _Bench, folds: Tensor | None, unseen: Tensor | None) -> Calibration:
    """Return what the temperature is that the head now holds, and where it is from."""
    if bench.judge is not None and bench.validation is not None:
        truth = bench.validation.truth
        logits, source = bench.answers(bench.judge, torch.arange(len(truth))), _source(None)
    elif unseen is not None and folds is not None:
        logits, truth, source = unseen, bench.training.truth, _source(folds)
    else:
        why = "there are too few pictures for folds"
        if most_folds(bench.training) >= 2:
            why = "each fold would train every layer again: ask for folds, or give a validation split"
        return Calibration(1.0, "", why)
    temperature = fit_temperature(logits, truth)
    some = bench.inputs.seen(torch.arange(min(AT_ONCE, len(bench.training))))
    if not put_into_head(bench.network, bench.heads, temperature, some):
        return Calibration(1.0, source, f"the best temperature is {temperature:.2f}, but dividing the head's weights"
                           " by it does not divide the answer")  # fmt: skip
    losses = [float(cross_entropy(logits / each, truth)) for each in (1.0, temperature)]
    return Calibration(temperature, source, "", *losses)


def _fitted(bench: _Bench, name: str, places: Tensor, *, judged: bool = False) -> Kept:
    """What was kept; the module then holds it, in evaluation mode."""
    settings, module = bench.settings, bench.backbone.module
    bench.run = name
    truth, file = bench.training.truth[places], bench.file(name)
    found = read_checkpoint(file)
    if found is None:
        module.load_state_dict(bench.initial)
        _fit_head(bench, places, truth)
    course = _course(bench, places, truth, _course_settings(settings))
    kept = Kept(settings, judged)
    if found is not None:
        course.restore(found[0])
        kept.restore(*found)
    for number in range(len(kept.history), settings.epochs):
        if kept.ended:
            break
        row = {"epoch": number + 1, "loss": course.epoch(number)}
        _settle(bench, places)
        if judged and bench.judge is not None and bench.validation is not None:
            truth_there = bench.validation.truth
            row |= _judged(bench.answers(bench.judge, torch.arange(len(truth_there))), truth_there)
        kept.add(row, module.state_dict())
        write_checkpoint(file, course.state() | kept.state(), {"history": kept.history, "count": kept.count})
    kept.put(module)
    _settle(bench, places)
    return kept


def _course(bench: _Bench, places: Tensor, truth: Tensor, settings: TrainingSettings) -> Course:
    """The epochs of the trained part; what is drawn are places in the store, and `varied` makes inputs of them."""
    return Course(bench.network, places, truth, settings, augment=bench.inputs.varied, on_step=bench.on_step)


def _course_settings(settings: FineTuning) -> TrainingSettings:
    shared = {
        name: getattr(settings, name) for name in TrainingSettings.__dataclass_fields__ if hasattr(settings, name)
    }
    return TrainingSettings(**shared, freeze_batch_norm=settings.batch_norm == "frozen")


def _fit_head(bench: _Bench, places: Tensor, truth: Tensor) -> None:
    """Solves for the head where it is one linear layer; else trains the layers of the head by gradient."""
    module, settings, features = bench.backbone.module, bench.settings, bench.features()
    if features is not None:
        head: Any = bench.network.get_submodule(bench.heads[0])
        seen = features[:, places]
        fit_head(head, seen.flatten(0, 1), truth.repeat(len(seen)), strength=settings.head_strength)
        return
    heads = {id(p) for name in bench.backbone.heads for p in module.get_submodule(name).parameters()}
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(id(parameter) in heads)
    only = replace(_course_settings(settings), epochs=settings.head_epochs, learning_rate=1e-3, freeze_batch_norm=True)
    course = Course(bench.network, places, truth, only, augment=bench.inputs.varied)
    for number in range(settings.head_epochs):
        bench.progress(0.0, f"Training the head, epoch {number + 1} of {settings.head_epochs}")
        course.epoch(number)
    for parameter in trained:
        parameter.requires_grad_(True)


def _settle(bench: _Bench, places: Tensor) -> None:
    """Evaluation mode, with the batch norm's statistics taken anew where they are not frozen."""
    bench.backbone.module.eval()
    if bench.settings.batch_norm == "reestimated":
        reestimate_batch_norm(bench.backbone.module, bench.inputs.batches(places))


def _judged(logits: Tensor, truth: Tensor) -> dict[str, float]:
    right = (logits.argmax(1) == truth).float().mean()
    return {"validation_loss": float(cross_entropy(logits, truth)), "validation_accuracy": float(right)}
