"""The pictures that are told apart by prototypes, and the classifiers that prototypes are made from."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.examples import settings as examples
from benchmarks.prototypes.kept import inventory, work_folder
from xaihub import Classifier, load_classifier
from xaihub.datasets import LabelledPictures, from_pairs, open_dataset
from xaihub.fairness import encoded
from xaihub.families.from_transformers import load_backbone
from xaihub.finetuning import FineTuning, forget
from xaihub.finetuning.fitting import fine_tune, run_key
from xaihub.finetuning.pixel_store import PixelStore, read_pixels
from xaihub.folders import replacing
from xaihub.images import open_picture

__all__ = ["TUNING", "Opened", "Task", "tasks"]

TUNING = FineTuning(trained_share=0.25)  # of the black box: what the defaults choose for these photographs
_MARK = "config.json"


@dataclass(frozen=True, eq=False)
class Opened:
    """All pictures of a task with their pixels, and how a black box is had that has learned from some of them."""

    rows: LabelledPictures
    store: PixelStore
    black_box: Callable[[PixelStore], Classifier]


@dataclass(frozen=True, eq=False)
class Task:
    """What is told apart.

    Attributes:
        facts: what results depend on, beside the way prototypes are made.
        methods: the ways that are compared on it.
    """

    key: str
    name: str
    words: str
    facts: Any
    methods: tuple[str, ...]
    open: Callable[[], Opened]


def tasks(shared: Path) -> tuple[Task, ...]:
    """CIFAR-10, cats, ants and bees; nothing is opened yet."""
    mobile, ways = shared / "models" / "mobilenet_v2_1.0_224", ("head", "protopnet", "published")
    cats, ants = shared / "data" / "cats_real_fake" / "train", shared / "data" / "hymenoptera" / "train"
    cifar = [shared / "data" / "cifar10_test", shared / "models" / "cifar10_resnet20"]
    tuned = (
        "treated alike (scripts/build_dataset.py's crop, size and encoding); a MobileNetV2 (ImageNet) fine-tuned anew"
        " in each fold, as scripts/train_classifier.py does by default"
    )
    return (
        Task(
            "cifar", "CIFAR-10",
            "500 test pictures, 10 classes; a ResNet-20 that saw none of them, brought as one's own module",
            [inventory(each) for each in cifar], ("page",), lambda: _cifar(shared),
        ),
        Task(
            "cats", "Cats, real or generated", f"100 photographs of cats and 100 generated ones, {tuned}",
            [inventory(cats), inventory(mobile), asdict(TUNING)], ways, lambda: _tuned("cats", cats, mobile),
        ),
        Task(
            "ants", "Ants and bees", f"80 photographs of each, {tuned}",
            [inventory(ants), inventory(mobile), asdict(TUNING)], ways, lambda: _tuned("ants", ants, mobile),
        ),
    )  # fmt: skip


def _cifar(shared: Path) -> Opened:
    setting = examples.cifar(shared)
    known = setting.references
    pairs = [(key, str(known.labels[row]), known.picture(row)) for row, key in enumerate(known.keys)]
    rows = from_pairs("cifar10_test", pairs)
    store = read_pixels(rows, setting.classifier.transform, rows.label_names)
    return Opened(rows, store, lambda _learned: setting.classifier)


def _tuned(name: str, data: Path, model: Path) -> Opened:
    """Both classes treated alike; the black box learns from what it is given."""
    pairs = [(row.key, str(row.label), open_picture(encoded(row.picture, 256))) for row in open_dataset(data)]
    rows = from_pairs(name, pairs)
    store = read_pixels(rows, load_classifier(model).transform, rows.label_names)
    return Opened(rows, store, lambda learned: _black_box(name, learned, model, TUNING))


def _black_box(name: str, learned: PixelStore, model: Path, settings: FineTuning) -> Classifier:
    """Fine-tuned once for the same pictures; afterwards it is loaded from where it was put."""
    key = run_key(settings, model.name, learned, None)
    folder = work_folder() / f"{name}-black-box-{key}"
    if not (folder / _MARK).is_file():
        backbone = load_backbone(model, learned.labels, model.name, seed=settings.seed)
        work = work_folder() / f"tuning-{key}"
        fine_tune(backbone, learned, None, settings, work=work)
        with replacing(folder, _MARK) as draft:
            backbone.save(draft)
        forget(work)
    return replace(load_classifier(folder), repo_id=f"MobileNetV2 ({name})")
