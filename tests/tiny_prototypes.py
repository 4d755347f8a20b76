"""Small classifiers that answer by prototypes drawn by a seed: for what does not depend on how good they are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tiny_models import TINY, build, picture, processor_of

from xaihub import Classifier
from xaihub.building.embedding import encode
from xaihub.families import read_config
from xaihub.families.from_protopnet import load_black_box, save_prototypes
from xaihub.images import pixel_digest
from xaihub.prototypes import Prototype, PrototypeLayer, PrototypeNetwork, Prototypes, PrototypeSettings

MADE = {"dataset": "alice/pets", "revision": "b" * 40, "split": "train", "pictures": 12, "settings": {"per_class": 2}}


def black_box_folder(folder: Path, name: str = "resnet", **settings: Any) -> Path:
    """A tiny classifier of transformers, as its own `save_pretrained` writes it."""
    build(TINY[name], **settings).save_pretrained(folder)
    processor_of(TINY[name]).save_pretrained(folder)
    return folder


def opened(folder: Path) -> Classifier:
    """The black box of a folder."""
    return load_black_box(folder, read_config(folder), {"repo_id": "alice/tiny"})


def prototyped(black_box: Classifier, *, per_class: int = 2, kind: str = "head", copies: int = 0) -> Classifier:
    """The same with prototypes of random vectors, each from a picture of its own but for the `copies` of the first."""
    layer, classes = black_box.target_layer, len(black_box.labels)
    owners = tuple(index for index in range(classes) for _ in range(per_class))
    settings = PrototypeSettings(layer.view.channels, 6, classes, owners, pooled=2, least=-1.0)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        head = PrototypeLayer(settings)
        head.vectors.normal_()
        head.weights.copy_((head.owners[None] == torch.arange(classes)[:, None]) * torch.rand(head.weights.shape) * 5)
    network = PrototypeNetwork(black_box.module, {part.name: part.view for part in layer.layers}, head.eval()).eval()
    with torch.no_grad():  # each class is the answer for some pictures
        pixels = torch.stack([black_box.transform(picture(seed=seed)) for seed in range(6)])
        head.bias.copy_(-network(pixels).mean(0))
    gallery = tuple(
        _prototype(black_box, 0 if place <= copies else place, place, owner) for place, owner in enumerate(owners)
    )
    made = Prototypes(
        network, gallery, black_box.labels, kind, black_box="alice/tiny", black_box_labels=black_box.labels, made=MADE
    )
    return replace(black_box, module=network, prototypes=made, target_layer=None)


def _prototype(black_box: Classifier, seed: int, place: int, owner: int) -> Prototype:
    rows, columns = grid = black_box.target_layer.grid
    image = black_box.transform.view(picture(seed=seed)).image
    cell = place % rows, (place + 1) % columns
    return Prototype(owner, f"train/{seed}", cell, grid, pixel_digest(image), encode(image), f"https://hub/{seed}")


def saved(folder: Path, black_box: Path, *, kind: str = "head", pictures: bool = True, copies: int = 0) -> Path:
    """The folder that holds such a classifier."""
    classifier = prototyped(opened(black_box), kind=kind, copies=copies)
    beside = black_box if kind == "protopnet" else None
    save_prototypes(folder, classifier, like=black_box, black_box=beside, pictures=pictures)
    return folder
