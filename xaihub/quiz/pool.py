"""The pictures that a quiz can ask about: references, and for the starter some that its classifier finds hard."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from xaihub.classifier import Classifier
from xaihub.passes import slices
from xaihub.references import ReferenceSet
from xaihub.synthetic import PETS, Nuisance, draw_pet

__all__ = ["Pool", "pool_of", "with_small_pets"]

SMALL, COUNT = 0.55, 30  # times a pet's own size: the starter's classifier takes about four in ten for another animal
SEED = 40_000  # none of the pets that the starter was trained on or shows


@dataclass(frozen=True, eq=False)
class Pool:
    """R pictures with what a classifier says of them.

    Attributes:
        keys: (R,) what each is called in records; people never see it before they guess.
        labels: (R,) the dataset's, or None. `same`: (R,) alike for copies of one picture.
        predicted: (R,) class indices. `logits`: (R, C).
        picture: row -> the crop that the classifier sees.
    """

    class_names: tuple[str, ...]
    keys: Sequence[str]
    labels: Sequence[str | None]
    same: Sequence[object]
    predicted: NDArray[np.int64]
    logits: NDArray[np.float32]
    picture: Callable[[int], Image.Image]

    def __len__(self) -> int:
        return len(self.keys)

    def wrong(self) -> NDArray[np.bool_]:
        """(R,), where the classifier names another of its classes than the dataset does."""
        known = set(self.class_names)
        said = [self.class_names[index] for index in self.predicted]
        return np.array(
            [label in known and label != name for label, name in zip(self.labels, said, strict=True)], dtype=bool
        )


def pool_of(references: ReferenceSet) -> Pool:
    """The references as a pool."""
    return Pool(
        references.class_names,
        references.keys,
        references.labels,
        references.digests,
        references.predicted,
        references.logits.numpy(),
        references.picture,
    )


def with_small_pets(pool: Pool, classifier: Classifier) -> Pool:
    """The pool, and paper pets drawn so small that the starter's classifier errs: over-trust shows on mistakes only."""
    size = classifier.input_size[0]
    pets = [
        draw_pet(PETS[i % len(PETS)], SEED + i, size=size, nuisance=Nuisance(pet_scale=SMALL)) for i in range(COUNT)
    ]
    pixels = torch.stack([classifier.transform.pixels_of(pet.image) for pet in pets])
    logits = torch.cat([classifier.logits(pixels[some]) for some in slices(len(pets), classifier.batch)]).cpu().numpy()
    count = len(pool)
    return replace(
        pool,
        keys=[*pool.keys, *(f"small {pet.label} {pet.seed}" for pet in pets)],
        labels=[*pool.labels, *(pet.label for pet in pets)],
        same=[*pool.same, *(("drawn", pet.seed) for pet in pets)],
        predicted=np.concatenate([pool.predicted, logits.argmax(1)]),
        logits=np.concatenate([pool.logits, logits]),
        picture=lambda row: pool.picture(row) if row < count else pets[row - count].image,
    )
