"""Where in a picture a prototype fires: several maps of it, and a score that tells which of them are faithful.

The enlarged similarity map shows which places of the layer are like the prototype, but what such a place answers to may
lie elsewhere (Xu-Darme et al., 2023, "Sanity checks for patch visualisation", arXiv:2302.08508). Gradients ask the
pixels. Deletion tells the maps apart: what the hottest parts are taken away from must stop being like the prototype.

By that score the enlarged map of our similarity, a mean over several places, was no worse than SmoothGrad: 0.38 beside
0.40 on paper pets (parts by lot: 0.62), 0.29 against 0.30 on cats. Each of MobileNetV2's 7 x 7 places answers to most
of the picture, so that parts by lot do even better there (0.24), and no map can say much of where.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from xaihub.classifier import Classifier
from xaihub.errors import UnknownNameError, XaihubError
from xaihub.hooks import evaluating
from xaihub.maps import enlarged, shown
from xaihub.passes import slices
from xaihub.progress import Progress, silent
from xaihub.prototypes import PrototypeLayer, PrototypeNetwork, Prototypes
from xaihub.registry import nearest_name

__all__ = [
    "COMPARED", "FAITHFUL", "FIRINGS", "QUICK", "Firing", "How", "deletion_score", "fires", "fires_at_home",
    "prototypes_of", "similarity",
]  # fmt: skip

How = Literal["upsampled", "cells", "smoothgrad"]

COPIES, NOISE = 10, 0.2  # what the sanity checks of patch visualisation use
STEPS = 20  # of a deletion
CLIP = 0.005  # of the pixels are shown as the hottest: gradients have single wild ones
_BATCH = 5  # noisy copies at once, with their graph
_PARTS = 14  # of a picture's side is one part that is deleted as a whole
_SPREAD = 16  # of a picture's side is one part over which gradients are averaged: single pixels say little


@dataclass(frozen=True, eq=False)
class Firing:
    """Where n prototypes fire in one picture.

    Attributes:
        heatmaps: (n, H, W) in [0, 1]. `raw`: (n, h, w), before normalisation and resizing.
    """

    heatmaps: Tensor
    raw: Tensor


Run = Callable[[Tensor], Tensor]  # pixels (N, 3, H, W) -> similarity maps (N, n, h, w) of the prototypes asked about
Maker = Callable[[Run, PrototypeLayer, Tensor, Progress, int], Tensor]  # the last: images at once, with a graph


def fires(
    classifier: Classifier,
    pixels: Tensor,
    prototypes: Sequence[int],
    how: How | None = None,
    progress: Progress = silent,
) -> Firing:
    """Where some prototypes fire in one picture (1, 3, H, W).

    Args:
        how: a name in `FIRINGS`; `FAITHFUL` if not given.

    Raises:
        UnknownNameError: there is no such way to draw it.
        XaihubError: the classifier has no prototypes.
        CancelledError: from `progress`.
    """
    how = how or FAITHFUL
    if how not in FIRINGS:
        raise UnknownNameError(
            f"There is no map {how!r} of where a prototype fires.{nearest_name(how, list(FIRINGS))} There are:"
            f" {', '.join(FIRINGS)}."
        )
    network = prototypes_of(classifier).network
    pixels = pixels.to(classifier.device)
    with torch.enable_grad(), evaluating(classifier.module, classifier.lock):
        batch = classifier.at_once(_BATCH, (pixels.shape[2], pixels.shape[3]), graph=True)
        raw = FIRINGS[how](_run(network, prototypes), network.head, pixels, progress, batch).detach().cpu()
    size = (pixels.shape[2], pixels.shape[3])
    return Firing(shown(raw, size, CLIP if how == "smoothgrad" else 0.0), raw)


def fires_at_home(classifier: Classifier, prototype: int, picture: Image.Image) -> Firing:
    """Where a prototype fires in the training picture that it was taken from; kept, since that stays the same.

    Args:
        picture: the prototype's, as large as the pictures that the classifier sees.
    """
    kept = _AT_HOME.setdefault(prototypes_of(classifier), {})
    if prototype not in kept:
        kept[prototype] = fires(classifier, classifier.transform.pixels_of(picture)[None], [prototype])
    return kept[prototype]


def prototypes_of(classifier: Classifier) -> Prototypes:
    """What the classifier's answer is made of.

    Raises:
        XaihubError: it has no prototypes.
    """
    if classifier.prototypes is None:
        raise XaihubError(
            f"{classifier.repo_id} does not answer by prototypes, so no points add up to its logits. Make a classifier"
            " that does with `fit_prototypes(classifier, references)`."
        )
    return classifier.prototypes


def similarity(head: PrototypeLayer, similarities: Tensor) -> Tensor:
    """(N, n), how much of each prototype a picture has, of its map (N, n, h, w); small ones count here, too.

    `PrototypeLayer.scores` sets them to zero, where no gradient is left to follow.
    """
    places = similarities.flatten(2)
    return places.topk(min(head.settings.pooled, places.shape[2]), dim=2).values.mean(2)


def _upsampled(run: Run, _head: PrototypeLayer, pixels: Tensor, _progress: Progress, _batch: int) -> Tensor:
    """(n, h, w), the similarity map, as ProtoPNet draws it (Chen et al., 2019, section 2.4)."""
    with torch.no_grad():
        return run(pixels)[0]


def _cells(run: Run, head: PrototypeLayer, pixels: Tensor, _progress: Progress, _batch: int) -> Tensor:
    """(n, h, w), the similarity of the places that are counted; zero at all others. It adds up to their mean."""
    with torch.no_grad():
        places = run(pixels)[0].flatten(1)
        best = places.topk(min(head.settings.pooled, places.shape[1]), dim=1)
        counted = torch.zeros_like(places).scatter(1, best.indices, best.values / best.values.shape[1])
    return counted.view_as(run(pixels)[0])


def _smoothgrad(run: Run, head: PrototypeLayer, pixels: Tensor, progress: Progress, batch: int) -> Tensor:
    """(n, H, W), SmoothGrad (Smilkov et al., 2017, eq. 1) of the similarity, squared, where the places are like it.

    Gradients alone are large at every edge: spread over small parts and multiplied with the enlarged similarity map,
    they did better at deletion than alone. All prototypes share the passes up, and each goes down alone.
    """
    generator = torch.Generator().manual_seed(0)
    spread = NOISE * float(pixels.max() - pixels.min())
    total: Tensor | float = 0.0
    for some in slices(COPIES, batch):
        drawn = torch.randn((some.stop - some.start, *pixels.shape[1:]), generator=generator).to(pixels)
        leaf = (pixels + spread * drawn).requires_grad_()
        asked = similarity(head, run(leaf)).sum(0)
        found = []
        for place, one in enumerate(asked):
            progress(place / len(asked), f"SmoothGrad of prototype {place + 1} of {len(asked)}")
            (gradient,) = torch.autograd.grad(one, [leaf], retain_graph=True)
            found.append((gradient**2).sum((0, 1)))
        total = total + torch.stack(found)
    like = enlarged(_upsampled(run, head, pixels, progress, batch).relu(), (pixels.shape[2], pixels.shape[3]))
    return _spread(torch.as_tensor(total) / COPIES) * like


def _spread(maps: Tensor) -> Tensor:
    """(n, H, W), each pixel with the mean of those around it."""
    side = max(1, min(maps.shape[1:]) // _SPREAD) | 1
    return avg_pool2d(maps[:, None], side, stride=1, padding=side // 2, count_include_pad=False)[:, 0]


FIRINGS: dict[str, Maker] = {"upsampled": _upsampled, "smoothgrad": _smoothgrad, "cells": _cells}
FAITHFUL: How = "upsampled"
QUICK: How = "upsampled"  # a single pass
COMPARED: tuple[How, How] = ("upsampled", "smoothgrad")  # what a page shows beside each other, with their scores
_AT_HOME: WeakKeyDictionary[Prototypes, dict[int, Firing]] = WeakKeyDictionary()


@torch.no_grad()
def deletion_score(
    classifier: Classifier, pixels: Tensor, heatmap: Tensor, prototype: int, steps: int = STEPS
) -> float:
    """The area under a prototype's similarity as the hottest parts are greyed out; lower is more faithful.

    Deletion (Petsiuk et al., 2018, section 3.3), of a similarity in place of a probability, from none to all of the
    picture in equal steps. Less than no similarity counts as none. Ours is that square parts go as a whole: single
    pixels that are missing here and there upset a network wherever they are. Grey is the picture's own mean colour.

    Args:
        pixels: (1, 3, H, W).
        heatmap: (H, W), any scale: only the order of its parts is used, and of equal ones the first come first.
    """
    network, grey = prototypes_of(classifier).network, pixels.mean((2, 3), keepdim=True)
    rank = _ranked(heatmap)
    edges = torch.linspace(0, rank.numel(), steps + 1)[:, None, None]
    found = []
    with evaluating(classifier.module, classifier.lock):
        for some in (rank[None] < edges)[:, None].split(classifier.batch):  # (B, 1, H, W), what is gone
            altered = torch.where(some, grey, pixels).to(classifier.device)
            found.append(similarity(network.head, _run(network, [prototype])(altered))[:, 0].cpu())
    return float(torch.trapezoid(torch.cat(found).clamp_min(0), dx=1 / steps))


def _ranked(heatmap: Tensor) -> Tensor:
    """(H, W), the place of each pixel in the order: part by part, the hottest first."""
    side = max(1, min(heatmap.shape) // _PARTS)
    parts = avg_pool2d(heatmap[None, None].float(), side, ceil_mode=True, count_include_pad=False)[0, 0]
    order = parts.flatten().argsort(descending=True, stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order))
    large = places.view_as(parts).repeat_interleave(side, 0).repeat_interleave(side, 1)
    pixels = large[: heatmap.shape[0], : heatmap.shape[1]].flatten().argsort(stable=True)
    rank = torch.empty_like(pixels)
    rank[pixels] = torch.arange(len(pixels))
    return rank.view_as(heatmap)


def _run(network: PrototypeNetwork, prototypes: Sequence[int]) -> Run:
    chosen = list(prototypes)

    def run(pixels: Tensor) -> Tensor:
        maps, _ = network.maps(pixels)
        return network.head.similarities(network.head.embed(maps))[:, chosen]

    return run
