"""Rebuild the starter: draw paper pets, train a small classifier on their labels alone, write it and its examples.

The folder holds `classifier/`, which `AutoModelForImageClassification.from_pretrained` reads, and `examples/`, one
picture of each class that the classifier has never seen.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

from xaihub import build_references, load_classifier
from xaihub.curated import STARTER
from xaihub.datasets import from_pairs
from xaihub.embedders import DEFAULT, PIXELS
from xaihub.loading import STARTER_FOLDER
from xaihub.synthetic import PETS, deciding_parts, draw_pet, paper_pets
from xaihub.training import TrainingSettings, fit

SIDE = 161  # pixels; 8 x 20 + 1, since strided layers see an odd side symmetrically: the map is not shifted
TRAINING_SEED, HELD_OUT_SEED = 0, 1  # of the drawings; the references have one of their own below
HELD_OUT = 500
REFERENCES, REFERENCE_SEED = 200, 2
EXAMPLES = {"cat": 13, "dog": 49, "fox": 41, "mouse": 19, "rabbit": 45}  # seeds, chosen by eye for variety

CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-classification
tags: [xaihub, synthetic]
---
# Paper pets

A small ResNet that tells drawn animals apart: {labels}. It is xaihub's built-in starter, and its right explanations
are known: the classes differ in their {parts} alone. Ground, coat, size, place, pose, whiskers and scarf
say nothing about the class.

| | |
|---|---|
| Architecture | ResNet, {parameters:,} parameters, {side} x {side} pixels, last feature map {grid} x {grid} |
| Training | {count:,} drawings, each seen {epochs} times; labels only, no masks |
| Accuracy on {held_out} drawings never seen | {accuracy:.1%} |

It knows nothing about photographs. Rebuild it with `python scripts/build_starter.py`.
"""


def network() -> ResNetForImageClassification:
    """Two stages only: a fine map, and positions that see an ear or a tail rather than the whole animal."""
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=16,
            hidden_sizes=[32, 64],
            depths=[2, 1],
            layer_type="basic",
            id2label=dict(enumerate(PETS)),
            label2id={label: index for index, label in enumerate(PETS)},
        )
    )


def normalised(pixels: Tensor) -> Tensor:
    """What `processor` makes of pixels in [0, 1]."""
    return (pixels - 0.5) / 0.5


def processor() -> ViTImageProcessor:
    half = [0.5, 0.5, 0.5]
    return ViTImageProcessor(size={"height": SIDE, "width": SIDE}, resample=2, image_mean=half, image_std=half)


def varied(pixels: Tensor, generator: Generator) -> Tensor:
    """The batch mirrored, moved, lit and blurred by noise at random, so that no such thing matters; then normalised."""

    def lot(*shape: int) -> Tensor:
        return torch.rand(len(pixels), *shape, generator=generator)

    mirrored = torch.where(lot(1, 1, 1) < 0.5, pixels.flip(-1), pixels)
    down, right = torch.randint(-8, 9, (2,), generator=generator).tolist()
    moved = mirrored.roll((down, right), (2, 3))
    lit = moved * (0.85 + 0.3 * lot(3, 1, 1)) + 0.15 * (lot(1, 1, 1) - 0.5)
    return normalised(lit + 0.03 * lot(1, 1, 1) * torch.randn(lit.shape, generator=generator))


def show(progress: str, *, last: bool) -> None:
    """One line on the terminal, written over and over until the last."""
    print(f"\r{progress:<40}", end="\n" if last else "", file=sys.stderr, flush=True)


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pixels `(N, 3, H, W)` as bytes, and the classes' indices `(N,)`."""
    pictures, labels = [], []
    for done, pet in enumerate(paper_pets(count, seed=seed, size=SIDE), start=1):
        pictures.append(np.asarray(pet.image))
        labels.append(PETS.index(pet.label))
        if done % 50 == 0 or done == count:
            show(f"drawing {done}/{count}", last=done == count)
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def trained(count: int, epochs: int) -> ResNetForImageClassification:
    """The classifier, after some minutes on two processor cores."""
    pixels, labels = drawn(count, TRAINING_SEED)
    torch.manual_seed(TRAINING_SEED)
    module = network().to(memory_format=torch.channels_last)  # a third faster on a processor
    settings = TrainingSettings(seed=TRAINING_SEED, epochs=epochs, learning_rate=2e-3)

    def on_step(done: int, total: int, loss: float) -> None:
        show(f"training {done}/{total}, loss {loss:.3f}", last=done == total)

    fit(module, pixels, labels, settings, augment=varied, on_step=on_step)
    return module


@torch.inference_mode()
def accuracy(module: ResNetForImageClassification) -> float:
    """The share of held-out drawings that it names."""
    pixels, labels = drawn(HELD_OUT, HELD_OUT_SEED)
    answers = [module(normalised(batch / 255)).logits.argmax(1) for batch in pixels.split(50)]
    return (torch.cat(answers) == labels).float().mean().item()


def write_classifier(module: ResNetForImageClassification, folder: Path, **facts: float) -> None:
    """Weights, configuration, preprocessing and the card."""
    module.to(memory_format=torch.contiguous_format).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes for its owner alone; a package is for everyone
    processor().save_pretrained(folder)
    grid = -(-SIDE // 2 ** (len(module.config.hidden_sizes) + 1))
    card = CARD.format(
        labels=", ".join(PETS),
        parts=" and ".join(deciding_parts(PETS[0])),
        parameters=module.num_parameters(),
        side=SIDE,
        grid=grid,
        held_out=HELD_OUT,
        **facts,
    )
    (folder / "README.md").write_text(card, "utf-8")


def write_examples(folder: Path) -> None:
    """One picture of each class; none was trained on, since training draws other seeds."""
    folder.mkdir(parents=True, exist_ok=True)
    for label, seed in EXAMPLES.items():
        draw_pet(label, seed, size=SIDE).image.save(folder / f"{label}.png", optimize=True)


def write_references(starter: Path) -> None:
    """What the classifier makes of drawings of its own, so that twins and counterfactuals need no network either."""
    classifier = replace(load_classifier(starter / "classifier"), repo_id=STARTER)
    pets = list(paper_pets(REFERENCES, seed=REFERENCE_SEED, size=SIDE))
    pairs = [(f"{pet.label} {pet.seed}", pet.label, pet.image) for pet in pets]
    pictures = from_pairs(STARTER, pairs)
    build_references(classifier, pictures, embedder=(DEFAULT, PIXELS)).save(starter / "references")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=STARTER_FOLDER, help="folder to write (default: the package's own)")
    parser.add_argument("--count", type=int, default=2000, help="drawings to train on (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=16, help="times each is seen (default: %(default)s)")
    arguments = parser.parse_args(argv)
    module = trained(arguments.count, arguments.epochs)
    share = accuracy(module)
    write_classifier(
        module, arguments.to / "classifier", count=arguments.count, epochs=arguments.epochs, accuracy=share
    )
    write_examples(arguments.to / "examples")
    write_references(arguments.to)
    print(f"{share:.1%} of {HELD_OUT} held-out drawings named correctly\n{arguments.to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
