"""How alike the maps of two states of a network are: by their order, or by their structure."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from xaihub.agreement import ranks
from xaihub.errors import UnknownNameError, XaihubError
from xaihub.maps import enlarged
from xaihub.metrics.subsets import correlation

__all__ = ["Likeness", "comparing", "spearman", "structural"]

Likeness = Literal["spearman", "ssim"]

_WINDOW = 7  # pixels across, of equal weight
_STEADY = (0.01, 0.03)  # K1 and K2 of the paper, which keep its quotients finite


def comparing(likeness: Likeness, pixels: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """What compares raw maps (N, h, w) of pixels (N, 3, H, W).

    Raises:
        UnknownNameError: there is no such likeness.
    """
    if likeness not in get_args(Likeness):
        raise UnknownNameError(
            f"Maps are not compared by {likeness!r}. Likeness is one of: {', '.join(get_args(Likeness))}."
        )
    if likeness == "spearman":
        return spearman
    size = (pixels.shape[2], pixels.shape[3])
    return lambda first, second: structural(_scaled(enlarged(first, size)), _scaled(enlarged(second, size)))


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """(N,), Spearman's rank correlation of maps (N, h, w) with others.

    Not a number where the first is flat. Where only the second is, nothing of the order is left: 0.
    """
    ordered = [
        torch.stack([torch.from_numpy(ranks(one.flatten().numpy())) for one in maps]) for maps in (first, second)
    ]
    flat = second.flatten(1).amax(1) == second.flatten(1).amin(1)
    return torch.where(flat & (first.flatten(1).amax(1) > first.flatten(1).amin(1)), 0.0, correlation(*ordered))


def structural(first: Tensor, second: Tensor) -> Tensor:
    """(N,), mean structural similarity of maps (N, H, W) with others (Wang et al., 2004, equation 13).

    Over windows of seven by seven pixels of equal weight, variances without bias; the range of values is that of the
    two maps together. Not a number where the first is flat.

    Raises:
        XaihubError: the maps are smaller than a window.
    """
    if min(first.shape[1:]) < _WINDOW:
        raise XaihubError(
            f"Maps of {tuple(first.shape[1:])} are smaller than a window of {_WINDOW} by {_WINDOW}. Compare them by"
            " spearman."
        )
    one, other = first.double(), second.double()
    largest, smallest = torch.maximum(one, other).flatten(1).amax(1), torch.minimum(one, other).flatten(1).amin(1)
    c1, c2 = ((k * (largest - smallest)[:, None, None]).square() for k in _STEADY)
    means, others = _local(one), _local(other)
    unbiased = _WINDOW**2 / (_WINDOW**2 - 1)
    spread, spreads = unbiased * (_local(one**2) - means**2), unbiased * (_local(other**2) - others**2)
    together = unbiased * (_local(one * other) - means * others)
    alike = (2 * means * others + c1) * (2 * together + c2)
    alike = alike / ((means**2 + others**2 + c1) * (spread + spreads + c2))
    flat = one.flatten(1).amax(1) == one.flatten(1).amin(1)
    return torch.where(flat, torch.nan, alike.flatten(1).mean(1)).float()


def _local(maps: Tensor) -> Tensor:
    """(N, H - 6, W - 6), the mean of each window of maps (N, H, W)."""
    return nn.functional.avg_pool2d(maps[:, None], _WINDOW, stride=1)[:, 0]


def _scaled(maps: Tensor) -> Tensor:
    """(N, H, W), each divided by its largest absolute value: randomised networks give maps of another scale."""
    largest = maps.flatten(1).abs().amax(1)[:, None, None]
    return torch.where(largest > 0, maps / largest.clamp_min(torch.finfo(maps.dtype).tiny), 0.0)
