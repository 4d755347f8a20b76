"""Whether prototypes collapse while they are trained: many of them on the patches of a few pictures."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from xaihub.prototypes import PrototypeLayer, Prototypes, Source
from xaihub.prototypes.alarms import ALIKE, DIFFERENT, SERVED

__all__ = ["Spread", "nearest_cells", "spread", "spread_of", "take"]


@dataclass(frozen=True)
class Spread:
    """How many pictures the prototypes stand for.

    Attributes:
        distinct_sources: label -> how many different pictures are nearest to its prototypes.
        largest_share: label -> which share of its prototypes the same picture is nearest to.
        nearly_equal: label -> how many pairs of its prototypes have a cosine above 0.95.
        warnings: what is wrong, in words.
    """

    distinct_sources: dict[str, int]
    largest_share: dict[str, float]
    nearly_equal: dict[str, int]
    warnings: tuple[str, ...]

    @property
    def record(self) -> dict[str, object]:
        """For training.json."""
        return {**asdict(self), "warnings": list(self.warnings)}


@torch.no_grad()
def nearest_cells(layer: PrototypeLayer, maps: Tensor, targets: Tensor) -> tuple[Source, ...]:
    """(P,), the cell of its own class that each prototype is nearest to; several may name the same.

    Args:
        maps: (N, K, h, w), of pictures that were not varied.
        targets: (N,), class indices.
    """
    owners, width = layer.owners, maps.shape[3]
    found: dict[int, Source] = {}
    for label in owners.unique().tolist():
        rows, places = torch.nonzero(targets == label)[:, 0], torch.nonzero(owners == label)[:, 0]
        alike = layer.similarities(layer.embed(maps[rows]))[:, places].flatten(2)  # (n, p, h * w)
        best = alike.transpose(0, 1).flatten(1).argmax(1)
        for place, at in zip(places.tolist(), best.tolist(), strict=True):
            row, cell = divmod(at, alike.shape[2])
            found[place] = Source(int(rows[row]), divmod(cell, width))
    return tuple(found[place] for place in range(len(owners)))


@torch.no_grad()
def take(layer: PrototypeLayer, maps: Tensor, sources: Sequence[Source]) -> None:
    """Sets each prototype to the vector of its cell."""
    for place, (row, (down, right)) in enumerate(sources):
        layer.vectors[place] = layer.embed(maps[row : row + 1])[0, :, down, right]


def spread(layer: PrototypeLayer, sources: Sequence[Source], groups: Sequence[int], labels: Sequence[str]) -> Spread:
    """How far the prototypes are from one another, and what is wrong with that.

    Args:
        sources: (P,), of each prototype.
        groups: (N,), equal numbers are copies of one picture.
        labels: of the classes.
    """
    return _spread(layer, [groups[source.row] for source in sources], labels)


def spread_of(made: Prototypes) -> Spread:
    """The same of prototypes that are finished: equal pictures are one source."""
    return _spread(made.network.head, [each.digest for each in made.gallery], made.labels)


def _spread(layer: PrototypeLayer, pictures: Sequence[Hashable], labels: Sequence[str]) -> Spread:
    owned = list(zip(layer.settings.owners, pictures, strict=True))
    used = {label: [picture for owner, picture in owned if owner == place] for place, label in enumerate(labels)}
    distinct = {label: len(set(own)) for label, own in used.items()}
    largest = {label: max(Counter(own).values()) / len(own) if own else 0.0 for label, own in used.items()}
    equal = dict(zip(labels, _equal_pairs(layer, len(labels)), strict=True))
    counts = {label: len(own) for label, own in used.items()}
    return Spread(distinct, largest, equal, tuple(_warnings(counts, distinct, largest)))


@torch.no_grad()
def _equal_pairs(layer: PrototypeLayer, classes: int) -> list[int]:
    vectors, owners = normalize(layer.vectors, dim=1), layer.owners
    found = []
    for label in range(classes):
        own = vectors[owners == label]
        found.append(int((own @ own.T).triu(1).gt(ALIKE).sum()))
    return found


def _warnings(counts: dict[str, int], distinct: dict[str, int], largest: dict[str, float]) -> list[str]:
    found = []
    for label, count in counts.items():
        if not count:
            found.append(f"The class {label!r} has no prototype, so nothing can speak for it.")
        elif distinct[label] < DIFFERENT * count:
            pictures = "one picture" if distinct[label] == 1 else f"{distinct[label]} pictures"
            found.append(f"The {count} prototypes of {label!r} come from only {pictures}: they have collapsed.")
        elif largest[label] > SERVED and largest[label] * count >= 2:
            found.append(f"One picture serves {largest[label]:.0%} of the prototypes of {label!r}.")
    return found
