"""From an answer to the rows of examples beside it, and to the smallest change, which comes later."""

from typing import TYPE_CHECKING

import numpy as np

from xaihub.errors import ReferencesError
from xaihub.ui.asking import Asked
from xaihub.ui.desk_examples import CHANGE, Examples
from xaihub.ui.desk_shown import example_map, example_methods
from xaihub.ui.drawing import TWO_CLASSES, dialog
from xaihub.ui.drawing_examples import (
    CELL,
    badge,
    change_shown,
    here_of,
    quality,
    regions_in_words,
    section,
    side_by_side,
    source_of,
    tile,
)
from xaihub.ui.words import alarm, note

if TYPE_CHECKING:
    from xaihub.records import Evidence
    from xaihub.spaces import Space

__all__ = ["beside", "change_row", "found_shown"]

TWINS = ("twins", "lookalikes")
TITLES = {"twins": "Decided alike", "lookalikes": "Looks alike"}
LOOKING = "Looking for it: the classifier is asked about pictures with more and more cells of another."
WAITS = "It has not been looked for yet: the button below does."


def beside(asked: Asked) -> str:
    """The rows of examples: those of methods that search, and the further pieces of the method that is large."""
    shown = [name for name in example_methods() if name in asked.explanation.evidence]
    twins = [drawn for name in TWINS if name in shown and (drawn := _row(asked, name))]
    rest = [name for name in shown if name not in (*TWINS, "counterfactuals", CHANGE)]
    if len(asked.explanation.evidence.get(asked.method, ())) > 1:
        rest.append(asked.method)
    rows = [
        side_by_side(twins),
        _row(asked, "counterfactuals") if "counterfactuals" in shown else "",
        *(_row(asked, name) for name in rest),
    ]
    drawn = "".join(rows)
    signed = any(one.signed is not None for found in asked.explanation.evidence.values() for one in found[:1])
    opens = drawn or asked.references is not None  # the smallest change opens in it too
    return _told(asked) + drawn + (dialog(TWO_CLASSES, signed=signed, mixed=True) if opens else "")


def change_row(asked: Asked, desk: Examples, *, waits: bool = False) -> str:
    """The smallest change, the sentence that there is none, or that it is being looked for.

    Args:
        waits: it was stopped.
    """
    from xaihub import METHODS

    if CHANGE not in example_methods() or asked.references is None or asked.query is None:
        return ""
    found = asked.explanation.evidence.get(CHANGE)
    says = METHODS[CHANGE].summary
    title = "The smallest change"
    if found is None:
        return section(CHANGE, title, says, "", notes=[LOOKING if desk.is_soon(asked) and not waits else WAITS])
    notes = asked.explanation.notes.get(CHANGE, ())
    drawn = change_shown(asked.explanation, found[0], _giver(asked, found[0])) if found else ""
    return section(CHANGE, title, says, "", notes=notes, more=drawn)


def found_shown(found: "tuple[Evidence, ...]", text: str) -> str:
    """The row of what a search with words found."""
    says = "Best first. The similarity of words and pictures is small even where they fit."
    tiles = "".join(tile(one, f"{text}, {i} of {len(found)}") for i, one in enumerate(found, 1))
    return section("words", f"References for “{text}”", says, tiles)


def _told(asked: Asked) -> str:
    """Why there are no examples, and what else must be said of all of them."""
    from xaihub import METHODS

    other = example_map(asked.method)
    method, carried = METHODS[asked.method].title, METHODS[other].title
    maps = asked.references is not None and other != asked.method
    return (
        _trouble(asked)
        + note(asked.told)
        + (note(f"The heatmaps of the twins are {carried}'s. {method} was made for yours only.") if maps else "")
    )


def _trouble(asked: Asked) -> str:
    """References of another classifier are no error: the button below helps."""
    if asked.foreign is not None:
        made, here = asked.foreign.made, asked.explanation.provenance
        return note(
            f"The chosen references hold {made.dataset} as {made.classifier} sees it at layer {made.target_layer}, and"
            f" this answer is {here['model']}'s at layer {here['layer']}: distances between the two would mean nothing."
            " Embed their pictures for this answer with the button below, or choose the layer or references that fit."
        )
    return alarm(asked.trouble) if asked.trouble else ""


