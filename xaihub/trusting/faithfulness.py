"""What a picture's probability does when the parts that a map calls hot are veiled, and when only those are seen.

A few square parts in a few steps: less exact than RISE's curves, and quick enough to stand beside every map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from xaihub.classifier import Classifier
from xaihub.metrics.answering import answered, seed_of
from xaihub.metrics.baselines import baseline_maps
from xaihub.metrics.curves import places
from xaihub.progress import Progress, silent

__all__ = ["Faithfulness", "faithfulness", "in_parts", "share_as_good", "veil"]

PARTS = 7  # of each side: as many as most target layers have places at 224 pixels
STEPS = (0.1, 0.3, 0.5, 0.7, 0.9)  # shares of the picture: the middles of five equal parts, alike from both ends
LOTS = 5  # maps by lot: with their reversals ten, from which a spread can be told
VEILED = 5  # places of each side that are left of a veiled picture: its colours, without anything to recognise


@dataclass(frozen=True)
class Faithfulness:
    """Probabilities of the target; each deletion and insertion is the mean over the steps.

    Attributes:
        probability: for the whole picture. `veiled`, `blank`: for the veil alone, and for the mean colour alone.
        deletion: with the hottest parts veiled. `insertion`: with only these seen.
        lots: (deletion, insertion) of each map by lot.
        passes: how many pictures the classifier was asked about.
    """

    probability: float
    veiled: float
    blank: float
    deletion: float
    insertion: float
    lots: tuple[tuple[float, float], ...]
    passes: int

    @property
    def lost(self) -> float:
        """The share of the probability that goes with the picture, whichever way it is taken away; 0 if it rises."""
        return max(0.0, 1 - max(self.veiled, self.blank) / max(self.probability, 1e-12))

    @property
    def deletions_by_lot(self) -> tuple[float, ...]:
        """Deletions of the maps by lot and of their reversals: what the one inserts is what the other leaves."""
        return tuple(value for pair in self.lots for value in pair)

    @property
    def by_lot(self) -> float:
        """The mean deletion of maps by lot, which is their mean insertion, too."""
        return fmean(self.deletions_by_lot)

    @property
    def gain(self) -> float:
        """Insertion minus deletion; of maps by lot it is 0 on average, since each has its reversal."""
        return self.insertion - self.deletion

    @property
    def spread(self) -> float:
        """How far insertion minus deletion of a map by lot lies from 0, root mean square."""
        return fmean((insertion - deletion) ** 2 for deletion, insertion in self.lots) ** 0.5


def faithfulness(
    classifier: Classifier,
    pixels: Tensor,
    heat: Tensor,
    target: int,
    *,
    grid: tuple[int, int],
    progress: Progress = silent,
) -> Faithfulness:
    """What the classifier says as parts of one picture are veiled in the order of a map, and of maps by lot.

    Args:
        pixels: (1, 3, H, W), preprocessed.
        heat: (H, W), any scale; equal values come in an order by lot, not from the upper left.
        grid: (h, w) of the target layer: the grain of the maps by lot.
    """
    lots = [baseline_maps("random", pixels, grid=grid, seed=1 + i)[0] for i in range(LOTS)]
    ranked = _ranked(torch.stack([heat.cpu(), *lots]), pixels)  # (M, parts, parts)
    veiled, blank = veil(pixels), pixels.mean((2, 3), keepdim=True).expand_as(pixels)
    each, count = 2 * len(STEPS), ranked[0].numel()
    moved = [round(share * count) for share in STEPS]

    def make(numbers: Tensor) -> Tensor:
        return torch.cat([_altered(int(number)) for number in numbers])

    def _altered(number: int) -> Tensor:
        if number < 3:
            return (pixels, veiled, blank)[number]
        place, state = divmod(number - 3, each)
        hot = ranked[place] < moved[state // 2]
        large = interpolate(hot[None, None].float(), pixels.shape[2:], mode="nearest").bool().to(pixels.device)
        return torch.where(large == bool(state % 2), pixels, veiled)  # odd states insert

    asked = torch.full((3 + each * len(ranked),), target)
    said = answered(classifier, make, asked, progress=progress)
    means = said[3:].view(len(ranked), len(STEPS), 2).mean(1).tolist()
    own, *others = [(deletion, insertion) for deletion, insertion in means]
    whole, hidden, empty = said[:3].tolist()
    return Faithfulness(whole, hidden, empty, *own, tuple(others), len(said))


def in_parts(maps: Tensor) -> Tensor:
    """(N, parts, parts), the mean of maps (N, H, W) over square parts."""
    return adaptive_avg_pool2d(maps[:, None].float(), PARTS)[:, 0]


def veil(pixels: Tensor) -> Tensor:
    """(N, 3, H, W), the pixels so coarse that nothing can be recognised: colours stay, so nothing looks torn out."""
    return interpolate(adaptive_avg_pool2d(pixels, VEILED), pixels.shape[2:], mode="bilinear", align_corners=False)


def _ranked(maps: Tensor, pixels: Tensor) -> Tensor:
    """(M, parts, parts) each part's place, 0 the hottest; equal ones by lot."""
    means = in_parts(maps)
    lot = torch.randperm(means[0].numel(), generator=torch.Generator().manual_seed(seed_of(pixels[0])))
    shuffled = places(means.flatten(1)[:, lot][:, None])[:, 0]  # of equals, the first in a shuffled row
    ranked = torch.empty_like(shuffled)
    ranked[:, lot] = shuffled
    return ranked.view_as(means)


def share_as_good(found: Faithfulness) -> float:
    """The share of maps by lot, and of their reversals, that do at least as well as the map."""
    gains: Sequence[float] = [sign * (insertion - deletion) for deletion, insertion in found.lots for sign in (1, -1)]
    return fmean(gain >= found.gain for gain in gains)
