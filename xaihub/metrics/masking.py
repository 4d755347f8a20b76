"""What the classifier says of the picture seen through its heatmap: average drop, increase in confidence, ADCC."""

import torch
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.maps import shown
from xaihub.metrics.answering import answered, checked
from xaihub.metrics.subsets import correlation
from xaihub.metrics.table import Explainer, metric

__all__ = ["adcc", "average_drop", "coherency", "increase_in_confidence", "seen_through", "whole_and_seen_through"]

_TINY = 1e-7  # keeps the drop of a class of no probability at 0, as in torch-cam


def seen_through(pixels: Tensor, heatmaps: Tensor) -> Tensor:
    """(N, 3, H, W), the pixels times the heatmap's positive part over its own largest value, as the papers have it.

    A page shows it over the largest absolute value (`maps.shown`), which would darken the picture as well.
    """
    masks = shown(checked(pixels, heatmaps), (pixels.shape[2], pixels.shape[3]), signed=False)
    return pixels * masks[:, None].to(pixels)


def whole_and_seen_through(
    classifier: Classifier, pixels: Tensor, heatmaps: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """The target's probability (N,) for the whole picture, and (N,) for the one seen through its heatmap."""
    checked(pixels, heatmaps, targets)
    count = len(pixels)

    def make(numbers: Tensor) -> Tensor:
        picture = numbers % count
        through = seen_through(pixels[picture], heatmaps[picture])
        return torch.where((numbers < count)[:, None, None, None], pixels[picture], through)

    whole, through = answered(classifier, make, targets.cpu().repeat(2)).view(2, count)
    return whole, through


@metric("average-drop", higher_is_better=False, category="faithfulness", title="Average drop", passes=2)
def average_drop(classifier: Classifier, pixels: Tensor, heatmaps: Tensor, targets: Tensor) -> Tensor:
    """Share of the target's probability that is lost when the picture is seen through its heatmap only.

    max(0, Y - O) / Y (Grad-CAM++, Chattopadhay et al., 2018, arXiv:1710.11063), a share where the paper
    gives percent. A map that is hot everywhere loses nothing: read it together with complexity. torch-cam scales the
    coarse map before it is enlarged, so its mask may stay below 1 where ours reaches it.

    Args:
        heatmaps: (N, H, W); the positive part over its largest value is what the picture is multiplied by.

    Returns:
        (N,), each in [0, 1].
    """
    return _drop(*whole_and_seen_through(classifier, pixels, heatmaps, targets))


@metric("increase-in-confidence", higher_is_better=True, category="faithfulness", passes=2)
def increase_in_confidence(classifier: Classifier, pixels: Tensor, heatmaps: Tensor, targets: Tensor) -> Tensor:
    """1 where the target is more probable when the picture is seen through its heatmap only, else 0.

    Y < O (Grad-CAM++, Chattopadhay et al., 2018, arXiv:1710.11063): what the map hides spoke against it.

    Args:
        heatmaps: as in `average_drop`.

    Returns:
        (N,), each 0 or 1.
    """
    whole, through = whole_and_seen_through(classifier, pixels, heatmaps, targets)
    return (whole < through).float()


@metric("adcc", higher_is_better=True, category="faithfulness", title="ADCC", needs=("explainer",), passes=2)
def adcc(classifier: Classifier, pixels: Tensor, heatmaps: Tensor, targets: Tensor, *, explainer: Explainer) -> Tensor:
    """Harmonic mean of coherency, of what the map leaves dark, and of the probability it keeps.

    3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - average drop)) (Poppi et al., 2021, arXiv:2104.10252),
    where complexity is the mean of the map. 0 where one of the three is 0.

    Args:
        heatmaps: as in `average_drop`.
        explainer: what made the maps; it is asked again about the picture seen through its heatmap.

    Returns:
        (N,), each in [0, 1].
    """
    kept = 1 - average_drop(classifier, pixels, heatmaps, targets)
    size = (pixels.shape[2], pixels.shape[3])
    dark = 1 - shown(heatmaps, size, signed=False).mean((1, 2)).cpu()
    parts = torch.stack([coherency(classifier, pixels, heatmaps, targets, explainer), dark, kept])
    return torch.where((parts > 0).all(0), 3 / (1 / parts.clamp_min(_TINY)).sum(0), 0)


def coherency(
    classifier: Classifier, pixels: Tensor, heatmaps: Tensor, targets: Tensor, explainer: Explainer
) -> Tensor:
    """(N,) in [0, 1], how alike the heatmap is to that of the picture seen through it (Poppi et al., 2021).

    Pearson's correlation r of the two as (r + 1) / 2, as in the published code; 0 where one of them is flat.
    """
    size = (pixels.shape[2], pixels.shape[3])
    again = shown(explainer(classifier, seen_through(pixels, heatmaps), targets), size).cpu().flatten(1)
    return (correlation(shown(heatmaps, size).cpu().flatten(1), again).nan_to_num(-1) + 1) / 2  # no scale counts


def _drop(whole: Tensor, through: Tensor) -> Tensor:
    return (whole - through).clamp_min(0) / (whole + _TINY)
