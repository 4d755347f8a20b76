"""Pixels, or regions, blackened or scrambled one after the other: pixel flipping and region perturbation."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from xaihub.classifier import Classifier
from xaihub.metrics.answering import checked, seed_of
from xaihub.metrics.curves import area, curve, followed, places
from xaihub.metrics.table import Count, metric

__all__ = ["REGIONS", "SIDE", "darkest", "lots", "pixel_flipping", "region_perturbation", "region_places"]

SIDE = 8  # pixels of a region; the paper has 9, which divides no common picture
REGIONS = 100  # the paper's L


@metric(
    "pixel-flipping",
    higher_is_better=False,
    category="faithfulness",
    passes=lambda classifier: classifier.input_size[0] + 1,
)
def pixel_flipping(
    classifier: Classifier, pixels: Tensor, heatmaps: Tensor, targets: Tensor, *, steps: Count | None = None
) -> Tensor:
    """Area under the target's probability as its hottest pixels are blackened.

    Low is good (Bach et al., 2015, doi:10.1371/journal.pone.0130140, "Evaluating Heatmaps"). Black is the picture's own
    lowest value, as in Quantus; deletion sets pixels to zero, the mean colour of most networks. The paper flips
    pixels of two values one by one and follows the score; a colour picture has no such flip, and 50,000 steps of one
    pixel would tell no more than some hundred of many.

    Args:
        heatmaps: (N, H, W), any scale; only the order of the values is used.
        steps: how many; by default as many pixels are blackened at a time as the picture is wide.

    Returns:
        (N,), each in [0, 1].
    """
    return area(curve(classifier, pixels, heatmaps, targets, end=darkest(pixels), steps=steps))


@metric(
    "region-perturbation",
    higher_is_better=True,
    category="faithfulness",
    title="Region perturbation (AOPC)",
    passes=REGIONS + 1,
)
def region_perturbation(
    classifier: Classifier,
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    side: Count = SIDE,
    regions: Count = REGIONS,
    fill: Tensor | None = None,
) -> Tensor:
    """Mean fall of the target's probability as the hottest regions are scrambled, one after the other.

    1 / (L + 1) x the sum over k = 0 ... L of f(x) - f(x with k regions scrambled) (AOPC; Samek et al., 2016,
    arXiv:1509.06321). High is good. Each picture has one lot of values, from its own lowest to its highest; the
    paper averages ten.

    Args:
        heatmaps: (N, H, W), any scale; a region is as hot as its pixels together.
        side: of a region, in pixels; what is left over at the right and below makes smaller ones.
        regions: L, at most as many as there are.
        fill: what takes the place of the pixels, (N, 3, H, W) or what broadcasts to it, in place of the lot.

    Returns:
        (N,), each in [-1, 1].
    """
    ranked = region_places(checked(pixels, heatmaps, targets), side)
    counts = torch.arange(min(regions, int(ranked.max()) + 1) + 1)
    fill = lots(pixels) if fill is None else fill
    found = followed(classifier, ranked, counts, targets, (pixels, fill.to(pixels).expand_as(pixels)))
    return (found[:, :1] - found).mean(1)


def region_places(heatmaps: Tensor, side: int) -> Tensor:
    """(N, H, W), each pixel's region's place from the hottest (0) to the coldest."""
    height, width = heatmaps.shape[1:]
    whole = pad(heatmaps, (0, -width % side, 0, -height % side))
    ranked = places(avg_pool2d(whole, side))
    return ranked.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, :height, :width]


def darkest(pixels: Tensor) -> Tensor:
    """(N, 1, 1, 1), the lowest value of each picture."""
    return pixels.amin((1, 2, 3), keepdim=True)


def lots(pixels: Tensor, seed: int = 0) -> Tensor:
    """(N, 3, H, W) of values by lot between each picture's lowest and highest, drawn from its own pixels."""
    drawn = torch.stack(
        [torch.rand(each.shape, generator=torch.Generator().manual_seed(seed_of(each, seed))) for each in pixels]
    ).to(pixels)
    low, high = darkest(pixels), pixels.amax((1, 2, 3), keepdim=True)
    return low + (high - low) * drawn
