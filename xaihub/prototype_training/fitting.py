"""A network and its prototypes trained together: warm-up, everything, projection, and a convex last layer.

Chen et al., 2019 (arXiv:1806.10574), from a start that has not collapsed: real patches of different pictures.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from xaihub.classifier import Classifier
from xaihub.datasets import LabelledPictures
from xaihub.finetuning.augmentation import vary
from xaihub.finetuning.checkpoints import read_checkpoint, write_checkpoint
from xaihub.finetuning.pixel_store import PixelStore, network_inputs
from xaihub.finetuning.settings import FineTuning, Kept
from xaihub.passes import target_layer_of
from xaihub.progress import Pace, Progress, silent
from xaihub.prototype_fitting import Targets, by_prototypes, targets_of
from xaihub.prototype_maps import Looked, look
from xaihub.prototype_training.course import Lesson, PrototypeCourse, upper_weights
from xaihub.prototype_training.settings import PrototypeTraining
from xaihub.prototype_training.settling import judged, settle
from xaihub.prototype_training.starting import layer_anywhere, layer_at_patches
from xaihub.prototype_training.watching import Spread, nearest_cells, spread
from xaihub.prototypes import FittedHead, FittedTo, PrototypeNetwork

__all__ = ["Trained", "exactly", "train_network"]


@dataclass(frozen=True, eq=False)
class Trained:
    """What came out.

    Attributes:
        classifier: answers by the prototypes of a network of its own; the black box is as it was.
        history: a record of each epoch. `kept`: which epoch's network it is, in words.
        spread: of the prototypes as they are shown.
        seconds: of this process, so less than the whole where a run was interrupted.
    """

    classifier: Classifier
    history: tuple[Mapping[str, Any], ...]
    kept: str
    spread: Spread
    seconds: float


def train_network(
    looked: Looked,
    training: PixelStore,
    validation: PixelStore | None,
    settings: PrototypeTraining,
    fitted_to: FittedTo,
    *,
    work: Path,
    progress: Progress = silent,
) -> Trained:
    """Trains a copy of the network that looked, with prototypes above it.

    After each epoch all that the next one needs is in `work`; a second call with the same arguments goes on from there
    and ends with the same bytes. Whoever calls removes the folder when the result is safe.

    Args:
        looked: the training pictures, in the store's order, as the black box sees them.
        validation: chooses the epoch, judged after projection; without it the last is kept.
        work: a folder of this run's own, see `run_key`.

    Raises:
        DatasetError: all pictures are of one class.
        CancelledError: from `progress`.
    """
    started = time.monotonic()
    bench = _Bench(looked, training, targets_of(looked, fitted_to), settings, fitted_to, progress)
    file, course = work / "all.safetensors", bench.joint()
    kept = Kept(FineTuning(epochs=settings.epochs, averaged=1, patience=settings.patience), validation is not None)
    found = read_checkpoint(file)
    if found is None:
        early = bench.warmed_up()
        write_checkpoint(file, course.state(), {"history": [], "count": 0, "early": early})
    else:
        course.restore(found[0])
        kept.restore(*found)
        early = found[1]["early"]
    for number in range(len(kept.history), settings.epochs):
        if kept.ended:
            break
        row = {"stage": "joint", "epoch": number + 1, "loss": course.epoch(number)}
        kept.add({**row, **bench.seen(number + 1, validation)}, bench.network.state_dict())
        facts = {"history": kept.history, "count": kept.count, "early": early}
        write_checkpoint(file, course.state() | kept.state(), facts)
    kept.put(bench.network)
    progress(1.0, "Moving each prototype onto a patch")
    classifier, last = bench.finished(training.rows)
    return Trained(classifier, (*early, *kept.history), _in_words(kept), last, time.monotonic() - started)


@dataclass(eq=False)
class _Bench:
    """The network under training, and what all stages share."""

    looked: Looked
    training: PixelStore
    targets: Targets
    settings: PrototypeTraining
    fitted_to: FittedTo
    progress: Progress
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        black_box = self.looked.classifier
        self.device = black_box.device
        self.lesson = Lesson(self.targets.indices, _teacher(self.looked, self.targets.labels))
        self.groups = [self.looked.copies[row] for row in self.targets.rows]
        if self.settings.start == "head":
            layer = layer_at_patches(self.looked, self.targets, self.fitted_to, self.settings)
        else:
            layer = layer_anywhere(self.looked, self.targets, self.settings)
        views = {each.name: each.view for each in target_layer_of(black_box).layers}
        module = deepcopy(black_box.module)
        self.network = PrototypeNetwork(module, views, layer).to(self.device).eval()

    def joint(self) -> PrototypeCourse:
        """The epochs of the network and its prototypes together."""
        one = self._inputs(self.training[torch.tensor([0])])
        below = upper_weights(self.network, one, self.settings.trained_share)
        return PrototypeCourse(
            self.network, "joint", self.training, self.lesson, self.settings, below=below, augment=self._varied,
            on_step=self._on_step,
        )  # fmt: skip

    def warmed_up(self) -> list[dict[str, Any]]:
        """Records of the epochs in which prototypes learn alone, on the maps of the unchanged network."""
        course = PrototypeCourse(self.network.head, "warm-up", self.looked.maps, self.lesson, self.settings)
        found = []
        for number in range(self.settings.warm_up):
            self.progress(0.0, f"Warming up, epoch {number + 1} of {self.settings.warm_up}")
            row = {"stage": "warm-up", "epoch": number + 1, "loss": course.epoch(number)}
            found.append({**row, **self._spread(self.looked.maps).record})
        return found

    def seen(self, epoch: int, validation: PixelStore | None) -> dict[str, Any]:
        """How far the prototypes are spread after an epoch, and how the network would do if it ended now."""
        maps = self._maps(self.training)
        found: dict[str, Any] = self._spread(maps).record
        every = self.settings.project_every
        if every and (self.settings.warm_up + epoch) % every == 0:
            settled = deepcopy(self.network.head).cpu()
            settle(settled, maps, self.lesson, self.groups, self.settings)
            self.network.head.load_state_dict(settled.state_dict())
        if validation is not None:
            copy = deepcopy(self.network.head).cpu()
            settle(copy, maps, self.lesson, self.groups, self.settings)
            places = [self.targets.labels.index(validation.labels[truth]) for truth in validation.truth.tolist()]
            found |= judged(copy, self._maps(validation), torch.tensor(places))
        return found

    def finished(self, rows: LabelledPictures) -> tuple[Classifier, Spread]:
        """The classifier, its prototypes moved onto patches and weighed anew, and how far they are spread."""
        self.network.requires_grad_(False)
        trained = replace(self.looked.classifier, module=self.network.black_box)
        with exactly():
            again = look(trained, rows, seed=self.settings.seed)
        layer = deepcopy(self.network.head).cpu()
        sources = settle(layer, again.maps, self.lesson, self.groups, self.settings)
        layer.requires_grad_(False)
        last = spread(layer, sources, self.groups, self.targets.labels)
        answered = replace(again, logits=self.looked.logits, classifier=self.looked.classifier)
        made = by_prototypes(
            trained, answered, self.targets, FittedHead(layer, sources), self.fitted_to, asdict(self.settings)
        )
        return made, last

    def _spread(self, maps: Tensor) -> Spread:
        layer = deepcopy(self.network.head).cpu()
        return spread(layer, nearest_cells(layer, maps, self.lesson.targets), self.groups, self.targets.labels)

    @torch.no_grad()
    def _maps(self, store: PixelStore) -> Tensor:
        """(N, K, h, w) on the CPU."""
        self.network.eval()
        with exactly():
            batches = store.batches(self.looked.classifier.batch)
            return torch.cat([self.network.maps(self._inputs(some))[0].cpu() for some in batches])

    def _inputs(self, levels: Tensor) -> Tensor:
        return network_inputs(levels.to(self.device), self.training.transform)

    def _varied(self, levels: Tensor, generator: Generator) -> Tensor:
        return self._inputs(vary(levels, generator, shift=self.settings.shift, light=self.settings.light))

    def _on_step(self, done: int, total: int, loss: float) -> None:
        epoch = (done - 1) * self.settings.epochs // total + 1
        self.progress(
            done / total, f"Epoch {epoch} of {self.settings.epochs}, loss {loss:.3f}, {self.pace.left(total - done)}"
        )


def _teacher(looked: Looked, labels: tuple[str, ...]) -> Tensor | None:
    """(N, C), what the black box says, where it knows all of these classes and no other."""
    known = looked.classifier.labels
    if set(labels) != set(known) or looked.classifier.activation != "softmax":
        return None
    return looked.logits[:, [known.index(label) for label in labels]].softmax(1)


@contextmanager
def exactly() -> Iterator[None]:
    """On a GPU, convolutions in whole float32: a prototype is to equal its patch's vector on any machine."""
    with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
        yield


def _in_words(kept: Kept) -> str:
    """Whose weights they are."""
    if not kept.history:
        return "the prototypes alone were trained"
    if kept.judged:
        return f"{kept.in_words}, each judged after its prototypes were moved onto patches"
    return f"the last of {len(kept.history)} epochs"
