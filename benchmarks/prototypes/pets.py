"""Paper pets of four classes, whose deciding parts are known: whether prototypes are those parts."""

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from benchmarks.examples.pets import covered, part_in
from benchmarks.prototypes.kept import Piece, timed
from xaihub import Classifier, load_classifier
from xaihub.curated import STARTER
from xaihub.datasets import LabelledPictures, from_pairs
from xaihub.passes import slices
from xaihub.prototype_fitting import SETTINGS, fit_prototypes
from xaihub.prototype_health import health, nearest_patches
from xaihub.prototype_maps import Looked, look
from xaihub.prototypes import HeadSettings, Prototypes
from xaihub.records import Box
from xaihub.regions import Cell, cell_box
from xaihub.synthetic import PETS, PaperPet, paper_pets

__all__ = ["CLASSES", "EACH", "NEAR", "NEAREST", "drawn", "pieces", "rows_of"]

CLASSES = PETS[:4]
EACH = 50  # pets of each class that prototypes are taken from, and others on which they are looked for
NEAREST = 6
NEAR = 2  # cells
SEEDS = 11, 7_000


def pieces() -> list[Piece]:
    return [Piece("pets", [asdict(SETTINGS), CLASSES, EACH, NEAREST, SEEDS], partial(figures, SETTINGS))]


def drawn(seed: int) -> dict[str, PaperPet]:
    """The pets of the four classes, by their keys."""
    all_of_them = paper_pets(EACH * len(PETS), seed=seed)
    return {f"pet {number}": pet for number, pet in enumerate(all_of_them) if pet.label in CLASSES}


def rows_of(pets: dict[str, PaperPet]) -> LabelledPictures:
    return from_pairs("paper pets", [(key, pet.label, pet.image) for key, pet in pets.items()])


def figures(settings: HeadSettings) -> dict[str, Any]:
    """Each prototype on its own pet and on others; how far the head says what the starter says."""
    known, others = (drawn(seed) for seed in SEEDS)
    starter = load_classifier(STARTER)
    looked, unseen = look(starter, rows_of(known)), look(starter, rows_of(others))
    with timed() as making:
        made = fit_prototypes(starter, looked, settings=settings)
    said = _said(made, unseen)
    held = made.prototypes
    if held is None:
        raise ValueError("A fitted classifier has its prototypes.")
    return {
        "labels": list(held.labels),
        "truth": [pet.label for pet in others.values()],
        "black box": list(unseen.predicted),
        "answers": said,
        "making": making,
        "each": _each(made, held, unseen, known, others),
    }


def _said(made: Classifier, unseen: Looked) -> list[str]:
    pixels = [unseen.pixels(range(some.start, some.stop)) for some in slices(len(unseen), made.batch)]
    return [made.labels[index] for some in pixels for index in made.module(some).argmax(1).tolist()]


def _each(
    made: Classifier, held: Prototypes, unseen: Looked, known: dict[str, PaperPet], others: dict[str, PaperPet]
) -> list[dict[str, Any]]:
    """Of each prototype: its part, how far its cell lies on deciding parts over chance, and where it is found again."""
    weights = held.network.head.weights.detach().amax(0).tolist()
    told = health(made, unseen).prototypes
    pets, found = list(others.values()), []
    for place, source in enumerate(held.gallery):
        pet, box = known[source.key], _box(made, source.cell, source.grid)
        near = nearest_patches(made, unseen, place, NEAREST)
        again = [(pets[patch.row], _box(made, patch.cell, source.grid)) for patch in near]
        part = _part(made, pet, box)
        found.append(
            {
                "owner": held.labels[source.owner],
                "key": source.key,
                "weight": weights[place],
                "used": told[place].used,
                "part": part,
                "lift": _lift(made, pet, box),
                "near": _lift(made, pet, _box(made, source.cell, source.grid, NEAR)) > 0,
                "found": float(np.mean([_lift(made, *each) for each in again])),
                "part purity": float(np.mean([_part(made, *each) == part for each in again])),
                "class purity": told[place].purity,
                "stability": told[place].stability,
            }
        )
    return found


def _box(made: Classifier, cell: Cell, grid: tuple[int, int], margin: float = 0.0) -> Box:
    height, width = made.input_size
    return cell_box(cell, grid, (width, height), margin)


def _scale(made: Classifier, pet: PaperPet) -> float:
    return made.input_size[1] / pet.image.width  # the whole picture is seen


def _lift(made: Classifier, pet: PaperPet, box: Box) -> float:
    """How much more of a cell than of its picture lies on the parts that tell the class."""
    mask = pet.deciding_mask
    return float(mask[covered(mask.shape, [box], _scale(made, pet))].mean() / mask.mean())


def _part(made: Classifier, pet: PaperPet, box: Box) -> str:
    return part_in(pet.masks, box, _scale(made, pet))
