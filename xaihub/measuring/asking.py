"""A classifier is shown pictures batch by batch; of prototypes it is noted what the network below them says as well."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from xaihub import hub
from xaihub.classifier import Classifier, read_logits
from xaihub.families import weight_files
from xaihub.families.from_protopnet import BLACK_BOX, PREPARED
from xaihub.intervals import wilson
from xaihub.loading import Limits, Plan, load_classifier
from xaihub.planning import refuse_size
from xaihub.progress import Progress, silent
from xaihub.prototype_maps import read
from xaihub.prototypes import distinct_sources

__all__ = ["Asked", "Shown", "untouched"]

_NOT_AT_HAND = (
    "The network that the prototypes were trained from is not at hand (no folder black_box lies beside the weights), so"
    " how often the two agree was not measured."
)


class Shown(NamedTuple):
    """A picture's pixels for the classifier, and for the network that its prototypes were trained from, if asked."""

    own: Tensor
    beside: Tensor | None


class Asked:
    """What a classifier said of the pictures shown to it, and what the black box of its prototypes said of them.

    Args:
        black_box: the network that a ProtoPNet was trained from. Prototypes on an unchanged network have it inside,
            and it answers in the same pass.
    """

    def __init__(self, classifier: Classifier, black_box: Classifier | None = None) -> None:
        made = classifier.prototypes
        self.classifier, self.made, self.inside = classifier, made, made is not None and made.kind == "head"
        self.black_box = black_box if made is not None and not self.inside else None
        self._logits: list[Tensor] = []
        self._beside: list[Tensor] = []

    def prepared(self, picture: Image.Image) -> Shown:
        """The pixels of a picture."""
        theirs = self.black_box.transform(picture) if self.black_box else None
        return Shown(self.classifier.transform(picture), theirs)

    def show(self, batch: Sequence[Shown]) -> None:
        """Some pictures more, in their order."""
        for pixels in _stacks([shown.own for shown in batch]):
            if self.inside:
                self._read(pixels)
            else:
                self._logits.append(self.classifier.logits(pixels).cpu())
        if self.black_box is not None:
            for pixels in _stacks([shown.beside for shown in batch if shown.beside is not None]):
                self._beside.append(self.black_box.logits(pixels).argmax(1).cpu())

    def _read(self, pixels: Tensor) -> None:
        reading = read(self.classifier, pixels)
        self._logits.append(reading.logits.float().cpu())
        self._beside.append(read_logits(reading.black_box).argmax(1).cpu())

    @property
    def logits(self) -> Tensor:
        """(N, C) of the pictures shown so far."""
        return torch.cat(self._logits)

    @property
    def agreement(self) -> dict[str, Any]:
        """What metrics.json says of prototypes beside the accuracy; {} of a classifier that has none."""
        if self.made is None:
            return {}
        labels = self.made.black_box_labels if self.inside else self.black_box.labels if self.black_box else None
        note = _NOT_AT_HAND if labels is None else _other_classes(self.made.labels, labels)
        found: dict[str, Any] = {"agreement": None, "agreement_interval": None, "agreement_note": note or None}
        if labels is not None and not note:
            own, beside = self.logits.argmax(1).tolist(), torch.cat(self._beside).tolist()
            same = sum(self.made.labels[mine] == labels[theirs] for mine, theirs in zip(own, beside, strict=True))
            found |= {"agreement": same / len(own), "agreement_interval": list(wilson(same, len(own)))}
        return found | {"distinct_sources_per_class": distinct_sources(self.made.gallery, self.made.labels)}


def _other_classes(mine: Sequence[str], theirs: Sequence[str]) -> str:
    lacking = [label for label in mine if label not in theirs]
    if not lacking:
        return ""
    return f"The network that the prototypes were made from has no class {lacking[0]!r}, so the two cannot agree."


def _stacks(batch: list[Tensor]) -> list[Tensor]:
    """The batch whole, or picture by picture where preprocessing keeps each picture's own shape; the order stays."""
    alike = len({tuple(pixels.shape) for pixels in batch}) <= 1
    return ([torch.stack(batch)] if batch else []) if alike else [pixels[None] for pixels in batch]


def untouched(
    plan: Plan,
    classifier: Classifier,
    *,
    token: hub.Token = None,
    limits: Limits | None = None,
    progress: Progress = silent,
) -> Classifier | None:
    """The network that a ProtoPNet was trained from, where it lies beside the weights; of any other classifier, None.

    Raises:
        HubError, UnsupportedModelError: it is there, but cannot be fetched or opened.
    """
    if classifier.prototypes is None or classifier.prototypes.kind != "protopnet":
        return None
    folder = plan.folder / BLACK_BOX if plan.folder is not None else _fetched(plan, token, limits, progress)
    if folder is None or not (folder / "config.json").is_file():
        return None
    return load_classifier(folder, device=str(classifier.device), limits=limits)


def _fetched(plan: Plan, token: hub.Token, limits: Limits | None, progress: Progress) -> Path | None:
    repo, inside = plan.repo, f"{BLACK_BOX}/"
    files = repo.files.items() if repo is not None else ()
    held = {path.removeprefix(inside): size for path, size in files if path.startswith(inside)}
    if repo is None or "config.json" not in held:
        return None
    weights = weight_files(held, f"{plan.repo_id}/{BLACK_BOX}")
    paths = tuple(inside + name for name in ("config.json", *PREPARED, *weights) if name in held)
    refuse_size(plan.repo_id, repo.files, paths, limits or Limits.from_environment())
    return hub.fetch(repo, paths, token=token, progress=progress) / BLACK_BOX
