"""ROAD: the target's probability when the hottest, or the coldest, pixels are filled in from those around them.

Zeros leave an outline that tells the network what was there; a filled place tells next to nothing of it (Rong et al.,
2022, arXiv:2202.00449). No network is trained anew.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.metrics.answering import answered, checked, seed_of
from xaihub.metrics.curves import places
from xaihub.metrics.imputing import NOISE, imputed
from xaihub.metrics.table import metric

__all__ = ["SHARES", "combined", "road", "road_curves", "road_lerf", "road_morf"]

SHARES = (0.2, 0.4, 0.6, 0.8)  # of the pixels are filled in


def road_curves(
    classifier: Classifier,
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    shares: Sequence[float] = SHARES,
    hottest: Sequence[bool] = (True, False),
    noise: float = NOISE,
    seed: int = 0,
) -> Tensor:
    """(N, orders, S), the target's probability with each share of its pixels filled in.

    Args:
        hottest: of each order, whether the hottest pixels go first (MoRF) or the coldest (LeRF).
        noise: deviation of what is added to filled pixels, in preprocessed units; 0 for none.
    """
    device, masks = classifier.device, len(hottest) * len(shares)
    count = pixels[0, 0].numel()
    ranked, whole = places(checked(pixels, heatmaps, targets).to(device)), pixels.to(device)
    filled = torch.tensor([round(share * count) for _ in hottest for share in shares], device=device)
    first = torch.tensor([first for first in hottest for _ in shares], device=device)
    grain = torch.stack([_noise(each, noise, seed) for each in pixels]).to(device) if noise else None

    def make(numbers: Tensor) -> Tensor:
        picture, mask = (numbers // masks).to(device), (numbers % masks).to(device)
        place = torch.where(first[mask][:, None, None], ranked[picture], count - 1 - ranked[picture])
        missing = place < filled[mask][:, None, None]
        return imputed(whole[picture], missing, None if grain is None else grain[picture])

    found = answered(classifier, make, targets.cpu().repeat_interleave(masks))
    return found.view(len(pixels), len(hottest), len(shares))


def combined(lerf: Tensor, morf: Tensor) -> Tensor:
    """(N,), half of what the order is worth: (LeRF - MoRF) / 2, as pytorch-grad-cam combines them."""
    return (lerf - morf) / 2


def _noise(picture: Tensor, deviation: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed_of(picture, seed))
    return torch.randn(picture.shape, generator=generator) * deviation


@metric("road-morf", higher_is_better=False, category="faithfulness", title="ROAD, hottest first", passes=len(SHARES))
def road_morf(
    classifier: Classifier, pixels: Tensor, heatmaps: Tensor, targets: Tensor, *, shares: Sequence[float] = SHARES
) -> Tensor:
    """Mean of the target's probability with its hottest pixels filled in from those around them.

    The probability falls when the heatmap is faithful, so a low mean is good (ROAD, Rong et al., 2022,
    arXiv:2202.00449). The paper follows the accuracy; pytorch-grad-cam takes the whole picture's score away.

    Args:
        heatmaps: (N, H, W), any scale; only the order of the values is used.
        shares: of the pixels that are filled in, one after the other.

    Returns:
        (N,), each in [0, 1].
    """
    found = road_curves(classifier, pixels, heatmaps, targets, shares=shares, hottest=(True,))
    return found[:, 0].mean(1)


@metric("road-lerf", higher_is_better=True, category="faithfulness", title="ROAD, coldest first", passes=len(SHARES))
def road_lerf(
    classifier: Classifier, pixels: Tensor, heatmaps: Tensor, targets: Tensor, *, shares: Sequence[float] = SHARES
) -> Tensor:
    """Mean of the target's probability with its coldest pixels filled in from those around them.

    The probability stays when the heatmap is faithful, so a high mean is good (ROAD, Rong et al., 2022,
    arXiv:2202.00449).

    Args:
        heatmaps, shares: as in `road_morf`.

    Returns:
        (N,), each in [0, 1].
    """
    found = road_curves(classifier, pixels, heatmaps, targets, shares=shares, hottest=(False,))
    return found[:, 0].mean(1)


@metric(
    "road",
    higher_is_better=True,
    category="faithfulness",
    title="ROAD",
    passes=2 * len(SHARES),
    parts=("road-lerf", "road-morf"),
    combine=combined,
)
def road(
    classifier: Classifier, pixels: Tensor, heatmaps: Tensor, targets: Tensor, *, shares: Sequence[float] = SHARES
) -> Tensor:
    """Half of how much more the target's probability keeps without the coldest pixels than without the hottest.

    (LeRF - MoRF) / 2 (ROAD, Rong et al., 2022, arXiv:2202.00449), as pytorch-grad-cam combines them: 0 for a map that
    tells nothing of the network. The whole picture's score falls out, so it costs no pass.

    Args:
        heatmaps, shares: as in `road_morf`.

    Returns:
        (N,), each in [-0.5, 0.5].
    """
    found = road_curves(classifier, pixels, heatmaps, targets, shares=shares).mean(2)
    return combined(found[:, 1], found[:, 0])
