"""The layer that recognises prototypes: from the maps of a network to the logits, through similarities that add up.

Chen et al., 2019, "This Looks Like That" (arXiv:1806.10574), with what later work found: cosines instead of distances
(Willard et al., 2024, arXiv:2406.12649), and a similarity that is too small counts for nothing (PIP-Net, Nauta et al.,
2023).

Letters: N pictures, K channels, h x w cells, d dimensions of a cell's vector, P prototypes, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

__all__ = ["AddOn", "PrototypeLayer", "PrototypeSettings", "Similarity"]

AddOn = Literal["linear", "published"]
Similarity = Literal["cosine", "log-distance"]

_SMALL = 1e-4  # epsilon of the published similarity


@dataclass(frozen=True)
class PrototypeSettings:
    """What a prototype layer is made of; all that its weights do not say.

    Attributes:
        channels: K of the maps. `width`: d of the vectors that are compared.
        classes: C. `owners`: (P,), the class that each prototype speaks for.
        add_on: "linear" a linear map of each cell; "published" two of them with a ReLU between and a sigmoid after.
        similarity: "cosine"; "log-distance" is the published one, log((d + 1) / (d + 1e-4)) of squared distances.
        pooled: of how many cells, the most similar ones, a picture's similarity is the mean; published: 1.
        least: a picture's similarity below it counts for nothing.
    """

    channels: int
    width: int
    classes: int
    owners: tuple[int, ...]
    add_on: AddOn = "linear"
    similarity: Similarity = "cosine"
    pooled: int = 5
    least: float = 0.1

    def __post_init__(self) -> None:
        strange = [owner for owner in self.owners if not 0 <= owner < self.classes]
        if strange or min(self.channels, self.width, self.classes, self.pooled) < 1:
            raise ValueError(f"{self} describes no layer: each prototype speaks for one of its classes, from 0 on.")


class PrototypeLayer(nn.Module):
    """maps (N, K, h, w) -> logits (N, C): a sum of weights times similarities, and a bias.

    Attributes:
        vectors: (P, d), the prototypes. `weights`: (C, P). `bias`: (C,).
    """

    def __init__(self, settings: PrototypeSettings) -> None:
        super().__init__()
        self.settings = settings
        self.add_on = _add_on(settings)
        self.vectors = nn.Parameter(torch.zeros(len(settings.owners), settings.width))
        self.weights = nn.Parameter(torch.zeros(settings.classes, len(settings.owners)))
        self.bias = nn.Parameter(torch.zeros(settings.classes))

    @property
    def owners(self) -> Tensor:
        """(P,), the class that each prototype speaks for."""
        return torch.tensor(self.settings.owners, dtype=torch.long, device=self.vectors.device)

    def embed(self, maps: Tensor) -> Tensor:
        """(N, d, h, w), the vectors of the cells; of length one where cosines are compared."""
        cells: Tensor = self.add_on(maps)
        return normalize(cells, dim=1) if self.settings.similarity == "cosine" else cells

    def similarities(self, cells: Tensor) -> Tensor:
        """(N, P, h, w) of embedded cells (N, d, h, w)."""
        if self.settings.similarity == "cosine":
            return torch.einsum("ndhw,pd->nphw", cells, normalize(self.vectors, dim=1))
        products = torch.einsum("ndhw,pd->nphw", cells, self.vectors)
        squares = (cells**2).sum(1, keepdim=True) + (self.vectors**2).sum(1)[None, :, None, None]
        distances = (squares - 2 * products).clamp_min(0)
        return ((distances + 1) / (distances + _SMALL)).log()

    def scores(self, similarities: Tensor) -> Tensor:
        """(N, P), how much of each prototype a picture has: the mean over its most similar cells; 0 below `least`."""
        places = similarities.flatten(2)
        pooled = places.topk(min(self.settings.pooled, places.shape[2]), dim=2).values.mean(2)
        return torch.where(pooled >= self.settings.least, pooled, torch.zeros_like(pooled))

    def points(self, scores: Tensor, without: Sequence[int] = ()) -> Tensor:
        """(N, C, P), what each prototype adds to each logit; those left out add nothing. With the bias, they add up."""
        kept = torch.ones(scores.shape[1], device=scores.device)
        kept[list(without)] = 0
        return self.weights * (scores * kept)[:, None, :]

    def logits(self, scores: Tensor, without: Sequence[int] = ()) -> Tensor:
        """(N, C), of scores (N, P); `without`: prototypes that are switched off."""
        return self.points(scores, without).sum(2) + self.bias

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C)."""
        return self.logits(self.scores(self.similarities(self.embed(maps))))


def _add_on(settings: PrototypeSettings) -> nn.Module:
    first = nn.Conv2d(settings.channels, settings.width, 1)
    if settings.add_on == "linear":
        return first
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(settings.width, settings.width, 1), nn.Sigmoid())
