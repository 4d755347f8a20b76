"""Prototypes become real patches: each takes the vector of the cell that is most like it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from xaihub.prototypes.layer import PrototypeLayer

__all__ = ["Source", "project"]


class Source(NamedTuple):
    """Where a prototype is from: which of the pictures, and the row and column of its cell."""

    row: int
    cell: tuple[int, int]


@torch.no_grad()
def project(
    layer: PrototypeLayer, maps: Tensor, targets: Tensor, groups: Sequence[int] | None = None
) -> tuple[Source, ...]:
    """Set each prototype to the most similar cell of its own class's pictures (Chen et al., 2019, eq. 3).

    Ours is that the prototypes of a class are taken from different pictures while there are enough: the pair that is
    most alike first, so that one picture cannot serve them all.

    Args:
        maps: (N, K, h, w), of pictures that were not varied.
        targets: (N,), class indices.
        groups: (N,), equal numbers are copies of one picture; None if there are none.

    Returns:
        (P,), where each was found; layer.vectors are changed in place.
    """
    owners, kinds = layer.owners, _numbers(groups, len(maps))
    sources: list[Source] = [Source(0, (0, 0))] * len(owners)
    for label in owners.unique().tolist():
        rows, places = torch.nonzero(targets == label)[:, 0], torch.nonzero(owners == label)[:, 0]
        if not len(rows):
            raise ValueError(f"There is no picture of class {label}, which {len(places)} prototypes speak for.")
        cells = layer.embed(maps[rows.to(maps.device)])
        alike = layer.similarities(cells)[:, places].flatten(2)  # (n, p, h * w)
        best, at = (found.cpu() for found in alike.max(2))
        width = maps.shape[3]
        for place, row in zip(places.tolist(), _dealt(best, kinds[rows.cpu()]), strict=True):
            cell = divmod(int(at[row, places.tolist().index(place)]), width)
            sources[place] = Source(int(rows[row]), cell)
            layer.vectors[place] = cells[row, :, cell[0], cell[1]]
    return tuple(sources)


def _numbers(groups: Sequence[int] | None, count: int) -> Tensor:
    return torch.arange(count) if groups is None else torch.as_tensor(groups)


def _dealt(alike: Tensor, groups: Tensor) -> list[int]:
    """(p,), a picture for each prototype, the most similar pair first; none twice before all were taken once.

    Args:
        alike: (n, p).
        groups: (n,), copies of one picture have the same number.
    """
    open_pairs = alike.clone()
    found = [-1] * alike.shape[1]
    for _ in found:
        if bool(open_pairs.isneginf().all()):  # each picture is taken: once more from the start
            open_pairs = alike.clone()
            open_pairs[:, [place for place, row in enumerate(found) if row >= 0]] = -torch.inf
        row, place = divmod(int(open_pairs.argmax()), alike.shape[1])
        found[place] = row
        open_pairs[groups == groups[row]] = -torch.inf
        open_pairs[:, place] = -torch.inf
    return found
