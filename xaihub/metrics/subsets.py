"""Whether what the map says of a part is what the answer loses without it: faithfulness correlation, infidelity."""

from collections.abc import Callable

import torch
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.metrics.answering import answered, checked, seed_of
from xaihub.metrics.table import Count, metric
from xaihub.passes import slices

__all__ = [
    "RUNS", "SQUARES", "correlation", "faithfulness_correlation", "falls", "infidelity", "random_squares",
    "random_subsets", "unexplained",
]  # fmt: skip

RUNS = 100
SQUARES = 32
SHARE = 4  # a square's side is a quarter of the picture's shorter one

Draw = Callable[[Tensor], Tensor]


def falls(
    classifier: Classifier,
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    draw: Draw,
    *,
    fill: Tensor | None = None,
    logits: bool = False,
) -> tuple[Tensor, Tensor]:
    """What the map says of each part of the picture (N, R), and how far the answer falls without it (N, R).

    Args:
        draw: a picture (3, H, W) -> its parts (R, H, W) bool.
        fill: what takes the parts' place, broadcast to (N, 3, H, W); zero if nothing is given.
        logits: the fall of the logit, not of the probability.
    """
    heatmaps = checked(pixels, heatmaps, targets).cpu()
    blank = (torch.zeros(()) if fill is None else fill).to(pixels).expand_as(pixels)
    # so many pictures at a time, with their parts: the memory stays flat, and the batches full
    found = [
        _falls(classifier, pixels[some], heatmaps[some], targets[some], draw, blank[some], logits)
        for some in slices(len(pixels), classifier.batch)
    ]
    return torch.cat([told for told, _ in found]), torch.cat([fell for _, fell in found])


def _falls(
    classifier: Classifier, pixels: Tensor, heatmaps: Tensor, targets: Tensor, draw: Draw, blank: Tensor, logits: bool
) -> tuple[Tensor, Tensor]:
    parts = torch.stack([draw(picture) for picture in pixels])  # (B, R, H, W)
    told = torch.stack([part.flatten(1).float() @ one.flatten() for part, one in zip(parts, heatmaps, strict=True)])
    nothing = torch.zeros_like(parts[:, :1])
    states = torch.cat([nothing, parts], dim=1)  # each picture whole, then without each of its parts
    count = states.shape[1]

    def make(numbers: Tensor) -> Tensor:
        picture, state = numbers // count, numbers % count
        gone = states[picture, state][:, None].to(pixels.device)
        return torch.where(gone, blank[picture], pixels[picture])

    asked = targets.cpu().repeat_interleave(count)
    found = answered(classifier, make, asked, logits=logits).view(-1, count)
    return told, found[:, :1] - found[:, 1:]


@metric("faithfulness-correlation", higher_is_better=True, category="faithfulness", passes=RUNS + 1)
def faithfulness_correlation(
    classifier: Classifier,
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    runs: Count = RUNS,
    size: Count | None = None,
    fill: Tensor | None = None,
    logits: bool = False,
    seed: int = 0,
) -> Tensor:
    """Correlation of what the map says of random sets of pixels with how far the answer falls without them.

    corr over sets S of (the sum of the map over S, f(x) - f(x with S at zero)) (Bhatt et al., 2020, arXiv:2005.00631).
    High is good. The sets are drawn from each picture's own pixels.

    Args:
        heatmaps: (N, H, W), any scale, signed or not.
        runs: how many sets.
        size: of a set, in pixels; by default as many as the picture is wide.
        fill, logits: as in `falls`. The probability saturates; a linear network's logit does not.

    Returns:
        (N,), each in [-1, 1]; not a number where the map is flat or the answer never moves.
    """
    chosen = pixels.shape[3] if size is None else size
    told, fell = falls(
        classifier, pixels, heatmaps, targets, lambda one: random_subsets(one, runs, chosen, seed),
        fill=fill, logits=logits,
    )  # fmt: skip
    return correlation(told, fell)


@metric("infidelity", higher_is_better=False, category="faithfulness", passes=SQUARES + 1)
def infidelity(
    classifier: Classifier,
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    squares: Count = SQUARES,
    logits: bool = False,
    seed: int = 0,
) -> Tensor:
    """Mean squared error of what the map says of random squares against how far the answer falls without them.

    E[(b x the sum of the map over the square - (f(x) - f(x without it)))^2] (Yeh et al., 2019, arXiv:1901.09392, eq. 1,
    with square removal). Low is good. A map tells shares, not differences of the answer, so b is the one scale that
    fits best, as captum's `normalize`; the paper's own code does so too.

    Args:
        heatmaps: (N, H, W), any scale, signed or not.
        squares: how many, at random places; the side of each is a quarter of the picture's.
        logits: as in `falls`.

    Returns:
        (N,), at least 0.
    """
    drawn = lambda one: random_squares(one, squares, seed)  # noqa: E731
    return unexplained(*falls(classifier, pixels, heatmaps, targets, drawn, logits=logits))


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """(N,), Pearson's correlation of the rows of two (N, R); not a number where one of them is flat."""
    first, second = (each.double() - each.double().mean(1, keepdim=True) for each in (first, second))
    return ((first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1))).float()


def unexplained(told: Tensor, fell: Tensor) -> Tensor:
    """(N,), the mean squared error of `told` (N, R) against `fell`, at the scale that fits best."""
    told, fell = told.double(), fell.double()
    scale = (told * fell).sum(1, keepdim=True) / told.square().sum(1, keepdim=True).clamp_min(1e-30)
    return (scale * told - fell).square().mean(1).float()


def random_subsets(picture: Tensor, runs: int, size: int, seed: int = 0) -> Tensor:
    """(runs, H, W) bool, each with so many pixels by lot."""
    generator = torch.Generator().manual_seed(seed_of(picture, seed))
    count = picture[0].numel()
    drawn = torch.zeros(runs, count, dtype=torch.bool)
    for one in drawn:
        one[torch.randperm(count, generator=generator)[:size]] = True
    return drawn.view(runs, *picture.shape[1:])


def random_squares(picture: Tensor, count: int, seed: int = 0) -> Tensor:
    """(count, H, W) bool, each a square at a place by lot that lies wholly on the picture."""
    generator = torch.Generator().manual_seed(seed_of(picture, seed))
    height, width = picture.shape[1:]
    side = max(1, min(height, width) // SHARE)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([height - side + 1, width - side + 1])
    rows, columns = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    top, left = corner.long()[:, 0, None, None], corner.long()[:, 1, None, None]
    return (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
