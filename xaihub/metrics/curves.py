"""How the target's probability moves as the hottest pixels are taken away, or given back: deletion and insertion.

Letters: N pictures, S steps. A curve has S + 1 points: before the first step, and after each.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from xaihub.classifier import Classifier
from xaihub.errors import XaihubError
from xaihub.metrics.answering import answered, checked
from xaihub.metrics.table import Count, metric
from xaihub.progress import Progress, silent

__all__ = [
    "area", "blurred", "both_curves", "curve", "deletion", "followed", "insertion", "insertion_minus_deletion",
    "moved_after", "places", "steps_for",
]  # fmt: skip

BLUR, DEVIATION = 11, 5.0  # RISE's kernel and its deviation, in pixels of a picture of 224
PUBLISHED = 224  # the size that these belong to


def places(heatmaps: Tensor) -> Tensor:
    """(N, H, W) int32, each pixel's place from the hottest (0) to the coldest; of equals the upper left comes first."""
    order = heatmaps.flatten(1).argsort(dim=1, descending=True, stable=True)
    ranked = torch.empty(order.shape, dtype=torch.int32, device=order.device)
    ranked.scatter_(1, order, torch.arange(order.shape[1], dtype=torch.int32, device=order.device).expand_as(order))
    return ranked.view_as(heatmaps)


def curve(
    classifier: Classifier,
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    end: Tensor,
    start: Tensor | None = None,
    steps: int | None = None,
    logits: bool = False,
    progress: Progress = silent,
) -> Tensor:
    """(N, S + 1), the target's probability as the hottest pixels go from `start` to `end`, step by step.

    All pictures and steps go through the classifier in full batches, and are made a batch at a time.

    Args:
        pixels: (N, 3, H, W), preprocessed.
        heatmaps: (N, H, W), any scale; only the order of the values is used.
        targets: (N,), class indices.
        end: pixels that broadcast to (N, 3, H, W): zeros to delete, the picture to insert.
        start: pixels likewise; the picture where none are given.
        steps: how many; by default as many pixels move at a time as the picture is wide, as RISE publishes it.
        logits: follow the logit, not the probability.
    """
    steps = steps_for(pixels, steps)
    start = pixels if start is None else start.expand_as(pixels)
    ranked, counts = places(checked(pixels, heatmaps, targets)), moved_after(pixels, steps)
    ends = (start, end.to(start).expand_as(pixels))
    return followed(classifier, ranked, counts, targets, ends, logits=logits, progress=progress)


