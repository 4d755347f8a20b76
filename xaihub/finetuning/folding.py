"""Which pictures are held out together: each class spread evenly over the folds, near copies in the same one."""

import numpy as np
import torch
from torch import Tensor

from xaihub.errors import DatasetError
from xaihub.finetuning.pixel_store import PixelStore

__all__ = ["folds_of", "most_folds"]


def folds_of(training: PixelStore, count: int, seed: int) -> Tensor:
    """(N,) the fold of each picture, drawn by seed.

    Raises:
        DatasetError: a class has fewer different pictures than there are to be folds.
    """
    generator = np.random.default_rng(seed)
    found = torch.zeros(len(training), dtype=torch.long)
    for label, mine in enumerate(_by_class(training)):
        if len(mine) < count:
            raise DatasetError(
                f"{count} folds need as many different pictures of each class, and {training.labels[label]!r}"
                f" has {len(mine)} once near copies are kept together. Ask for fewer folds."
            )
        for place, chosen in enumerate(generator.permutation(len(mine))):
            found[mine[chosen]] = place % count
    return found


def most_folds(training: PixelStore) -> int:
    """Return how many folds there can be, at most."""
    return min(map(len, _by_class(training)))


def _by_class(training: PixelStore) -> list[list[list[int]]]:
    """Of each class the groups of pictures that are near copies of each other."""
    found: list[list[list[int]]] = [[] for _ in training.labels]
    for group in training.content_groups:
        found[int(training.truth[group[0]])].append(list(group))
    return found
