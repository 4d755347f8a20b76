"""Twins and counterfactuals: one search over the references, different masks."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from xaihub.cams import CAMS
from xaihub.embedders import EMBEDDERS
from xaihub.images import perceptual_hash, pixel_digest
from xaihub.maps import shown
from xaihub.methods import Query, method
from xaihub.passes import Pass, tap
from xaihub.records import Evidence, Heatmap
from xaihub.references import Neighbour, ReferenceSet

__all__ = ["counterfactuals", "twins"]

ANY = "any"


@method("twins", needs=("target layer", "references"))
def twins(query: Query) -> tuple[Evidence, ...]:
    """The references nearest to the picture among those that the classifier gives the same class.

    Twin systems: Kenny & Keane, 2019, "Twin-systems to explain artificial neural networks using case-based reasoning".
    """
    references = _references(query)
    predicted = query.prediction.index
    label = query.classifier.labels[predicted]
    found = references.nearest(_embedding(query), query.k, predicted=predicted, leave_out=_left_out(query, "twins"))
    if not found:
        query.note(
            "twins", f"None of the {len(references):,} references is predicted {label!r}, so there is no twin to show."
        )
    return _shown(query, "twin", found)


@method("counterfactuals", needs=("target layer", "references"))
def counterfactuals(query: Query) -> tuple[Evidence, ...]:
    """The references nearest to the picture among those that the classifier gives another class.

    Nearest unlike neighbours (Dasarathy, 1991), by the classifier's own prediction: filtered by the dataset's label,
    many would be pictures that it calls the same. The class is the runner-up unless another one is asked for.
    """
    references, predicted = _references(query), query.prediction.index
    embedding, out = _embedding(query), _left_out(query, "counterfactuals")
    wanted = _wanted(query)
    found: list[Neighbour] = []
    if wanted is not None:
        found = references.nearest(embedding, query.k, predicted=wanted, leave_out=out)
        if not found:
            none = f"None of the {len(references):,} references is predicted {query.classifier.labels[wanted]!r}"
            if query.against is not None:
                query.note("counterfactuals", f"{none}. Ask for another class, or for any other.")
                return ()
            query.note("counterfactuals", f"{none}, the runner-up, so the nearest of any other class are shown.")
    if not found:
        found = references.nearest(embedding, query.k, predicted_not=predicted, leave_out=out)
    if not found:
        label = query.classifier.labels[predicted]
        query.note(
            "counterfactuals", f"All references are predicted {label!r}: there is no other class to compare with."
        )
    return _shown(query, "counterfactual", found)


def _references(query: Query) -> ReferenceSet:
    if query.references is None:
        raise ValueError("Twins and counterfactuals need references; give `references=`.")
    query.references.check(query.classifier)
    return query.references


def _wanted(query: Query) -> int | None:
    """The class that counterfactuals should be of; None for any other than the predicted one."""
    if query.against == ANY:
        return None
    if query.against is None:
        return query.prediction.runner_up if len(query.classifier.labels) > 1 else None
    wanted = query.classifier.class_index(query.against)
    if wanted == query.prediction.index:
        label = query.classifier.labels[wanted]
        query.note(
            "counterfactuals", f"The picture itself is called {label!r}; its nearest of any other class are shown."
        )
        return None
    return wanted


def _embedding(query: Query) -> torch.Tensor:
    assert query.references is not None  # noqa: S101  checked by the caller
    return EMBEDDERS[query.references.made.embedder].embed(query.passed)[0].detach()


def _left_out(query: Query, name: str) -> NDArray[np.int64]:
    """The query itself and its near copies among the references; that they are left out is said."""
    image = query.view.image
    references = _references(query)
    rows = references.duplicates(_embedding(query), pixel_digest(image), perceptual_hash(image))
    if len(rows):
        some = ", ".join(references.keys[row] for row in rows[:3])
        query.note(name, f"This picture, or a near copy, is among the references ({some}) and was left out.")
    return rows


def _shown(query: Query, kind: str, found: Sequence[Neighbour]) -> tuple[Evidence, ...]:
    """Each neighbour with what the classifier says of it, and with its own heatmap for its own class."""
    if not found:
        return ()
    references = _references(query)
    rows = [neighbour.row for neighbour in found]
    images, passed, size = _looked_at(query, references, rows)
    name = query.map if query.map in CAMS else "gradcam"
    raw = CAMS[name](passed.activations, passed.gradients(references.predicted[rows].tolist()))
    maps = shown(raw, size).cpu().numpy()
    return tuple(
        _evidence(references, kind, neighbour, image, heatmap, values)
        for neighbour, image, heatmap, values in zip(found, images, maps, raw.cpu().numpy(), strict=True)
    )


def _looked_at(
    query: Query, references: ReferenceSet, rows: Sequence[int]
) -> tuple[list[Image.Image], Pass, tuple[int, int]]:
    """The neighbours' pictures, one pass over them, and their (H, W); kept, so another map needs no other pass."""
    key = ("neighbours", id(references), query.classifier.target_layer, tuple(rows))
    if key not in query.memory:
        images = [references.picture(row) for row in rows]
        pixels = torch.stack([query.classifier.transform.pixels_of(image) for image in images])
        with tap(query.classifier) as run:
            query.memory[key] = images, run(pixels), (pixels.shape[2], pixels.shape[3]), references
    images, passed, size, _ = query.memory[key]  # the references are held too, so that their id stays theirs
    return images, passed, size


def _evidence(
    references: ReferenceSet, kind: str, neighbour: Neighbour, image: Image.Image, heatmap: Heatmap, raw: Heatmap
) -> Evidence:
    row = neighbour.row
    predicted = references.class_names[references.predicted[row]]
    label, probability = references.labels[row], float(references.probability[row])
    agrees = label == predicted if label is not None and label in references.class_names else None
    truth = "no true label" if label is None else f"truly {label!r}"
    verdict = {True: " (right)", False: " (wrong)", None: ""}[agrees]
    return Evidence(
        image,
        f"Predicted {predicted!r} at {probability:.0%}, {truth}{verdict}; similarity {neighbour.similarity:.3f}.",
        score=neighbour.similarity,
        heatmap=heatmap,
        raw=raw,
        facts={
            "kind": kind,
            "key": references.keys[row],
            "predicted": predicted,
            "probability": probability,
            "label": label,
            "label agrees": agrees,
            "similarity": neighbour.similarity,
            "embedder": references.made.embedder,
        },
    )
