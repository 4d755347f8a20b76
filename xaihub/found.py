"""What twins and counterfactuals share: where the query lies among the references, and how a row is shown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xaihub.embedders import EMBEDDERS, Embedder
from xaihub.errors import ReferencesError, ReferencesMismatchError, UnknownNameError, XaihubError
from xaihub.hub_embedders import load_embedder
from xaihub.images import perceptual_hash, pixel_digest
from xaihub.methods import Query
from xaihub.passes import Pass, tap
from xaihub.records import Box, Evidence, Facts
from xaihub.references import Neighbour, ReferenceSet
from xaihub.spaces import Space

__all__ = ["GREY", "Place", "Seen", "distance", "evidence_of", "left_out", "none_of", "place_of", "see"]

GREY = (200, 200, 200)  # where a picture would be


@dataclass(frozen=True, eq=False)
class Place:
    """Where a query lies among the references.

    Attributes:
        space: the name of the space, that of its embedder.
        vector: (K,), its embedding.
        weights: (K,), what its class takes of each dimension; None where all count alike.
    """

    references: ReferenceSet
    space: str
    embedder: Embedder
    vector: Tensor
    weights: Tensor | None

    def nearest(
        self,
        k: int,
        *,
        to: Tensor | None = None,
        predicted: int | None = None,
        predicted_not: int | None = None,
        leave_out: Sequence[int] | NDArray[np.int64] = (),
    ) -> list[Neighbour]:
        """The k rows nearest to the query, or to another vector (K,), as the query's class sees them."""
        return self.references.nearest(
            self.vector if to is None else to,
            k,
            space=self.space,
            weights=self.weights,
            predicted=predicted,
            predicted_not=predicted_not,
            leave_out=leave_out,
        )

    def vectors(self, rows: Sequence[int]) -> Tensor:
        """(n, K) of rows, of length one before they are weighed."""
        return self.references.index(self.space).vectors(rows)

    def distances(self, one: Tensor, others: Tensor) -> list[float]:
        """How far a vector (K,) lies from each of others (n, K), as the query's class sees them."""
        weights = torch.ones_like(one) if self.weights is None else self.weights
        one, others = (torch.nn.functional.normalize(each.float() * weights, dim=-1) for each in (one, others))
        return [distance(similarity) for similarity in (others @ one).tolist()]


def distance(similarity: float) -> float:
    """From 0 to 2, how far two vectors of length one lie apart whose cosine this is."""
    return math.sqrt(max(0.0, 2 - 2 * similarity))


def place_of(query: Query, space: str | None = None) -> Place:
    """Where the query lies in a space of its references, the first if none is named, as its predicted class sees it.

    Raises:
        UnknownNameError: the references have no such space, or its embedder is a folder's and was not handed over.
        ReferencesMismatchError: the references belong to another classifier, or their vectors to another embedder.
        HubError, UnsupportedModelError: the space's embedder cannot be had from the Hub.
    """
    references = query.references
    if references is None:
        raise ValueError("Twins and counterfactuals need references; give `references=`.")
    references.check(query.classifier)
    chosen = references.space(space)
    embedder = _embedder_of(query, chosen)
    weights = embedder.weigh(query.batch, [query.prediction.index])
    vector = embedder.embed(query.batch)[0].detach().float().cpu()
    width = references.index(chosen.name).width
    if width != len(vector):
        raise ReferencesMismatchError(
            f"The vectors of these references by {chosen.name!r} have {width:,} numbers, but that of your picture has"
            f" {len(vector):,}, so none can be compared. Build the references again."
        )
    own = None if weights is None else weights[0].detach().float().cpu()
    return Place(references, chosen.name, embedder, vector, own)


def _embedder_of(query: Query, space: Space) -> Embedder:
    """Ours by its name, whatever revision the references claim; else one that was handed over; else the Hub's."""
    name, revision = space.name, space.revision
    if name in EMBEDDERS:
        return EMBEDDERS[name]
    handed = {(each.name, each.revision): each for each in query.embedders}
    if (name, revision) in handed:
        return handed[name, revision]
    key = "embedder", name, revision  # another revision is another embedder
    if key not in query.memory and "/" not in name:
        others = [f"{given!r} at {at}" for given, at in handed]
        raise UnknownNameError(
            f"There is no embedder called {name!r} here. If it is a folder of yours, hand it over as"
            f" `embedders=[load_embedder(folder)]`, as it was (revision {revision})."
            + (f" You gave {', '.join(others)}." if others else "")
        )
    at = f"{name}@{revision}" if revision else name
    embedder: Embedder = query.once(key, lambda: load_embedder(at, local=False, progress=query.progress))
    return embedder


def left_out(query: Query, place: Place, name: str) -> NDArray[np.int64]:
    """The query itself and its near copies among the references; that they are left out is said."""
    image, references = query.view.image, place.references
    rows = references.duplicates(place.vector, pixel_digest(image), perceptual_hash(image), lambda: image)
    if len(rows):
        some = ", ".join(references.keys[row] for row in rows[:3])
        query.note(name, f"This picture, or a near copy, is among the references ({some}) and was left out.")
    return rows