def followed(
    classifier: Classifier,
    ranked: Tensor,
    counts: Tensor,
    targets: Tensor,
    ends: tuple[Tensor, Tensor],
    *,
    logits: bool = False,
    progress: Progress = silent,
) -> Tensor:
    """(N, S + 1), the target's probability as pixels go from one picture to the other in the order of their places.

    Args:
        ranked: (N, H, W), the place of each pixel; those of one place move together.
        counts: (S + 1,), how many places have moved at each point.
        ends: pixels (N, 3, H, W) at the start and at the end.
    """
    device, points = classifier.device, len(counts)
    start, end, ranked, counts = ends[0].to(device), ends[1].to(device), ranked.to(device), counts.to(device)

    def make(numbers: Tensor) -> Tensor:
        picture, step = (numbers // points).to(device), (numbers % points).to(device)
        moved = ranked[picture] < counts[step][:, None, None]
        return torch.where(moved[:, None], end[picture], start[picture])

    asked = targets.cpu().repeat_interleave(points)
    return answered(classifier, make, asked, logits=logits, progress=progress).view(-1, points)


def both_curves(
    classifier: Classifier,
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    steps: int | None = None,
    progress: Progress = silent,
) -> tuple[Tensor, Tensor]:
    """Deletion's and insertion's curve, (N, S + 1) each, in 2 S + 1 passes a picture.

    Where insertion ends, with the whole picture, deletion begins.
    """
    steps = steps_for(pixels, steps)
    device, states = classifier.device, 2 * steps + 1
    whole, blank = pixels.to(device), torch.zeros((), device=device)
    veiled = blurred(whole)
    ranked, counts = places(checked(pixels, heatmaps, targets).to(device)), moved_after(pixels, steps).to(device)

    def make(numbers: Tensor) -> Tensor:
        picture, state = (numbers // states).to(device), (numbers % states).to(device)
        inserts = (state > steps)[:, None, None]
        hot = ranked[picture] < counts[torch.where(state > steps, state - steps - 1, state)][:, None, None]
        missing = torch.where(inserts[:, None], veiled[picture], blank)
        return torch.where((hot == inserts)[:, None], whole[picture], missing)

    asked = targets.cpu().repeat_interleave(states)
    found = answered(classifier, make, asked, progress=progress).view(len(pixels), states)
    return found[:, : steps + 1], torch.cat([found[:, steps + 1 :], found[:, :1]], dim=1)


def area(curves: Tensor) -> Tensor:
    """(N,), the area under curves (N, S + 1) over [0, 1], by the trapezoid rule."""
    return (curves.sum(1) - (curves[:, 0] + curves[:, -1]) / 2) / (curves.shape[1] - 1)


def blurred(pixels: Tensor) -> Tensor:
    """The pixels behind a Gaussian blur, as RISE's insertion begins (Petsiuk et al., 2018).

    The published procedure has a kernel of 11 x 11 pixels and a deviation of 5, so wide that what lies beyond the
    kernel's edge is folded back into it; outside of the picture there is zero. For a picture of another size than 224
    the kernel is scaled with it: it would hide too little of a large one, and all of a small one.
    """
    for axis, length in ((2, pixels.shape[2]), (3, pixels.shape[3])):
        weights = _folded_bell(length).to(pixels)
        shape = [1, 1, 1, 1]
        shape[axis] = half = len(weights)
        half //= 2
        margins = (0, 0, half, half) if axis == 2 else (half, half, 0, 0)
        kernel = weights.view(shape).expand(pixels.shape[1], -1, -1, -1)
        pixels = conv2d(pad(pixels, margins), kernel, groups=pixels.shape[1])
    return pixels


def _folded_bell(length: int) -> Tensor:
    """(k,) weights of a Gaussian that is cut off after four deviations, its ends mirrored at the kernel's edges."""
    scale = length / PUBLISHED
    width = max(3, 2 * round((BLUR * scale - 1) / 2) + 1)
    deviation = DEVIATION * width / BLUR
    reach = int(4 * deviation + 0.5)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    bell = torch.exp(-0.5 * (offsets / deviation).square())
    landing = (offsets.long() + width // 2) % (2 * width)
    landing = torch.minimum(landing, 2 * width - 1 - landing)
    return torch.zeros(width, dtype=torch.float64).index_add_(0, landing, bell / bell.sum()).float()


def steps_for(pixels: Tensor, steps: int | None) -> int:
    """How many steps: those asked for, or one for each row, so that as many pixels move as the picture is wide.

    Raises:
        XaihubError: a picture has not so many pixels, or they are none.
    """
    if steps is not None and not 1 <= steps <= pixels[0, 0].numel():
        most = pixels[0, 0].numel()
        raise XaihubError(
            f"{steps} steps cannot be taken: a picture of {most} pixels has 1 to {most} of them. Give another number of"
            " steps."
        )
    return pixels.shape[2] if steps is None else steps


def moved_after(pixels: Tensor, steps: int) -> Tensor:
    """(S + 1,) how many pixels have moved after each step: equal shares of the picture, to a pixel."""
    count = pixels[0, 0].numel()
    return torch.arange(steps + 1) * count // steps


def _per_row(factor: int) -> Callable[[Classifier], int]:
    return lambda classifier: factor * classifier.input_size[0] + 1


@metric("deletion", higher_is_better=False, category="faithfulness", title="Deletion", passes=_per_row(1))
def deletion(
    classifier: Classifier, pixels: Tensor, heatmaps: Tensor, targets: Tensor, *, steps: Count | None = None
) -> Tensor:
    """Area under the target's probability as its hottest pixels are set to zero.

    The probability falls at once when the heatmap is faithful, so a low area is good
    (RISE, Petsiuk et al., 2018, arXiv:1806.07421).

    Args:
        classifier: what is being explained.
        pixels: (N, 3, H, W), preprocessed.
        heatmaps: (N, H, W), any scale; only the order of the values is used.
        targets: (N,), class indices.
        steps: by default 224 of 224 pixels for a picture of 224 x 224.

    Returns:
        (N,), each in [0, 1].
    """
    return area(curve(classifier, pixels, heatmaps, targets, end=torch.zeros(()), steps=steps))


@metric("insertion", higher_is_better=True, category="faithfulness", title="Insertion", passes=_per_row(1))
def insertion(
    classifier: Classifier, pixels: Tensor, heatmaps: Tensor, targets: Tensor, *, steps: Count | None = None
) -> Tensor:
    """Area under the target's probability as its hottest pixels come back into a blurred picture.

    The probability rises at once when the heatmap is faithful, so a large area is good
    (RISE, Petsiuk et al., 2018, arXiv:1806.07421).

    Args:
        heatmaps: (N, H, W), any scale; only the order of the values is used.
        steps: as in `deletion`.

    Returns:
        (N,), each in [0, 1].
    """
    veiled = blurred(pixels.float())
    return area(curve(classifier, pixels, heatmaps, targets, start=veiled, end=pixels, steps=steps))


@metric(
    "insertion-deletion",
    higher_is_better=True,
    category="faithfulness",
    title="Insertion minus deletion",
    passes=_per_row(2),
    parts=("insertion", "deletion"),
    combine=torch.sub,
)
def insertion_minus_deletion(
    classifier: Classifier, pixels: Tensor, heatmaps: Tensor, targets: Tensor, *, steps: Count | None = None
) -> Tensor:
    """Insertion's area minus deletion's: high where the hottest pixels are both enough and necessary.

    One alone can be had by a trick: scattered pixels delete well, smooth blobs insert well. Both curves share a pass.

    Args:
        heatmaps: (N, H, W), any scale; only the order of the values is used.
        steps: as in `deletion`.

    Returns:
        (N,), each in [-1, 1].
    """
    deleting, inserting = both_curves(classifier, pixels, heatmaps, targets, steps=steps)
    return area(inserting) - area(deleting)
