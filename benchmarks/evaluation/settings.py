"""The classifiers and pictures that maps are measured on."""

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from safetensors.torch import load_file
from torchvision import models, transforms

from tests import resnet20
from xaihub import Classifier, load_classifier, load_references, open_dataset
from xaihub.curated import STARTER
from xaihub.datasets import LabelledPictures, from_pairs
from xaihub.evaluating.marked import questions_about, read_boxes
from xaihub.evaluating.questions import Mask, Target
from xaihub.references import ReferenceSet
from xaihub.synthetic import paper_pets

HELD_OUT = 9_000  # the seed of pets that the starter has never seen


@dataclass(frozen=True, eq=False)
class Setting:
    """A classifier and the pictures that its maps are measured on."""

    name: str
    words: str
    classifier: Classifier
    pictures: LabelledPictures
    targets: Sequence[Target] | None = None
    masks: Sequence[Mask] | None = None
    references: ReferenceSet | None = None


def pets(_shared: Path, count: int) -> Setting:
    drawn = list(paper_pets(count, seed=HELD_OUT))
    pictures = from_pairs("paper pets", [(str(i), pet.label, pet.image) for i, pet in enumerate(drawn)])
    words = f"{count} drawn pets that it has never seen; the parts that decide are known, and are the mask"
    masks = [pet.deciding_mask for pet in drawn]
    return Setting(
        "Starter, paper pets", words, load_classifier(STARTER), pictures, None, masks, load_references(STARTER)
    )


def cifar(shared: Path, count: int) -> Setting:
    os.environ["RESNET20"] = str(shared / "models" / "cifar10_resnet20")
    network, labels, transform = resnet20.load()
    classifier = Classifier.from_module(network, labels=labels, transform=transform, repo_id="ResNet-20 (CIFAR-10)")
    folder = shared / "data" / "cifar10_test"
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))[:: max(1, 500 // count)][:count]
    sources = [(row["file"], row["class_name"], partial(Path, folder / row["file"])) for row in rows]
    pictures = LabelledPictures("CIFAR-10 test", sources, tuple(labels.values()))
    return Setting("ResNet-20, CIFAR-10", f"{len(rows)} test pictures of 32 x 32 pixels", classifier, pictures)


def imagenet(folder: str, name: str, shared: Path, count: int) -> Setting:
    classifier = _called(load_classifier(shared / "models" / folder), name)
    return Setting(name, f"{count} labelled photographs, one of a class", classifier, _photographs(shared, count))


def squeezenet(shared: Path, count: int) -> Setting:
    """Brought as one's own module."""
    folder = shared / "models" / "squeezenet1_0_deepcompression"
    labels = json.loads((folder / "config.json").read_text())["id2label"]
    network = models.squeezenet1_0(num_classes=len(labels))
    network.load_state_dict(load_file(folder / "model.safetensors"))
    normal = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    steps = [transforms.Resize(256), transforms.CenterCrop(227), transforms.ToTensor(), normal]
    classifier = Classifier.from_module(
        network.eval(),
        labels=[labels[str(i)] for i in range(len(labels))],
        transform=transforms.Compose(steps),
        repo_id="SqueezeNet 1.0",
    )
    words = f"{count} labelled photographs, one of a class; the network was brought as a module of one's own"
    return Setting("SqueezeNet 1.0", words, classifier, _photographs(shared, count))


def boxes(shared: Path, _count: int) -> Setting:
    folder = shared / "data" / "boxes"
    pictures, marked = questions_about(open_dataset(folder), read_boxes(folder / "boxes.csv"))
    classifier = _called(load_classifier(shared / "models" / "mobilenet_v2_1.0_224"), "MobileNetV2")
    return Setting(
        "MobileNetV2, boxes",
        f"{len(marked)} COCO photographs with boxes around things of which ImageNet has a class; of the classes that a"
        " box stands for, the one that is most probable is explained",
        classifier,
        pictures,
        [each.classes for each in marked],
        [each.boxes for each in marked],
    )


SETTINGS: dict[str, tuple[Callable[[Path, int], Setting], int]] = {
    "pets": (pets, 60),
    "cifar": (cifar, 100),
    "mobilenet-v1": (partial(imagenet, "mobilenet_v1_0.25_128", "MobileNetV1 0.25"), 60),
    "mobilenet-v2": (partial(imagenet, "mobilenet_v2_1.0_224", "MobileNetV2"), 50),
    "squeezenet": (squeezenet, 20),
}
"""Name -> how it is made, and how many pictures it is measured on."""


def _called(classifier: Classifier, name: str) -> Classifier:
    return replace(classifier, repo_id=name)


def _photographs(shared: Path, count: int) -> LabelledPictures:
    return open_dataset(shared / "data" / "imagenet_sample", limit=count)
