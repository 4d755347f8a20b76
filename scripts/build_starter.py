"""Rebuild the starter: draw paper pets, train a small classifier on their labels alone, write it and its examples.

The folder holds `classifier/`, which `AutoModelForImageClassification.from_pretrained` reads, and `examples/`, one
picture of each class that the classifier has never seen.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor
from tqdm import tqdm
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

from xaihub.synthetic import PETS, PaperPet, deciding_parts, draw_pet, paper_pets
from xaihub.training import TrainingSettings, fit, predict

SIDE = 160  # of the pictures, in pixels
TRAINING_SEED, HELD_OUT_SEED = 0, 1  # of the drawings
HELD_OUT = 500
EXAMPLES = {"cat": 3, "dog": 3, "fox": 3, "mouse": 3, "rabbit": 3}  # seeds, chosen by eye

CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-classification
tags: [xaihub, synthetic]
---
# Paper pets

A small ResNet that tells drawn animals apart: {labels}. It is xaihub's built-in starter, and the classifier whose
right explanations are known, since the drawings differ in their {parts} alone. Ground, coat, size, place, pose,
whiskers and scarf say nothing about the class.

| | |
|---|---|
| Architecture | ResNet, {parameters:,} parameters, {side} x {side} pixels, last feature map {grid} x {grid} |
| Training | {count:,} drawn pictures, {epochs} epochs, labels only |
| Accuracy on {held_out} drawings never seen | {accuracy:.1%} |

It knows nothing about photographs. Rebuild it with `python scripts/build_starter.py`.
"""


def network() -> ResNetForImageClassification:
    """Two stages only: a fine map, and positions that see little more than one ear or one tail."""
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=16,
            hidden_sizes=[32, 64],
            depths=[2, 1],
            layer_type="basic",
            out_features=None,
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