def none_of(references: ReferenceSet, index: int) -> str:
    """Why no reference of a predicted class was found, without the full stop."""
    label = references.class_names[index]
    if index in references.slices:
        return f"The references predicted {label!r} are all this picture itself or near copies"
    return f"None of the {len(references):,} references is predicted {label!r}"


@dataclass(frozen=True, eq=False)
class Seen:
    """Rows whose pictures are there, and the classifier's tapped pass over them; no pass where there are none."""

    rows: tuple[int, ...]
    images: tuple[Image.Image, ...]
    passed: Pass | None
    size: tuple[int, int]  # (H, W) of the pixels


def see(query: Query, references: ReferenceSet, rows: Sequence[int], name: str) -> Seen:
    """The rows' pictures and one pass over them; kept, so another map needs no other pass. Missing ones are said."""
    key = ("neighbours", id(references), query.classifier.target_layer, tuple(rows))
    if key not in query.memory:
        there, missing = _pictures(query, references, rows)
        size, passed = (query.view.pixels.shape[2], query.view.pixels.shape[3]), None
        if there:
            pixels = torch.stack([query.classifier.transform.pixels_of(image) for image in there.values()])
            size = (pixels.shape[2], pixels.shape[3])
            with tap(query.classifier) as run:
                passed = run(pixels)
        query.memory[key] = Seen(tuple(there), tuple(there.values()), passed, size), missing, references
    seen, missing, _ = query.memory[key]  # the references are held too, so that their id stays theirs
    if missing:
        query.note(name, f"{missing} Such rows are named here without picture, heat and regions.")
    found: Seen = seen
    return found


def _pictures(query: Query, references: ReferenceSet, rows: Sequence[int]) -> tuple[dict[int, Image.Image], str]:
    """Row -> its picture where it is there, and why the first missing one is not.

    What others published may be broken, or no crop that the classifier sees, and as large as they like.
    """
    there: dict[int, Image.Image] = {}
    missing = ""
    for row in rows:
        try:
            picture = references.picture(row)
        except ReferencesError as error:
            missing = missing or str(error)
            continue
        except XaihubError as error:
            missing = missing or f"The picture of {references.keys[row]} cannot be used. {error}"
            continue
        if _is_crop(query, picture) and all(picture.size == other.size for other in there.values()):
            there[row] = picture
        else:
            wide, high = picture.size
            missing = missing or (
                f"The picture of {references.keys[row]} is {wide:,} x {high:,} pixels, which is no crop that the"
                " classifier sees."
            )
    return there, missing


def _is_crop(query: Query, picture: Image.Image) -> bool:
    """Whether the classifier sees pictures of this size: the query's, or where proportions are kept, one it keeps."""
    if picture.size == query.view.image.size:
        return True
    height, width = query.classifier.transform(picture).shape[1:]
    return picture.size == (width, height)


def evidence_of(
    query: Query,
    place: Place,
    kind: str,
    neighbour: Neighbour,
    seen: Seen,
    heat: tuple[Tensor, Tensor] | None,
    *,
    says: str = "",
    facts: Facts | None = None,
    boxes: tuple[tuple[Box, ...], tuple[Box, ...]] = ((), ()),
) -> Evidence:
    """A row as evidence: its picture, what the classifier and the dataset say of it, and what a method found.

    Args:
        heat: (N, h, w) raw and (N, H, W) shown, of the pictures in `seen`.
        says: sentences that the caption ends with. `facts`: the method's own.
        boxes: on the row's picture, and the one on the query's for each of them.
    """
    references, row = place.references, neighbour.row
    here = seen.rows.index(row) if row in seen.rows else None
    predicted = references.class_names[references.predicted[row]]
    label, probability = references.labels[row], float(references.probability[row])
    agrees = label == predicted if label is not None and label in references.class_names else None
    truth = "no true label" if label is None else f"truly {label!r}"
    verdict = {True: " (right)", False: " (wrong)", None: ""}[agrees]
    said = f"Predicted {predicted!r} at {probability:.0%}, {truth}{verdict}; similarity {neighbour.similarity:.3f}."
    return Evidence(
        seen.images[here] if here is not None else Image.new("RGB", query.view.image.size, GREY),
        f"{said} {says}".strip(),
        score=neighbour.similarity,
        heatmap=None if here is None or heat is None else heat[1][here].cpu().numpy(),
        raw=None if here is None or heat is None else heat[0][here].detach().float().cpu().numpy(),
        boxes=boxes[0],
        matches=boxes[1],
        facts={
            "kind": kind,
            "key": references.keys[row],
            "predicted": predicted,
            "probability": probability,
            "label": label,
            "label agrees": agrees,
            "similarity": neighbour.similarity,
            "distance": distance(neighbour.similarity),
            "embedder": place.space,
            "picture": here is not None,
            **(facts or {}),
        },
    )
