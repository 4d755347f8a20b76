"""Whether a map stays when the picture hardly changes: max-sensitivity."""

import torch
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.metrics.answering import checked, seed_of
from xaihub.metrics.table import Count, Explainer, metric
from xaihub.passes import slices

__all__ = ["COPIES", "RADIUS", "max_sensitivity", "noisy_copies"]

RADIUS, COPIES = 0.02, 10


@metric("max-sensitivity", higher_is_better=False, category="robustness", title="Max-sensitivity", needs=("explainer",))
def max_sensitivity(
    classifier: Classifier,
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    explainer: Explainer,
    radius: float = RADIUS,
    copies: Count = COPIES,
    seed: int = 0,
) -> Tensor:
    """Largest change of the raw map, to its own size, when each value of the pixels moves by at most 0.02.

    max over d, |d| <= r, of |map(x + d) - map(x)| / |map(x)| (Yeh et al., 2019, arXiv:1901.09392, eq. 2, over the map's
    size as in captum and Quantus), over uniform lots. Low is good, and a map that never looks at the network is the
    best of all: read it together with a metric of faithfulness. `heatmaps` are asked of the explainer again, raw.

    Args:
        explainer: what made the maps.
        radius: in preprocessed units.
        copies: noisy copies of each picture.

    Returns:
        (N,), at least 0; not a number where the raw map is empty.
    """
    checked(pixels, heatmaps, targets)
    first = explainer(classifier, pixels, targets).cpu().flatten(1)
    changes = []
    for some in slices(len(pixels), classifier.batch):  # so that noisy copies of no more pictures are in memory
        noisy = torch.cat([noisy_copies(picture, radius, copies, seed) for picture in pixels[some]])
        again = explainer(classifier, noisy, targets[some].repeat_interleave(copies)).cpu().flatten(1)
        changes.append((again.view(-1, copies, again.shape[1]) - first[some, None]).norm(dim=2).amax(1))
    return torch.cat(changes) / first.norm(dim=1)


def noisy_copies(picture: Tensor, radius: float, copies: int, seed: int = 0) -> Tensor:
    """(copies, 3, H, W), the picture with each value moved by a uniform lot in [-radius, radius]."""
    generator = torch.Generator().manual_seed(seed_of(picture, seed))
    drawn = torch.rand((copies, *picture.shape), generator=generator).to(picture)
    return picture + radius * (2 * drawn - 1)
