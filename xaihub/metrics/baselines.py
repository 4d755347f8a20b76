"""Maps that know nothing of the network: what a score must beat before it says anything of one that does."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, conv2d, pad

from xaihub.maps import enlarged, shown
from xaihub.metrics.answering import seed_of

__all__ = ["BASELINES", "baseline_maps", "centre_maps", "edge_maps", "random_maps"]

Grid = tuple[int, int]
Baseline = Callable[[Tensor, Grid, int], Tensor]

CENTRE = 0.25  # of the picture's sides is the Gaussian's deviation: half of its height lies 0.29 from the middle
NO_LAYER: Grid = (7, 7)  # the grain where no target layer tells another: that of most networks at 224 pixels


def random_maps(pixels: Tensor, grid: Grid, seed: int = 0) -> Tensor:
    """(N, H, W) of values by lot on a grid, enlarged as a map of that layer is.

    Values by lot for each pixel would ask another question: scattered missing pixels upset a network more than anything
    else, so such a map would look faithful.
    """
    lots = [torch.rand(grid, generator=torch.Generator().manual_seed(seed_of(each, seed))) for each in pixels]
    return enlarged(torch.stack(lots), (pixels.shape[2], pixels.shape[3]))


def centre_maps(pixels: Tensor, grid: Grid, seed: int = 0) -> Tensor:  # noqa: ARG001  baselines are called alike
    """(N, H, W) of a Gaussian in the middle of the picture, where photographers put things."""
    rows, columns = (_bell(length) for length in pixels.shape[2:])
    return (rows[:, None] * columns).expand(len(pixels), -1, -1).clone()


def edge_maps(pixels: Tensor, grid: Grid, seed: int = 0) -> Tensor:  # noqa: ARG001
    """(N, H, W) of edge strength (Sobel & Feldman, 1968), smoothed to the grain of a map on that grid."""
    grey = pad(pixels.detach().float().cpu().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    steep = conv2d(grey, torch.stack([across, across.T])[:, None]).square().sum(1).sqrt()
    return enlarged(adaptive_avg_pool2d(steep, grid), (pixels.shape[2], pixels.shape[3]))


BASELINES: Mapping[str, Baseline] = {"random": random_maps, "centre": centre_maps, "edges": edge_maps}


def baseline_maps(name: str, pixels: Tensor, *, grid: Grid = NO_LAYER, seed: int = 0) -> Tensor:
    """(N, H, W) in [0, 1], what a method would show that knows the picture at most, never the network.

    Each picture's lot is drawn from its own pixels and the seed, so it does not depend on the others in the batch.

    Args:
        name: one of `BASELINES`.
        pixels: (N, 3, H, W), preprocessed.
        grid: (h, w) of the target layer.
        seed: another one gives other random maps.
    """
    if name not in BASELINES:
        raise ValueError(f"There is no baseline {name!r}. There are {', '.join(BASELINES)}.")
    return shown(BASELINES[name](pixels, grid, seed), (pixels.shape[2], pixels.shape[3]))


def _bell(length: int) -> Tensor:
    """(length,) a Gaussian over one side, 1 in the middle."""
    places = (torch.arange(length) + 0.5) / length - 0.5
    return torch.exp(-0.5 * (places / CENTRE).square())
