"""The scoring sheet: which prototypes a picture has, and what each of them adds to the logit."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from xaihub.classifier import Classifier
from xaihub.errors import XaihubError
from xaihub.found import GREY
from xaihub.methods import Query, method
from xaihub.prototype_firing import fires_at_home, prototypes_of
from xaihub.prototypes import Prototype, Prototypes, Reading
from xaihub.records import Evidence
from xaihub.regions import Cell, cell_box

__all__ = ["Line", "Sheet", "prototypes", "prototypes_of", "reading_of", "sheet"]

_NOTHING = (
    "Nothing here is recognised: no place of this picture is like any of the {count} prototypes, of any class. The"
    " answer rests on what is added for each class whatever the picture shows, so do not rely on it."
)
_NONE_OF_IT = "No prototype of {label!r} is recognised here, so that its logit is only what is added for any picture."


@dataclass(frozen=True)
class Line:
    """A prototype that a picture has, in the account of one class.

    Attributes:
        prototype: which it is. `owner`: the class it speaks for.
        similarity: how much of it the picture has, as `PrototypeLayer.scores` says. `weight`: of it, for the class.
        points: their product, which is added to the logit.
        cell: the place of the picture that is most like it.
    """

    prototype: int
    owner: int
    similarity: float
    weight: float
    points: float
    cell: Cell


@dataclass(frozen=True)
class Sheet:
    """The account of one class for one picture: the points of all lines and the bias are the logit.

    Attributes:
        lines: most points first; of prototypes that add nothing there is none.
        probability: beside those of all other classes.
        recognised: whether any prototype of any class is there.
    """

    target: int
    lines: tuple[Line, ...]
    bias: float
    logit: float
    probability: float
    recognised: bool

    @property
    def points(self) -> float:
        """Of all lines."""
        return sum(line.points for line in self.lines)


def sheet(classifier: Classifier, reading: Reading, target: int, without: Sequence[int] = ()) -> Sheet:
    """The account of a class for the first picture of a reading.

    Args:
        without: prototypes that are switched off: they add nothing.

    Raises:
        XaihubError: the classifier has no prototypes.
    """
    head = prototypes_of(classifier).network.head
    scores, weights, bias = reading.scores[:1].detach(), head.weights.detach(), head.bias.detach()
    points = head.points(scores, without)[0].detach()  # (C, P)
    logits = points.double().sum(1) + bias.double()
    columns = reading.similarities.shape[3]
    places = reading.similarities[0].flatten(1).argmax(1).tolist()
    lines = [
        Line(
            place,
            head.settings.owners[place],
            float(scores[0, place]),
            float(weights[target, place]),
            float(points[target, place]),
            divmod(places[place], columns),
        )
        for place in points[target].nonzero()[:, 0].tolist()
    ]
    active = scores[0] > 0
    active[list(without)] = False
    return Sheet(
        target,
        tuple(sorted(lines, key=lambda line: -line.points)),
        float(bias[target]),
        float(logits[target]),
        float(classifier.probabilities(logits)[target]),
        bool(active.any()),
    )


def reading_of(query: Query) -> Reading:
    """What the query's one pass tells of its prototypes; no further pass is made."""

    def made() -> Reading:
        head = prototypes_of(query.classifier).network.head
        with torch.no_grad():
            maps = query.activations[None]
            similarities = head.similarities(head.embed(maps))
            scores = head.scores(similarities)
            return Reading(maps, similarities, scores, head.logits(scores), None)

    found: Reading = query.once("prototypes", made)
    return found


@method("prototypes", needs=("target layer", "prototypes"), title="Prototypes")
def prototypes(query: Query) -> tuple[Evidence, ...]:
    """The patches of known pictures that the picture is like, and the points that each adds for the class.

    This looks like that (Chen et al., 2019): the points of all and the class's bias are the logit.
    """
    found = sheet(query.classifier, reading_of(query), query.target)
    label = query.classifier.labels[query.target]
    if not found.recognised:
        query.note("prototypes", _NOTHING.format(count=len(prototypes_of(query.classifier).gallery)))
    elif not found.lines:
        query.note("prototypes", _NONE_OF_IT.format(label=label))
    return tuple(_evidence(query, found, line) for line in found.lines)


def _evidence(query: Query, account: Sheet, line: Line) -> Evidence:
    made = prototypes_of(query.classifier)
    source = made.gallery[line.prototype]
    image, missing = _picture(query, source)
    fired = None
    if not missing and image.size == query.view.image.size:
        fired = fires_at_home(query.classifier, line.prototype, image)
    grid = reading_of(query).similarities.shape[2:]
    return Evidence(
        image,
        f"{_in_words(made, source, line)} {missing}".strip(),
        score=line.similarity,
        heatmap=None if fired is None else fired.heatmaps[0].numpy(),
        raw=None if fired is None else fired.raw[0].numpy(),
        boxes=(cell_box(source.cell, source.grid, image.size),),
        matches=(cell_box(line.cell, (grid[0], grid[1]), query.view.image.size),),
        facts={
            "kind": "prototype",
            "prototype": line.prototype,
            "class": made.labels[source.owner],
            "similarity": line.similarity,
            "weight": line.weight,
            "points": line.points,
            "points of all": account.points,
            "bias": account.bias,
            "logit": account.logit,
            "probability": account.probability,
            "key": source.key,
            "source": source.source,
            "picture": not missing,
        },
    )


def _in_words(made: Prototypes, source: Prototype, line: Line) -> str:
    pooled = made.network.head.settings.pooled
    over = f" (the mean of its {pooled} most similar places)" if pooled > 1 else ""
    takes = f"adds {line.points:.2f} points" if line.points > 0 else f"takes {-line.points:.2f} points away"
    return (
        f"It looks like this place of {source.key} (a patch for {made.labels[source.owner]}): similarity"
        f" {line.similarity:.2f}{over} times weight {line.weight:.2f} {takes}."
    )


def _picture(query: Query, source: Prototype) -> tuple[Image.Image, str]:
    """The known picture, and why it is not there."""
    try:
        return source.picture, ""
    except XaihubError as error:  # what others published may be broken, or left out
        return Image.new("RGB", query.view.image.size, GREY), str(error)
