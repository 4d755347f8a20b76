"""A classifier that answers by prototypes, made from any other and from pictures, which leaves that one as it is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.datasets import LabelledPictures, open_dataset
from xaihub.errors import DatasetError, UnsupportedModelError
from xaihub.folders import folder_named
from xaihub.hooks import recording
from xaihub.outputs import LOGITS
from xaihub.passes import target_layer_of
from xaihub.progress import Progress, part, silent
from xaihub.prototype_maps import INSIDE, Looked, look, renamed
from xaihub.prototypes import (
    FittedHead,
    FittedTo,
    HeadSettings,
    Prototype,
    PrototypeLayer,
    PrototypeNetwork,
    Prototypes,
    fit_head,
)
from xaihub.references import ReferenceSet
from xaihub.target_layer import TargetLayer

__all__ = ["Targets", "by_prototypes", "fit_prototypes", "gallery_of", "targets_of"]

SETTINGS = HeadSettings()
_SHARE = 0.8  # of the time goes into the passes


@recording
def fit_prototypes(
    classifier: Classifier,
    pictures: ReferenceSet | LabelledPictures | Looked | str | Path,
    *,
    fitted_to: FittedTo = "predictions",
    settings: HeadSettings = SETTINGS,
    progress: Progress = silent,
) -> Classifier:
    """A classifier that answers by prototypes: patches of the pictures, found on the maps of the target layer.

    It is an explanation of the classifier where it is fitted to what that one predicts, and a classifier of its own
    where it is fitted to the pictures' labels. The network below is shared and stays as it is; the answers may differ
    from its own, and `notices` say how often they do on these pictures. The same pictures give the same prototypes.

    Args:
        pictures: what patches are taken from: references, labelled pictures, a dataset's id or folder; or what `look`
            made of them, where the passes are made already.
        fitted_to: "predictions" or "labels".
        settings: how many prototypes, and how they are found: `HeadSettings(per_class=5)`.

    Raises:
        DatasetError: all pictures are of one class, or there are none.
        UnsupportedModelError: the classifier answers by prototypes already.
        TargetLayerError, ReferencesError, CancelledError: as in `look`.
    """
    if classifier.prototypes is not None:
        raise UnsupportedModelError(
            f"{classifier.repo_id} answers by prototypes already, so there is no other answer to explain with new ones."
            f" Load {classifier.prototypes.black_box}, which it was made from, and fit prototypes to that."
        )
    if isinstance(pictures, Looked):
        looked = pictures
    else:
        rows = open_dataset(pictures) if isinstance(pictures, str | Path) else pictures
        looked = look(classifier, rows, seed=settings.seed, progress=part(progress, 0, _SHARE))
    targets = targets_of(looked, fitted_to)
    head = fit_head(
        looked.maps if len(targets.rows) == len(looked) else looked.maps[list(targets.rows)],
        _wanted(looked, targets, fitted_to),
        len(targets.labels),
        directions=_directions(looked, targets.labels),
        groups=[looked.copies[row] for row in targets.rows],
        settings=settings,
        progress=part(progress, _SHARE, 1),
    )
    return by_prototypes(classifier, looked, targets, head, fitted_to, asdict(settings))


@dataclass(frozen=True, eq=False)
class Targets:
    """What prototypes are fitted to.

    Attributes:
        rows: (n,), which of the pictures have a target; `indices` (n,) which of the labels it is.
        labels: the classes that occur.
    """

    rows: tuple[int, ...]
    indices: Tensor
    labels: tuple[str, ...]


def targets_of(looked: Looked, fitted_to: FittedTo) -> Targets:
    """The pictures' classes, of those that occur.

    Raises:
        DatasetError: there are fewer than two.
    """
    named = looked.predicted if fitted_to == "predictions" else looked.labels
    order = {label: place for place, label in enumerate(looked.classifier.labels)}
    found = {label for label in named if label is not None}
    labels = tuple(sorted(found, key=lambda label: (order.get(label, len(order)), label)))
    if len(labels) < 2:
        which = "predicted" if fitted_to == "predictions" else "labelled"
        alone = repr(labels[0]) if labels else "nothing"
        raise DatasetError(
            f"All {len(looked):,} pictures of {looked.facts['dataset']} are {which} {alone}, and prototypes tell one"
            " class from another. Give pictures of two classes or more."
        )
    rows = tuple(row for row, label in enumerate(named) if label is not None)
    indices = torch.tensor([labels.index(str(named[row])) for row in rows])
    return Targets(rows, indices, labels)


def _wanted(looked: Looked, targets: Targets, fitted_to: FittedTo) -> Tensor:
    """(n,) classes; or (n, C) what the black box gives each, which tells of a picture between two classes as well."""
    if fitted_to == "labels":
        return targets.indices
    kept = [looked.classifier.labels.index(label) for label in targets.labels]
    shares = looked.classifier.probabilities(looked.logits[list(targets.rows)])[:, kept]
    return shares / shares.sum(1, keepdim=True).clamp_min(torch.finfo(shares.dtype).tiny)


def _directions(looked: Looked, labels: Sequence[str]) -> Tensor | None:
    """(C, K) of the labels, if the head that was read knows them all."""
    known = looked.classifier.labels
    if looked.directions is None or not set(labels) <= set(known):
        return None
    return looked.directions[[known.index(label) for label in labels]]


def by_prototypes(
    classifier: Classifier,
    looked: Looked,
    targets: Targets,
    head: FittedHead,
    fitted_to: FittedTo,
    settings: dict[str, Any],
) -> Classifier:
    """The classifier that answers by a fitted head, whose sources are counted among the rows of the targets."""
    layer = target_layer_of(classifier)
    agreeing = _agreement(head.layer, looked, targets)
    views = {each.name: each.view for each in layer.layers}
    network = PrototypeNetwork(classifier.module, views, head.layer.to(classifier.device))
    folder = folder_named(classifier.repo_id)
    made = {
        **looked.facts, "layer": layer.name, "preprocessing": classifier.transform.description, "settings": settings,
        "directions": "head" if _directions(looked, targets.labels) is not None else "discriminant",
        "agreement on these": agreeing,
    }  # fmt: skip
    prototypes = Prototypes(
        network,
        gallery_of(looked, targets, head),
        targets.labels,
        fitted_to=fitted_to,
        black_box=folder.resolve().name if folder else classifier.name,
        black_box_labels=classifier.labels,
        made=made,
        black_box_reading=classifier.reading,
    )
    return replace(
        classifier, module=network, labels=targets.labels, target_layer=_below(layer), activation="softmax",
        reading=LOGITS, repo_id=f"prototypes on {prototypes.black_box}", revision=None, prototypes=prototypes,
        facts={**classifier.facts, "prototypes": len(prototypes.gallery)},
        notices=(*classifier.notices, _in_words(prototypes)),
    )  # fmt: skip


def gallery_of(looked: Looked, targets: Targets, head: FittedHead) -> tuple[Prototype, ...]:
    """(P,), the picture and the cell of each prototype."""
    grid = looked.maps.shape[2], looked.maps.shape[3]
    rows = [targets.rows[source.row] for source in head.sources]
    owners = head.layer.settings.owners
    stored = {row: looked.stored(row) for row in sorted(set(rows))}
    return tuple(
        Prototype(owner, looked.keys[row], cell, grid, looked.digests[row], stored[row], looked.addresses[row])
        for owner, row, (_, cell) in zip(owners, rows, head.sources, strict=True)
    )


def _agreement(layer: PrototypeLayer, looked: Looked, targets: Targets) -> float | None:
    """Of the pictures it was made from, the share that it calls what the classifier does; None with other classes."""
    if not set(targets.labels) <= set(looked.classifier.labels):
        return None
    with torch.no_grad():
        answers = torch.cat([layer(some).argmax(1) for some in looked.maps.split(looked.classifier.batch)])
    said = [targets.labels[index] for index in answers.tolist()]
    return sum(one == other for one, other in zip(said, looked.predicted, strict=True)) / len(said)


def _below(layer: TargetLayer) -> TargetLayer:
    """The target layer as it is called inside the new network, of which nothing lies beside it or after it."""
    others = layer.alternatives
    after = next((place + 1 for place, other in enumerate(others) if other.name == layer.name), 0)
    reason = "The prototypes are compared with the places of this layer, and with nothing else."
    inside = replace(layer, proof="fused" if layer.parts else "bottleneck", reason=reason, alternatives=others[after:])
    return renamed(inside, lambda name: INSIDE + name)


def _in_words(made: Prototypes) -> str:
    what = "what it predicts" if made.fitted_to == "predictions" else "the pictures' labels"
    agreeing, lacking = made.made["agreement on these"], len(set(made.black_box_labels) - set(made.labels))
    agrees = "" if agreeing is None else (
        f" On these pictures it says what {made.black_box} says in {agreeing:.0%}; of others expect less."
    )  # fmt: skip
    without = f" {lacking:,} classes of {made.black_box} have no prototype here." if lacking else ""
    return (
        f"It answers by {len(made.gallery)} prototypes of {len(made.labels)} classes, which are patches of"
        f" {made.made['dataset']}. They were put on {made.black_box} and fitted to {what}.{agrees}{without}"
    )
