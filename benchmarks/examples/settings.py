"""The pictures and classifiers that the examples are measured on."""

import copy
import csv
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from tests import resnet20
from xaihub import Classifier, build_references, load_classifier
from xaihub.datasets import LabelledPictures, from_pairs, open_dataset
from xaihub.fairness import encoded
from xaihub.finetuning.probing import fit_head
from xaihub.images import open_picture
from xaihub.passes import Pass, slices, tap
from xaihub.references import ReferenceSet

STRENGTH = 0.01  # of the head: weakly held, 200 pictures in 1280 dimensions would all be answered with certainty


@dataclass(frozen=True, eq=False)
class Setting:
    """A classifier, the pictures it is asked about, and what it makes of them (N pictures, K dimensions, C classes).

    Attributes:
        z: (N, K), what the head reads; in the order of the references.
        own, margin: (N, K), gradients to z of the centred logit of the predicted class, and of its lead over the
            runner-up.
    """

    name: str
    words: str
    classifier: Classifier
    references: ReferenceSet
    z: Tensor
    own: Tensor
    margin: Tensor

    @property
    def logits(self) -> Tensor:
        return self.references.logits

    @property
    def predicted(self) -> NDArray[np.int64]:
        return self.references.predicted


def cifar(shared: Path) -> Setting:
    """500 test pictures of CIFAR-10, and a ResNet-20 that was brought as one's own module."""
    os.environ["RESNET20"] = str(shared / "models" / "cifar10_resnet20")
    network, labels, transform = resnet20.load()
    classifier = Classifier.from_module(network, labels=labels, transform=transform, repo_id="ResNet-20 (CIFAR-10)")
    folder = shared / "data" / "cifar10_test"
    with (folder / "labels.csv").open() as file:
        rows = [(row["file"], row["class_name"]) for row in csv.DictReader(file)]
    pictures = from_pairs("cifar10_test", [(key, label, Image.open(folder / key)) for key, label in rows])
    right = np.mean([classifier.predict(row.picture).label == row.label for row in pictures])
    words = f"{len(rows)} test pictures, 10 classes; ResNet-20, brought as one's own module, right on {right:.1%}"
    return _setting("CIFAR-10", words, classifier, pictures)


def cats(shared: Path) -> Setting:
    """200 cats, real and generated, treated alike; MobileNetV2 with a linear head of two classes."""
    pictures = _fair(open_dataset(shared / "data" / "cats_real_fake" / "train"))
    backbone = load_classifier(shared / "models" / "mobilenet_v2_1.0_224")
    classifier = _probed(backbone, pictures)
    right = np.mean([classifier.predict(row.picture).label == row.label for row in pictures])
    words = (
        f"{len(pictures)} cats, real and generated, treated alike; MobileNetV2 (ImageNet, frozen) with a linear head"
        f" that was fitted to these pictures (strength {STRENGTH}), right on {right:.1%} of them"
    )
    return _setting("Cats", words, classifier, pictures)


def _fair(pictures: LabelledPictures) -> LabelledPictures:
    """As scripts/build_dataset.py treats them by default."""
    rows = [(row.key, str(row.label), open_picture(encoded(row.picture, 256))) for row in pictures]
    return from_pairs("cats", rows)


def _probed(backbone: Classifier, pictures: LabelledPictures) -> Classifier:
    """The backbone with a new head for the pictures' labels, fitted to what the old one read."""
    rows = list(pictures)
    z, _ = _read(backbone, [row.picture for row in rows], lambda _passed, _some: ())
    labels = torch.tensor([pictures.label_names.index(str(row.label)) for row in rows])
    head = nn.Linear(z.shape[1], len(pictures.label_names))
    fit_head(head, z, labels, strength=STRENGTH)
    module = copy.deepcopy(backbone.module)
    module.set_submodule(backbone.head, head)
    return replace(backbone, module=module, labels=pictures.label_names, revision=None, repo_id="MobileNetV2 (cats)")


def _setting(name: str, words: str, classifier: Classifier, pictures: LabelledPictures) -> Setting:
    references = build_references(classifier, pictures, fidelity=False)
    by_key = {row.key: row.picture for row in pictures}
    ordered = [by_key[key] for key in references.keys]
    predicted = torch.from_numpy(references.predicted)

    def weights(passed: Pass, some: slice) -> tuple[Tensor, Tensor]:
        score = passed.score(predicted[some])
        rest = passed.logits.detach().clone().scatter_(1, predicted[some, None], -torch.inf).argmax(1)
        return (
            passed.head_gradients(score - passed.logits.mean(1)),
            passed.head_gradients(score - passed.score(rest)),
        )

    z, (own, margin) = _read(classifier, ordered, weights)
    return Setting(name, words, classifier, references, z, own, margin)


def _read(classifier: Classifier, pictures: list[Image.Image], more: Callable) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What the head reads of each picture, and what `more` makes of each pass."""
    read, others = [], []
    with tap(classifier) as run:
        for some in slices(len(pictures), classifier.batch):
            passed = run(torch.stack([classifier.transform(picture) for picture in pictures[some]]))
            read.append(passed.penultimate)
            others.append(more(passed, some))
    return torch.cat(read), tuple(torch.cat(each) for each in zip(*others, strict=True))
