"""How much of the picture a map names: sparseness and complexity. They ask nothing of the network."""

import torch
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.metrics.answering import checked
from xaihub.metrics.table import metric

__all__ = ["complexity", "sparseness"]


@metric("sparseness", higher_is_better=True, category="complexity")
def sparseness(
    classifier: Classifier,  # noqa: ARG001  metrics are called alike
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
) -> Tensor:
    """Gini index of the map's sizes: 0 where all pixels are alike, near 1 where a single one is hot.

    The sum over k of (2 k - n - 1) a_k / (n x the sum of a), of the n sizes a in ascending order (Chalasani et al.,
    2020, arXiv:1810.06583; Hurley & Rickard, 2009). Quantus adds 1e-7 to each size, which changes the fifth digit. A
    coarse map that was enlarged is smooth, so compare maps of one grain only.

    Args:
        heatmaps: (N, H, W), any scale, signed or not.

    Returns:
        (N,), each in [0, 1]; not a number for an empty map.
    """
    ordered = checked(pixels, heatmaps, targets).flatten(1).abs().double().sort(dim=1).values
    count = ordered.shape[1]
    weights = 2 * torch.arange(1, count + 1, dtype=torch.float64, device=ordered.device) - count - 1
    return ((ordered * weights).sum(1) / (count * ordered.sum(1))).float().cpu()


@metric("complexity", higher_is_better=False, category="complexity")
def complexity(
    classifier: Classifier,  # noqa: ARG001
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
) -> Tensor:
    """Entropy of the map's shares, in nats: 0 for a single hot pixel, log(H W) where all are alike.

    - the sum of p log p, where p is the map's sizes over their sum (Bhatt et al., 2020, arXiv:2005.00631). A coarse map
    that was enlarged looks simple, so compare maps of one grain only.

    Args:
        heatmaps: (N, H, W), any scale, signed or not; the sizes count.

    Returns:
        (N,), each in [0, log(H W)]; not a number for an empty map.
    """
    sizes = checked(pixels, heatmaps, targets).flatten(1).abs().double()
    shares = sizes / sizes.sum(1, keepdim=True)
    return -torch.xlogy(shares, shares).sum(1).float().cpu()
