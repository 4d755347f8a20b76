"""By whose eyes the references were seen, and a search in them with words, by an eye that reads as well."""

from dataclasses import replace
from typing import TYPE_CHECKING

from xaihub.errors import CancelledError, ReferencesError, XaihubError
from xaihub.progress import Progress
from xaihub.ui.tokens import token_for

if TYPE_CHECKING:
    from xaihub.methods import Query
    from xaihub.records import Evidence
    from xaihub.references import Neighbour, ReferenceSet
    from xaihub.spaces import Space
    from xaihub.ui.desk import Desk

__all__ = ["FOUND", "found_by_words", "reader_of", "seen_by"]

FOUND = 6  # pictures that a search with words shows
LOOKED_AT = 2  # networks that are asked about whether they read; references may name many


def seen_by(
    desk: "Desk", query: "Query", references: "ReferenceSet", token: str, progress: Progress
) -> "tuple[ReferenceSet, str]":
    """The references with the spaces that can be searched, whose embedders the query then has; and why not the others.

    The names of embedders come from whoever published the references: they are loaded here as a visitor's are, with the
    visitor's token and from the Hub only, and never by the methods themselves. Only two are: the first space's, for
    twins, and that of the first by looks, for what looks alike. Other spaces of the Hub no method searches: they go.

    Raises:
        XaihubError: the space that is searched first has an embedder that cannot be had.
    """
    from xaihub.embedders import EMBEDDERS

    first, looks = references.space().name, _of_looks(references)[:1]
    others = [name for name in references.spaces if name not in (first, *looks, *EMBEDDERS)]
    there = {name: space for name, space in references.spaces.items() if name not in others}
    told = _left_away(others)
    for name in [name for name in there if name not in EMBEDDERS]:  # of our own names any revision is ignored
        space = there[name]
        try:
            embedder = desk.embedder(_pinned(space), token, progress)
        except CancelledError:
            raise
        except XaihubError as error:
            if name == first:
                raise
            told = f"What looks alike to {name} is not shown. {error} {told}".strip()
            del there[name]
        else:
            query.memory["embedder", name, space.revision] = embedder
    return (replace(references, spaces=there) if told else references), told


def _of_looks(references: "ReferenceSet") -> list[str]:
    return [name for name, space in references.spaces.items() if space.kind == "looks"]


def _left_away(names: list[str]) -> str:
    """That spaces are not searched, in words; "" if all are."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    listed = ", ".join(name[:120] for name in names[:3])
    return f"These references were also embedded by {listed}{more}, which no row here shows." if names else ""


def reader_of(desk: "Desk", references: "ReferenceSet", token: str) -> str:
    """The first space of the references whose embedder reads words; "" for none.

    Only the small files of the first two that judge looks are looked at.
    """
    from xaihub.embedders import EMBEDDERS
    from xaihub.hub_embedders import plan_embedder

    for name in [name for name in _of_looks(references) if name not in EMBEDDERS][:LOOKED_AT]:
        space = references.spaces[name]
        try:
            asks_with = token_for("model", _pinned(space), token, desk.settings)
            plan_embedder(_pinned(space), token=asks_with, local=False, words=True)
        except CancelledError:
            raise
        except XaihubError:  # it reads none, or is gone
            continue
        return name
    return ""


def found_by_words(
    desk: "Desk", references: "ReferenceSet", reader: str, text: str, token: str, progress: Progress
) -> "tuple[Evidence, ...]":
    """The references that fit the words best.

    Raises:
        XaihubError: the words are too many, or the embedder cannot be had.
    """
    from xaihub.word_search import search_words

    embedder = desk.embedder(_pinned(references.space(reader)), token, progress, words=True)
    progress(0.9, f"Searching with {text!r}")
    found = search_words(references, embedder, text, k=FOUND)  # type: ignore[arg-type]
    return tuple(_evidence(references, neighbour) for neighbour in found)


def _pinned(space: "Space") -> str:
    return f"{space.name}@{space.revision}" if space.revision else space.name


def _evidence(references: "ReferenceSet", neighbour: "Neighbour") -> "Evidence":
    from PIL import Image

    from xaihub.records import Evidence

    row = neighbour.row
    try:
        image, there = references.picture(row), True
    except ReferencesError:
        image, there = Image.new("RGB", (64, 64), (200, 200, 200)), False
    predicted, label = references.class_names[references.predicted[row]], references.labels[row]
    truth = "no true label" if label is None else f"truly {label!r}"
    return Evidence(
        image,
        f"Predicted {predicted!r} at {references.probability[row]:.0%}, {truth}; fits the words by"
        f" {neighbour.similarity:.3f}.",
        score=neighbour.similarity,
        facts={"kind": "words", "key": references.keys[row], "predicted": predicted, "label": label, "picture": there},
    )
