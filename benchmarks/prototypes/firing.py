"""Whether maps of where a prototype fires are faithful: what they call hottest is taken away."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.examples import settings as examples
from benchmarks.prototypes import pets
from benchmarks.prototypes.kept import Piece, inventory
from xaihub import Classifier, load_classifier
from xaihub.curated import STARTER
from xaihub.prototype_firing import STEPS, How, deletion_score, fires, prototypes_of
from xaihub.prototype_fitting import SETTINGS, fit_prototypes
from xaihub.prototype_maps import Looked, look

__all__ = ["ASKED", "pieces"]

ASKED = 24  # pictures, each with the prototype that gives its answer most points
LOT = "parts by lot"
HOWS: tuple[How, ...] = ("upsampled", "smoothgrad", "cells")


def pieces(shared: Path) -> list[Piece]:
    facts = [asdict(SETTINGS), ASKED, STEPS, HOWS]
    read = [inventory(shared / of) for of in ("data/cats_real_fake", "models/mobilenet_v2_1.0_224")]
    return [
        Piece("firing pets", [*facts, pets.SEEDS, pets.CLASSES], _pets),
        Piece("firing cats", [*facts, read], partial(_cats, shared)),
    ]


def _pets() -> dict[str, Any]:
    starter = load_classifier(STARTER)
    made = fit_prototypes(starter, pets.rows_of(pets.drawn(pets.SEEDS[0])))
    unseen = look(starter, pets.rows_of(pets.drawn(pets.SEEDS[1])))
    return _scores(made, unseen, range(len(unseen)))


def _cats(shared: Path) -> dict[str, Any]:
    """Pictures that no prototype was taken from; the MobileNetV2 below is frozen."""
    setting = examples.cats(shared)
    looked = look(setting.classifier, setting.references)
    made = fit_prototypes(setting.classifier, looked)
    taken = {source.digest for source in prototypes_of(made).gallery}
    return _scores(made, looked, [row for row, digest in enumerate(looked.digests) if digest not in taken])


def _scores(made: Classifier, looked: Looked, rows: Sequence[int]) -> dict[str, Any]:
    """Way to draw it -> the deletion score of each picture asked about."""
    network, generator = prototypes_of(made).network, torch.Generator().manual_seed(0)
    found: dict[str, list[float]] = {how: [] for how in (*HOWS, LOT)}
    for row in rows[:: max(1, len(rows) // ASKED)][:ASKED]:
        pixels = looked.pixels([row])
        with torch.no_grad():
            read = network.read(pixels)
        points = network.head.points(read.scores)[0, int(read.logits.argmax())]
        if not float(points.max()) > 0:
            continue  # nothing is recognised
        place = int(points.argmax())
        maps: dict[str, Tensor] = {how: fires(made, pixels, [place], how).heatmaps[0] for how in HOWS}
        maps[LOT] = torch.rand(pixels.shape[2:], generator=generator)
        for name, heat in maps.items():
            found[name].append(deletion_score(made, pixels, heat, place))
    return {"scores": found}
