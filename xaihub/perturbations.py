"""Maps from many altered pictures, or many altered feature maps, and what each alteration does to the answer.

No gradient is needed, so occlusion and RISE work where no layer shows where. The answers are kept for all classes:
another target costs no further pass.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from xaihub.classifier import Classifier
from xaihub.maps import map_method
from xaihub.methods import Query
from xaihub.passes import replay, slices

__all__ = ["Masks", "ablationcam", "occlusion", "rise", "rise_masks", "scorecam", "windows"]

BATCH = 32  # pictures at once: beyond it a pass costs no less for each
ELEMENTS = 2**24  # of replayed maps at once: 64 MB

RISE_MASKS = 1000  # a quarter of the paper's: its noise is twice as large, its time a quarter
RISE_CELLS = 7
RISE_KEPT = 0.5
OCCLUDED = 7  # the window's side is a seventh of the picture's, and it moves by half of that


# Feature maps


def scorecam(activations: Tensor, scores: Tensor) -> Tensor:
    """(h, w), Score-CAM (Wang et al., 2020, eq. 6 to 8): channels weighted by what the picture scores through them.

    The score of a black picture, which the paper takes away from each, falls out of the softmax.

    Args:
        activations: (K, h, w).
        scores: (K,), the target's logit for the picture seen through each channel alone.
    """
    return (scores.softmax(0)[:, None, None] * activations).sum(0)


@map_method("scorecam", needs=("target layer",), title="Score-CAM", passes=lambda classifier: _channels(classifier))
def _scorecam(query: Query) -> Tensor:
    """Score-CAM (Wang et al., 2020): channels weighted by what the picture scores when seen through them alone."""
    logits = query.once("scorecam", lambda: _answers(query, _seen_through(query), len(query.activations), "Score-CAM"))
    return scorecam(query.activations, logits[:, query.target])


def _seen_through(query: Query) -> Iterator[Tensor]:
    """The pixels times each channel's activations, enlarged and then scaled to [0, 1] (eq. 4 and 5), in batches.

    Corners on corners, as in pytorch-grad-cam; torch-cam scales first and so has other masks.
    """
    pixels = query.view.pixels
    for maps in query.activations.split(query.at_once(BATCH)):
        masks = interpolate(maps[:, None], pixels.shape[2:], mode="bilinear", align_corners=True)
        low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
        yield pixels * ((masks - low) / (high - low + 1e-8))


def ablationcam(activations: Tensor, scores: Tensor, score: Tensor) -> Tensor:
    """(h, w), Ablation-CAM (Desai & Ramaswamy, 2020, eq. 3 and 4): channels weighted by the fall without them.

    The fall is divided by the size of the score, not by the score: a negative one would turn the map over, as it does
    in pytorch-grad-cam. A channel that is left out is zero, as in the paper; pytorch-grad-cam writes 1e7 less than the
    smallest value where the layer has negative ones, far outside of what the network knows.

    Args:
        activations: (K, h, w).
        scores: (K,), the target's logit without each channel.
        score: (), with all of them.
    """
    weights = (score - scores) / score.abs().clamp_min(torch.finfo(torch.float32).tiny)
    return (weights[:, None, None] * activations).sum(0)


@map_method(
    "ablationcam",
    needs=("target layer",),
    title="Ablation-CAM",
    passes=lambda classifier: _channels(classifier),
    signed=True,
    above=True,
)
def _ablationcam(query: Query) -> Tensor:
    """Ablation-CAM (Desai & Ramaswamy, 2020): channels weighted by how far the score falls without them.

    Only the layers above the target layer run once for each channel.
    """
    logits = query.once("ablationcam", lambda: _without_each_channel(query))
    return ablationcam(query.activations, logits[:, query.target], query.logits[query.target])


def _without_each_channel(query: Query) -> Tensor:
    """(K, C) logits with one channel of the target layer at zero."""
    counts = [layer.view.channels for layer in query.passed.layers]
    starts = [sum(counts[:i]) for i in range(len(counts))]
    total, places = len(query.activations), query.activations[0].numel()
    size = query.at_once(max(1, min(total, ELEMENTS // (total * places))))
    logits = []
    for some in torch.arange(total, device=query.activations.device).split(size):
        query.progress(int(some[0]) / total, f"Ablation-CAM: {int(some[0])} of {total} channels")

        def without(index: int, maps: Tensor, some: Tensor = some) -> Tensor:
            kept = torch.ones(len(some), counts[index], 1, 1, dtype=maps.dtype, device=maps.device)
            own = some - starts[index]
            inside = (own >= 0) & (own < counts[index])
            kept[inside.nonzero()[:, 0], own[inside]] = 0
            return maps * kept

        logits.append(replay(query.classifier, query.passed, query.view.pixels, without))
    return torch.cat(logits)


def _channels(classifier: Classifier) -> int:
    return classifier.target_layer.view.channels if classifier.target_layer else 0


# Pixels


class Masks(NamedTuple):
    """RISE's masks before they are enlarged: small, so that they can be made again instead of kept.

    Attributes:
        grids: (M, cells + 1, cells + 1) of 0 and 1.
        shifts: (M, 2) rows and columns, in pixels.
    """

    grids: Tensor
    shifts: Tensor
    size: tuple[int, int]

    def enlarged(self, some: slice) -> Tensor:
        """(B, H, W) in [0, 1]: enlarged to a cell more than the picture, and cut out at the shift."""
        height, width = self.size
        cells = self.grids.shape[1] - 1
        rows, columns = -(-height // cells), -(-width // cells)
        large = interpolate(
            self.grids[some, None],
            ((cells + 1) * rows, (cells + 1) * columns),
            mode="bilinear",
            align_corners=False,
        )[:, 0]
        return torch.stack(
            [
                mask[top : top + height, left : left + width]
                for mask, (top, left) in zip(large, self.shifts[some].tolist(), strict=True)
            ]
        )


def rise_masks(
    size: tuple[int, int], count: int = RISE_MASKS, cells: int = RISE_CELLS, kept: float = RISE_KEPT
) -> Masks:
    """Random masks as in RISE (Petsiuk et al., 2018, section 3.2), seeded, so that a picture has one map.

    A grid has a cell more than the picture each way, so that cells keep their size when it is enlarged and shifted.
    """
    generator = torch.Generator().manual_seed(0)
    grids = (torch.rand(count, cells + 1, cells + 1, generator=generator) < kept).float()
    rows, columns = -(-size[0] // cells), -(-size[1] // cells)
    shifts = torch.rand(count, 2, generator=generator) * torch.tensor([rows, columns])
    return Masks(grids, shifts.long(), size)


def rise(masks: Iterable[Tensor], scores: Tensor) -> Tensor:
    """(H, W), RISE (Petsiuk et al., 2018, eq. 6): the mean of the masks, each weighted by its score.

    Divided by how much each pixel was seen, rather than by the expectation: the corners are not darker by chance.
    The lowest value is taken away, since a pixel that changes nothing still has the mean score.

    Args:
        masks: batches (B, H, W), in the order of the scores.
        scores: (M,), the target's probability for the picture under each mask.
    """
    total: Tensor | float = 0.0
    seen: Tensor | float = 0.0
    done = 0
    for some in masks:
        weights = scores[done : done + len(some)].to(some)
        total = total + torch.einsum("b,bhw->hw", weights, some)
        seen = seen + some.sum(0)
        done += len(some)
    mean = torch.as_tensor(total / torch.as_tensor(seen).clamp_min(1e-6))
    return mean - mean.min()


@map_method("rise", title="RISE", passes=RISE_MASKS, claim="What must be visible for {label}")
def _rise(query: Query) -> Tensor:
    """RISE (Petsiuk et al., 2018): which parts are visible when the class is probable, over random masks.

    It needs no layer and no gradient.
    """
    height, width = query.view.pixels.shape[2:]
    masks = rise_masks((height, width), RISE_MASKS)
    logits = query.once("rise", lambda: _answers(query, _under(query, masks), RISE_MASKS, "RISE"))
    probabilities = query.classifier.probabilities(logits)[:, query.target]
    return rise((masks.enlarged(some) for some in slices(RISE_MASKS, BATCH)), probabilities.cpu()).to(logits.device)


def _under(query: Query, masks: Masks) -> Iterator[Tensor]:
    pixels = query.view.pixels
    for some in slices(len(masks.grids), query.at_once(BATCH)):
        yield pixels * masks.enlarged(some)[:, None].to(pixels)


def windows(size: tuple[int, int], share: int = OCCLUDED) -> list[tuple[int, int, int, int]]:
    """(top, left, bottom, right) of windows that move by half of their side and cover every pixel."""
    (height, width) = size
    rows, columns = max(1, -(-height // share)), max(1, -(-width // share))
    tops = _starts(height, rows)
    return [
        (top, left, min(top + rows, height), min(left + columns, width))
        for top in tops
        for left in _starts(width, columns)
    ]


def _starts(length: int, side: int) -> list[int]:
    step = max(1, side // 2)
    count = 1 + max(0, -(-(length - side) // step))
    return [i * step for i in range(count)]


def occlusion(covered: Iterable[tuple[int, int, int, int]], falls: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W), occlusion (Zeiler & Fergus, 2014, section 4.2): how far the score falls when a place is covered.

    Each pixel gets the mean over the windows that covered it, as in captum.

    Args:
        covered: (top, left, bottom, right) of each window.
        falls: (M,), the score of the whole picture minus that with the window covered.
    """
    total, count = torch.zeros(size), torch.zeros(size)
    for (top, left, bottom, right), fall in zip(covered, falls.tolist(), strict=True):
        total[top:bottom, left:right] += fall
        count[top:bottom, left:right] += 1
    return total / count.clamp_min(1)


