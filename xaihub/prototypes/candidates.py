"""Which cells could be prototypes: the ones in the middle of what a class's cells look like.

Letters: n pictures of one class, h x w cells, d dimensions.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from xaihub.prototypes.projecting import Source

__all__ = ["k_means", "typical_cells"]

_ROUNDS = 6
_CELLS = 20_000  # of a class; its clusters are found on no more
_DIGITS = 4  # the two cells of a small cluster are equally near its middle: the first one is taken, not rounding's


def typical_cells(
    cells: Tensor, evidence: Tensor, rows: Tensor, count: int, share: float, generator: torch.Generator
) -> list[Source]:
    """At most `count` cells, each the most similar one to the middle of a cluster: real patches, so that nothing is
    lost when they are shown.

    Only those cells of each picture are looked at that speak most for the class: what lies between them is typical of
    its pictures, too, but no reason for the answer.

    Of pictures without any, each adds the cell that is most typical while there are fewer than `count` in all: a class
    of few pictures has a candidate from each.

    Args:
        cells: (n, d, h, w), of length one.
        evidence: (n, h, w), how much each cell speaks for the class. `share`: of a picture's cells, those looked at.
        rows: (n,), which picture each is.
    """
    telling = evidence.flatten(1).topk(math.ceil(share * evidence[0].numel())).indices.sort(1).values  # (n, m)
    vectors = cells.flatten(2).gather(2, telling[:, None].expand(-1, cells.shape[1], -1)).movedim(1, -1).flatten(0, 1)
    alike = vectors @ k_means(vectors[:: -(-len(vectors) // _CELLS)], count, generator).T
    places = alike.round(decimals=_DIGITS).argmax(0).unique().tolist()
    per_picture = alike.amax(1).view(len(cells), -1)
    taken = {place // per_picture.shape[1] for place in places}
    places += [
        row * per_picture.shape[1] + int(per_picture[row].argmax()) for row in range(len(cells)) if row not in taken
    ][: max(0, count - len(places))]
    pictures, columns = torch.tensor(places) // telling.shape[1], cells.shape[3]
    found = telling.flatten()[places].tolist()
    return [Source(int(rows[row]), divmod(cell, columns)) for row, cell in zip(pictures.tolist(), found, strict=True)]


def k_means(vectors: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(k, d), the middles of at most `count` clusters of vectors (M, d) of length one, by cosines.

    Spherical k-means (Dhillon & Modha, 2001) from centres that are drawn far apart (k-means++, Arthur & Vassilvitskii,
    2007); there are fewer where there are not so many different vectors.

    Args:
        generator: on the CPU.
    """
    centres = _spread(vectors, count, generator)
    for _ in range(_ROUNDS):
        member = one_hot((vectors @ centres.T).argmax(1), len(centres)).to(vectors)
        sums = member.T @ vectors
        centres = torch.where(sums.norm(dim=1, keepdim=True) > 1e-6, normalize(sums, dim=1), centres)
    return centres


def _spread(vectors: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(k, d), some of the vectors, each drawn the more likely the further it is from those before."""
    chosen = [int(torch.randint(len(vectors), (1,), generator=generator))]
    far = torch.full((len(vectors),), torch.inf, dtype=torch.float64)
    while len(chosen) < count:
        far = torch.minimum(far, (1 - vectors @ vectors[chosen[-1]]).clamp_min(0).cpu().double())
        far[far < 1e-6] = 0  # the same vector, but for rounding
        if not far.any():
            break
        steps = far.cumsum(0)
        drawn = torch.rand(1, dtype=torch.float64, generator=generator) * steps[-1]
        chosen.append(int(torch.searchsorted(steps, drawn, right=True).clamp_max(len(steps) - 1)))
    return vectors[chosen]
