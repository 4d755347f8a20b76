"""Labelled pictures and a backbone, tiny, and the training script run on them: here, or in a process to be killed."""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_models import TINY, Tiny, build, picture, processor_of

import xaihub.finetuning.runs  # noqa: F401  imported before the fork: a child then starts at once

sys.path.insert(0, str(Path(__file__).parents[1]))

from scripts import train_classifier

torch.set_num_threads(1)

RESNET = Tiny(
    "resnet", "ResNetForImageClassification", "ConvNextImageProcessor",
    {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"},
    "resnet.encoder.stages.1.layers.0", "NCHW", (4, 4), size=32,
)  # fmt: skip


def backbone(folder: Path, tiny: Tiny = RESNET) -> Path:
    """A folder with a classifier of three other classes and its processor."""
    build(tiny).save_pretrained(folder)
    processor_of(tiny).save_pretrained(folder)
    return folder


def tinted(place: int, colour: str) -> Image.Image:
    """A picture of its own, in which red or blue is a little stronger."""
    levels = np.asarray(picture(40, 36, seed=place)).astype(np.int16)
    levels[..., 0 if colour == "red" else 2] += 40
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def class_folders(folder: Path, count: int = 6, **colours: str) -> Path:
    """class_folders(folder, real="red", fake="blue"): so many pictures of each class, all different."""
    for number, (label, colour) in enumerate((colours or {"real": "red", "fake": "blue"}).items()):
        (folder / label).mkdir(parents=True)
        for place in range(count):
            tinted(1000 * number + place, colour).save(folder / label / f"{place}.png")
    return folder


def train(data: Path, network: Path, to: Path, *options: str, cache: Path | None = None) -> int:
    """The exit code of the script, few epochs."""
    if cache is not None:
        os.environ["XAIHUB_CACHE"] = str(cache)
    given = ["--epochs", "3", *options] if "--epochs" not in options else list(options)
    return train_classifier.main(["--data", str(data), "--backbone", str(network), "--to", str(to), *given])


def train_quietly(*arguments: object) -> None:
    """The same in a process of its own, which leaves with the exit code."""
    data, network, to, cache, *options = map(str, arguments)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    sys.exit(train(Path(data), Path(network), Path(to), *options, cache=Path(cache)))


__all__ = ["RESNET", "TINY", "backbone", "class_folders", "tinted", "train", "train_quietly"]
