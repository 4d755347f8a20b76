"""Ways to answer by prototypes, compared on the same folds with the black box that they are made from."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any

import torch

from benchmarks.prototypes.kept import Piece, timed, work_folder
from benchmarks.prototypes.tasks import Opened, Task
from xaihub import Classifier
from xaihub.datasets import LabelledPictures
from xaihub.finetuning import FineTuning, forget
from xaihub.finetuning.fitting import run_key
from xaihub.finetuning.folding import folds_of
from xaihub.finetuning.pixel_store import PixelStore, read_pixels
from xaihub.passes import slices
from xaihub.prototype_fitting import SETTINGS, fit_prototypes
from xaihub.prototype_maps import Looked, look
from xaihub.prototype_training import PUBLISHED, PrototypeTraining
from xaihub.prototype_training.fitting import exactly, train_network
from xaihub.prototypes import FittedTo, HeadSettings, distinct_sources
from xaihub.prototypes.alarms import collapse, used_of

__all__ = ["FOLDS", "METHODS", "Method", "pieces"]

FOLDS = 5


@dataclass(frozen=True)
class Method:
    """A way to make a classifier that answers by prototypes: as scripts/train_protopnet.py does, or the page."""

    name: str
    fitted_to: FittedTo
    settings: HeadSettings | PrototypeTraining  # the latter: trained together with the network, else put on it as it is


METHODS = {
    "page": Method("PrototypeHead", "predictions", SETTINGS),
    "head": Method("PrototypeHead", "predictions", PrototypeTraining().head),
    "protopnet": Method("ProtoPNet, our way", "labels", PrototypeTraining()),
    "published": Method("ProtoPNet, as published", "labels", PrototypeTraining(**PUBLISHED)),
}


def pieces(task: Task) -> list[Piece]:
    """One for each way and fold; the opened task is shared by them."""
    opened = cache(task.open)
    return [
        Piece(
            f"{task.key} {way} {fold + 1}",
            [task.facts, asdict(METHODS[way].settings), METHODS[way].fitted_to, fold, FOLDS],
            partial(_fold, opened, METHODS[way], fold),
        )
        for way in task.methods
        for fold in range(FOLDS)
    ]


def _fold(open_: Callable[[], Opened], method: Method, fold: int) -> dict[str, Any]:
    """What the black box and the prototypes say of the pictures of a fold, having learned from all others."""
    opened = open_()
    fold_of = folds_of(opened.store, FOLDS, FineTuning().seed)  # each class evenly, near copies together
    learned = _part(opened.store, torch.nonzero(fold_of != fold)[:, 0].tolist())
    black_box = opened.black_box(learned)
    with timed() as embedding, exactly():
        looked = look(black_box, learned.rows)
    unseen = look(black_box, _some(opened.rows, torch.nonzero(fold_of == fold)[:, 0].tolist()))
    with timed() as making:
        made = _made(method, looked, learned)
    return {
        "truth": list(unseen.labels),
        "black box": list(unseen.predicted),
        "answers": _answers(made, unseen),
        "embedding": embedding,
        "making": making,
        **_of_prototypes(made),
    }


def _some(rows: LabelledPictures, places: Sequence[int]) -> LabelledPictures:
    return replace(rows, sources=[rows.sources[place] for place in places], skipped={})


def _part(store: PixelStore, places: Sequence[int]) -> PixelStore:
    return read_pixels(_some(store.rows, places), store.transform, store.labels)


def _made(method: Method, looked: Looked, learned: PixelStore) -> Classifier:
    if isinstance(method.settings, HeadSettings):
        return fit_prototypes(looked.classifier, looked, fitted_to=method.fitted_to, settings=method.settings)
    work = work_folder() / run_key(method.settings, looked.classifier.repo_id, learned, None)
    trained = train_network(looked, learned, None, method.settings, method.fitted_to, work=work)
    forget(work)
    return trained.classifier


@torch.no_grad()
def _answers(made: Classifier, unseen: Looked) -> list[str]:
    """What it calls each picture."""
    made.module.eval()
    found: list[str] = []
    for some in slices(len(unseen), made.batch):
        logits = made.module(unseen.pixels(range(some.start, some.stop)))
        found += [made.labels[index] for index in logits.argmax(1).tolist()]
    return found


def _of_prototypes(made: Classifier) -> dict[str, Any]:
    held = made.prototypes
    if held is None:
        raise ValueError(f"{made.name} does not answer by prototypes.")
    counts = {label: len(held.of_class(index)) for index, label in enumerate(held.labels)}
    return {
        "prototypes": counts,
        "distinct": distinct_sources(held.gallery, held.labels),
        "used": sum(used_of(held.network.head)),
        "alarms": list(collapse(held)),
    }