@map_method(
    "occlusion",
    title="Occlusion",
    passes=lambda classifier: len(windows(classifier.input_size)),
    signed=True,
    claim="What {label} loses most by when it is covered",
)
def _occlusion(query: Query) -> Tensor:
    """Occlusion (Zeiler & Fergus, 2014): how far the score falls when a window of the picture is covered.

    It needs no layer and no gradient. What covers is zero after preprocessing: the mean colour, for most models.
    """
    height, width = query.view.pixels.shape[2:]
    covered = windows((height, width))
    logits = query.once("occlusion", lambda: _answers(query, _with_window(query, covered), len(covered), "Occlusion"))
    falls = query.logits[query.target] - logits[:, query.target]
    return occlusion(covered, falls, (height, width))


def _with_window(query: Query, covered: list[tuple[int, int, int, int]]) -> Iterator[Tensor]:
    pixels = query.view.pixels
    for some in slices(len(covered), query.at_once(BATCH)):
        batch = pixels.repeat(len(covered[some]), 1, 1, 1)
        for picture, (top, left, bottom, right) in zip(batch, covered[some], strict=True):
            picture[:, top:bottom, left:right] = 0
        yield batch


def _answers(query: Query, batches: Iterable[Tensor], count: int, what: str) -> Tensor:
    """(M, C), the logits of altered pictures, in full batches; it says how far it is, and can be stopped there."""
    logits: list[Tensor] = []
    done = 0
    answer: Callable[[Tensor], Tensor] = query.classifier.logits
    for batch in batches:
        query.progress(done / count, f"{what}: {done} of {count} pictures")
        logits.append(answer(batch))
        done += len(batch)
    return torch.cat(logits)