def _row(asked: Asked, name: str) -> str:
    """One method's cards; "" where it neither shows nor says anything."""
    from xaihub import METHODS

    found, notes = asked.explanation.evidence.get(name, ()), asked.explanation.notes.get(name, ())
    if not found and not notes:
        return ""
    title = TITLES.get(name, METHODS[name].title)
    tiles = [_tile(asked, name, one, f"{title}, {i} of {len(found)}") for i, one in enumerate(found, 1)]
    space = _space(asked, name)
    measured = asked.references.fidelity.get(space.name) if asked.references is not None and space else None
    more = _agreement(asked, measured) if found and space else ""
    more += f'<p class="xh-legend">{CELL}</p>' if any(one.matches for one in found) else ""
    return section(name, title, _says(asked, name, space), "".join(tiles), notes=notes, more=more)


def _agreement(asked: Asked, measured: object) -> str:
    """Return how far the nearest agree with the classifier, or that the class has too few references to tell."""
    from xaihub.fidelity import of_class, too_few

    if asked.references is None:
        return ""
    why = too_few(of_class(asked.references, asked.explanation.prediction.index, np.zeros(0, dtype=np.int64)))
    return note(f"Whether neighbours agree with the classifier is not known: {why}.") if why else badge(measured)


def _tile(asked: Asked, name: str, evidence: "Evidence", title: str) -> str:
    facts, size = evidence.facts, asked.explanation.image.size
    source = source_of(asked.references, evidence)
    if evidence.matches:
        here = here_of(size, boxes=evidence.matches, numbered=True, says="Your picture.")
        return tile(evidence, title, here=here, words=regions_in_words(evidence), source=source)
    other = str(facts.get("against") if name == "semifactuals" else facts.get("predicted"))
    contrast = asked.contrasts.get(other) if "against" in facts else None
    below = quality(evidence) if name == "counterfactuals" else ""
    if contrast is None:
        return tile(evidence, title, below=below, source=source)
    own = asked.explanation.prediction.label
    says = f"Your picture: what speaks for {own!r} rather than {other!r}."
    words = f"{says} Beside it: what speaks for {facts['predicted']!r} rather than {facts['against']!r}."
    here = here_of(size, contrast=contrast, says=says)
    return tile(evidence, title, here=here, words=words, below=below, source=source)


def _says(asked: Asked, name: str, space: "Space | None") -> str:
    """What the row shows, in a sentence."""
    from xaihub import METHODS

    if space is not None:
        return f"{space.alike[:1].upper()}{space.alike[1:]}{', whatever it looks like' * (space.kind == 'decided')}."
    if name == "semifactuals":
        return f"Even if it looked like this, still {asked.explanation.prediction.label!r}."
    return METHODS[name].summary


def _space(asked: Asked, name: str) -> "Space | None":
    """By whose eye the twins of a row are alike."""
    if asked.references is None or name not in TWINS:
        return None
    if name == "twins":
        return asked.references.space()
    return next((space for space in asked.references.spaces.values() if space.kind == "looks"), None)


def _giver(asked: Asked, change: "Evidence") -> "Evidence | None":
    """The reference whose cells were taken: its card is shown already, or else its picture."""
    from xaihub.records import Evidence

    key = change.facts.get("key")
    for shown in asked.explanation.evidence.get("counterfactuals", ()):
        if shown.facts.get("key") == key:
            return shown
    references = asked.references
    keys = list(references.keys) if references is not None else []
    if references is None or key not in keys:
        return None
    row = keys.index(key)
    try:
        picture = references.picture(row)
    except ReferencesError:
        return None
    predicted = references.class_names[references.predicted[row]]
    return Evidence(picture, f"Predicted {predicted!r} at {references.probability[row]:.0%}.")
