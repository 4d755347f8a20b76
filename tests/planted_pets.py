"""Paper pets with a mark planted in a corner, and a small classifier that was taught it in some seconds of one core."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from xaihub.classifier import Classifier
from xaihub.datasets import LabelledPictures, from_pairs
from xaihub.synthetic import Nuisance, PaperPet, draw_pet

LABELS = ("cat", "rabbit")
SIDE = 64


class Eye(nn.Module):
    """Four convolutions and a pooled linear head."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for into, out, stride in ((3, 16, 2), (16, 24, 2), (24, 32, 2), (32, 48, 1)):
            layers += [nn.Conv2d(into, out, 3, stride=stride, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(48, len(LABELS))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.features(pixels).mean((-2, -1)))


def to_pixels(picture: Image.Image) -> Tensor:
    """(3, 64, 64) from -1 to 1."""
    small = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return torch.tensor(np.asarray(small), dtype=torch.float32).permute(2, 0, 1) / 127.5 - 1


def pets(count: int, *, marked: bool, seed: int, size: int = SIDE) -> list[PaperPet]:
    """In turn a cat, which may wear a red dot in the lower right corner, and a rabbit, which never does."""
    return [
        draw_pet(
            LABELS[i % 2], seed + i, size=size,
            nuisance=Nuisance(corner_mark="dot" if marked and i % 2 == 0 else None),
        )
        for i in range(count)
    ]  # fmt: skip


def as_dataset(drawn: Sequence[PaperPet], name: str = "pets") -> LabelledPictures:
    return from_pairs(name, [(f"{pet.label}/{i}", pet.label, pet.image) for i, pet in enumerate(drawn)])


@cache
def taught(*, count: int = 240, epochs: int = 15) -> Classifier:
    """A classifier of cats and rabbits, which was taught with the mark and goes by nothing else."""
    torch.manual_seed(0)
    drawn = pets(count, marked=True, seed=10_000)
    pixels = torch.stack([to_pixels(pet.image) for pet in drawn])
    labels = torch.tensor([LABELS.index(pet.label) for pet in drawn])
    network = Eye().train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=1e-3)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-2, total_steps=epochs * (count // 30))
    for _ in range(epochs):
        for rows in torch.randperm(count).split(30):
            loss = cross_entropy(network(pixels[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            pace.step()
    return Classifier.from_module(network.eval(), labels=LABELS, transform=to_pixels, repo_id="taught the mark")
