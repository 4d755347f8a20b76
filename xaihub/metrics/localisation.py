"""Whether a map lies where something is known to be: pointing game, energy pointing game, IoU.

They ask where the map is, not whether it is faithful: a network may well look elsewhere. Where a picture has no mask,
or an empty one, they say nothing.
"""

import torch
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.metrics.answering import checked
from xaihub.metrics.curves import places
from xaihub.metrics.table import metric

__all__ = ["energy_pointing_game", "iou", "pointing_game"]

TOLERANCE = 15.0  # pixels of a picture whose shorter side is 224


@metric("pointing-game", higher_is_better=True, category="localisation", title="Pointing game", needs=("masks",))
def pointing_game(
    classifier: Classifier,  # noqa: ARG001  metrics are called alike
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    masks: Tensor,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """1 where the hottest pixel lies in the mask or within 15 pixels of it, else 0.

    (Zhang et al., 2018, arXiv:1608.00507.) The pixels are those of a picture whose shorter side is 224, as
    in TorchRay, and scale with it. A flat map points nowhere and misses; the middle of the picture alone hits two
    thirds of the objects of VOC07.

    Args:
        heatmaps: (N, H, W), any scale; of equal pixels the upper left counts.
        masks: (N, H, W) bool.

    Returns:
        (N,), each 0 or 1; not a number where the mask is empty.
    """
    heatmaps, masks = checked(pixels, heatmaps, targets).cpu(), _known(masks, heatmaps)
    reach = tolerance * min(heatmaps.shape[1:]) / 224
    return torch.tensor([_points_at(one, mask, reach) for one, mask in zip(heatmaps, masks, strict=True)])


@metric("energy-pointing-game", higher_is_better=True, category="localisation", needs=("masks",))
def energy_pointing_game(
    classifier: Classifier,  # noqa: ARG001
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    masks: Tensor,
) -> Tensor:
    """Share of the map's positive mass that lies in the mask.

    (Score-CAM, Wang et al., 2020, arXiv:1910.01279.) A map that is hot everywhere has the mask's share of
    the picture: large objects are easy.

    Args:
        heatmaps: (N, H, W); negative values count as nothing.
        masks: (N, H, W) bool.

    Returns:
        (N,), each in [0, 1]; not a number where the mask is empty, 0 where the map is.
    """
    positive = checked(pixels, heatmaps, targets).cpu().relu().flatten(1).double()
    masks = _known(masks, heatmaps).flatten(1)
    mass = positive.sum(1)
    share = torch.where(mass > 0, (positive * masks).sum(1) / mass.clamp_min(1e-30), 0)
    return torch.where(masks.any(1), share, torch.nan).float()


@metric("iou", higher_is_better=True, category="localisation", title="IoU", needs=("masks",))
def iou(
    classifier: Classifier,  # noqa: ARG001
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    masks: Tensor,
) -> Tensor:
    """Intersection over union of the mask and as many hottest pixels as it has.

    (Jaccard, 1912.) So no threshold has to be chosen, which would favour the maps whose scale it suits.

    Args:
        heatmaps: (N, H, W), any scale; only the order of the values is used.
        masks: (N, H, W) bool.

    Returns:
        (N,), each in [0, 1]; not a number where the mask is empty.
    """
    ranked, masks = places(checked(pixels, heatmaps, targets).cpu()).flatten(1), _known(masks, heatmaps).flatten(1)
    size = masks.sum(1)
    shared = ((ranked < size[:, None]) & masks).sum(1)
    return shared / (2 * size - shared)  # 0 / 0 where there is no mask


def _points_at(heatmap: Tensor, mask: Tensor, reach: float) -> float:
    if not bool(mask.any()):
        return float("nan")
    if bool((heatmap == heatmap[0, 0]).all()):
        return 0.0
    row, column = divmod(int(heatmap.argmax()), heatmap.shape[1])
    distances = (mask.nonzero() - torch.tensor([row, column])).double().norm(dim=1)
    return float(distances.min() <= reach)


def _known(masks: Tensor, heatmaps: Tensor) -> Tensor:
    if masks.shape != heatmaps.shape:
        raise ValueError(
            f"Masks {tuple(masks.shape)} do not lie on heatmaps {tuple(heatmaps.shape)}. Crop and resize each mask as"
            " its picture was: `classifier.transform.view(picture).crop` says where."
        )
    return masks.cpu().bool()
