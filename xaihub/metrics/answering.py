"""What the classifier says of many altered pictures: the one way in which metrics ask it."""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.passes import slices
from xaihub.progress import Progress, silent

__all__ = ["answered", "checked", "seed_of"]

Make = Callable[[Tensor], Tensor]


def answered(
    classifier: Classifier, make: Make, targets: Tensor, *, logits: bool = False, progress: Progress = silent
) -> Tensor:
    """(M,), the target's probability for M altered pictures, which are made and asked about a full batch at a time.

    So no more than a batch of them is ever in memory, and no pass is smaller than it could be but the last.

    Args:
        make: numbers (B,) of altered pictures -> their pixels (B, 3, H, W).
        targets: (M,), the class that each is asked about.
        logits: give the logit, not the probability.
        progress: told after each batch; what it raises ends the work.
    """
    found, count = torch.empty(len(targets)), len(targets)
    for some in slices(count, classifier.batch):
        numbers = torch.arange(count)[some]
        said = classifier.logits(make(numbers))
        said = said if logits else classifier.probabilities(said)
        found[some] = said.gather(1, targets[numbers].to(said.device)[:, None])[:, 0].cpu()
        progress(min(1.0, (some.stop or count) / count), f"{some.stop} of {count} altered pictures")
    return found


def checked(pixels: Tensor, heatmaps: Tensor, targets: Tensor | None = None) -> Tensor:
    """The heatmaps as float32, once they are known to lie on the pixels.

    Raises:
        ValueError: they do not, or there are not as many targets as pictures.
    """
    if heatmaps.ndim != 3 or len(heatmaps) != len(pixels) or heatmaps.shape[1:] != pixels.shape[2:]:
        raise ValueError(
            f"Heatmaps {tuple(heatmaps.shape)} do not lie on pixels {tuple(pixels.shape)}: a metric needs one of (H, W)"
            " for each picture. `xaihub.maps.enlarged` enlarges raw maps."
        )
    if targets is not None and targets.shape != (len(pixels),):
        raise ValueError(f"{len(pixels)} pictures need as many targets, (N,), but {tuple(targets.shape)} were given.")
    return heatmaps.detach().float()


def seed_of(picture: Tensor, seed: int = 0) -> int:
    """A number drawn from a picture's own pixels: so its lots do not depend on the batch that it stands in.

    Args:
        picture: (3, H, W).
    """
    values = picture.detach().to("cpu", torch.float32).contiguous()
    digest = hashlib.blake2b(values.numpy().tobytes(), digest_size=7, salt=seed.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little")
