"""Paper pets, whose deciding parts are known: where swapped cells lie, and whether region twins pair the same part."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xaihub import build_references, explain, load_classifier
from xaihub.curated import STARTER
from xaihub.datasets import from_pairs
from xaihub.records import Box, Evidence, Explanation
from xaihub.synthetic import PARTS, PaperPet, deciding_parts, paper_pets

KNOWN, ASKED = 200, 200  # pets that are searched, and others that are asked about


def figures(known: int = KNOWN, asked: int = ASKED, seeds: tuple[int, int] = (11, 7_000)) -> dict[str, Any]:
    """The share of swapped cells on deciding parts over their area, and how many pairs lie on one part."""
    starter = load_classifier(STARTER)
    pets = {f"pet {i}": pet for i, pet in enumerate(paper_pets(known, seed=seeds[0]))}
    rows = from_pairs("pets", [(key, pet.label, pet.image) for key, pet in pets.items()])
    references = build_references(starter, rows, fidelity=False)
    lifts, same = [], []
    for pet in paper_pets(asked, seed=seeds[1]):
        found = explain(starter, pet.image, ["twins", "swap"], references=references)
        lifts += [_lift(pet, pets[str(swap.facts["key"])], swap, _scale(found, pet)) for swap in found["swap"]]
        for twin in found["twins"]:
            same += _same_parts(pet, pets[str(twin.facts["key"])], twin, _scale(found, pet))
    return {
        "asked": asked, "swaps": len(lifts), "lift": float(np.mean(lifts)), "pairs": len(same),
        "same": float(np.mean(same)),
    }  # fmt: skip


def _scale(found: Explanation, pet: PaperPet) -> float:
    return found.image.width / pet.image.width  # the whole picture is seen


def _lift(pet: PaperPet, other: PaperPet, swap: Evidence, scale: float) -> float:
    """How much more of the swapped cells than of the picture lies on what tells the two classes apart."""
    deciding = deciding_parts(str(swap.facts["original"]), str(swap.facts["target"]))
    mask = np.logical_or.reduce([one.masks[part] for one in (pet, other) for part in deciding])
    return float(mask[covered(mask.shape, swap.boxes, scale)].mean() / mask.mean())


def _same_parts(pet: PaperPet, other: PaperPet, twin: Evidence, scale: float) -> Iterator[bool]:
    for mine, theirs in zip(twin.matches, twin.boxes, strict=True):
        yield part_in(pet.masks, mine, scale) == part_in(other.masks, theirs, scale)


def part_in(masks: Mapping[str, NDArray[np.bool_]], box: Box, scale: float) -> str:
    """The part that fills most of a box, or the ground."""
    inside = covered(masks["pet"].shape, [box], scale)
    shares = {part: float(masks[part][inside].mean()) for part in PARTS}
    best = max(shares, key=lambda part: shares[part])
    return best if shares[best] > 0 else "ground"


def covered(shape: tuple[int, ...], boxes: Sequence[Box], scale: float) -> NDArray[np.bool_]:
    inside = np.zeros(shape, dtype=bool)
    for box in boxes:
        left, upper, right, lower = (round(edge / scale) for edge in box)
        inside[upper:lower, left:right] = True
    return inside
