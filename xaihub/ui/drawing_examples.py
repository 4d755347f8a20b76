"""Examples as HTML: rows of cards with what they share with the visitor's picture, and how good each one is.

Everything that came from the Hub or a visitor is escaped here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

from xaihub.ui.drawing import boxes_in_words, boxes_over, card, heats, picture_uri, stack
from xaihub.ui.words import percent

if TYPE_CHECKING:
    from xaihub.records import Box, Evidence, Explanation
    from xaihub.references import ReferenceSet

__all__ = [
    "CELL", "badge", "change_shown", "here_of", "link_to", "quality", "regions_in_words", "section", "side_by_side",
    "source_of", "tile",
]  # fmt: skip

CELL = "A box is a cell of the map with its margin, not all that the cell can see."


def section(name: str, title: str, says: str, body: str, *, notes: Sequence[str] = (), more: str = "") -> str:
    """A row with its title and what it shows in words.

    Args:
        body: HTML of its cards. `more`: HTML between the words and the cards.
    """
    told = "".join(f'<p class="xh-note">{escape(note)}</p>' for note in notes)
    cards = f'<div class="xh-cards">{body}</div>' if body else ""
    return (
        f'<section class="xh-row" data-method="{escape(name)}"><h3>{escape(title)}</h3>'
        f'<p class="xh-sub">{escape(says)}</p>{more}{told}{cards}</section>'
    )


def side_by_side(sections: Sequence[str]) -> str:
    """Two rows as two columns; on a telephone one below the other."""
    return f'<div class="xh-beside">{"".join(sections)}</div>' if len(sections) > 1 else "".join(sections)


def tile(
    evidence: "Evidence", title: str, *, here: str = "", words: str = "", below: str = "", source: str | None = None
) -> str:
    """A card with what stands below it.

    Args:
        here: HTML that the opened card lays over the visitor's picture, as `here_of` makes it.
        words: what the opened card says of both pictures.
        below: HTML. `source`: the address of the picture's row, where the picture itself may not be shown.
    """
    return f'<div class="xh-tile">{card(evidence, title, here=here, words=words)}{below}{link_to(source)}</div>'


def here_of(
    size: tuple[int, int],
    *,
    boxes: "Sequence[Box]" = (),
    numbered: bool = False,
    contrast: "Evidence | None" = None,
    says: str = "",
) -> str:
    """What an opened card lays over the visitor's picture: boxes, and a map in place of the large one.

    Args:
        size: width and height of the visitor's crop. `contrast`: whose map is laid there; without one the map stays.
        says: what the visitor's picture then shows.
    """
    heat, signed = heats(contrast) if contrast is not None else ("", "")
    described = f"{says} {boxes_in_words(boxes, size, numbered=numbered)}".strip()
    own = " data-own" if contrast is not None else ""
    return (
        f'<template class="xh-here"{own} data-signed="{"yes" if signed else ""}" data-says="{escape(says)}"'
        f' data-described="{escape(described)}">{heat}{boxes_over(boxes, size, numbered=numbered)}</template>'
    )


def regions_in_words(evidence: "Evidence") -> str:
    """What each pair of boxes carries on either picture; "" where there is none."""
    told = []
    for i in range(1, len(evidence.matches) + 1):
        share, twin = evidence.facts.get(f"pair {i} share"), evidence.facts.get(f"pair {i} twin share")
        if isinstance(share, float) and isinstance(twin, float):
            told.append(f"Region {i} carries {share:.0%} of the evidence in your picture and {twin:.0%} in this one.")
    return f"{' '.join(told)} The same number and colour mark a pair. {CELL}" if told else ""


def badge(figures: object) -> str:
    """How far the nearest of a space agree with the classifier, as `fidelity.measure` found; "" if nobody knows.

    A space whose vectors know the class agrees by construction: that is no merit, and is not shown. Nor is anything
    odd: whoever published the references wrote the figures.
    """
    count = figures.get("n_of_enough", figures.get("n")) if isinstance(figures, Mapping) else None
    if not isinstance(figures, Mapping) or figures.get("leak_free") is not True or not _is_count(count):
        return ""
    out = " that were left out" if figures.get("held_out") else ", each left out of its own search"
    value, low, high = _interval(figures.get("agreement@3"))
    if value is None or low is None or high is None:
        return ""
    lines = [
        (f"Agreement of the {f'{k} nearest' if k > 1 else 'nearest'}", _shares(figures.get(f"agreement@{k}")))
        for k in (1, 3, 5)
    ]
    lines += [
        ("Probabilities differ from the 3 nearest by", _shares(figures.get("probability_error@3"))),
        ("Rank correlation of the lead over the second class", _plain(figures.get("margin_correlation"))),
    ]
    return (
        f'<details class="xh-badge"><summary>The 3 nearest agree with the classifier on <strong>{value:.0%}</strong>'
        f" ({low * 100:.0f} to {high * 100:.0f}) of {count:,} pictures{out}.</summary>{_table(lines)}</details>"
    )


def quality(evidence: "Evidence") -> str:
    """The quality card of a counterfactual: a line that says the chief thing, and opens to a small table."""
    facts = evidence.facts
    agrees = facts.get("label agrees")
    label = "yes" if agrees is True else f"no: it is {facts.get('label')!r}" if agrees is False else "not known"
    typical = facts.get("plausibility")
    lines = [
        ("Is it really called so?", _asked_again(facts)),
        ("The dataset agrees", label),
        ("Distance to your picture", _number(facts.get("distance"))),
        ("Your picture lies", _lies(facts)),
        ("Typical of its class", _typical(typical)),
    ]
    doubt = (
        f'<p class="xh-doubt">The dataset calls it {escape(repr(facts.get("label")))}: the classifier may be wrong'
        " about this picture.</p>"
        if agrees is False
        else ""
    )
    return f'{doubt}<details class="xh-quality"><summary>How good is it?</summary>{_table(lines)}</details>'


def change_shown(explanation: "Explanation", change: "Evidence", giver: "Evidence | None") -> str:
    """Three pictures: the visitor's, the composite with its swapped cells outlined, and the one they come from."""
    facts, size = change.facts, explanation.image.size
    own, target = str(facts["original"]), str(facts["target"])
    said = (
        f"Swapping <strong>{facts['cells']} of {facts['of']} cells</strong> turns {escape(repr(own))}"
        f" {_percent(facts['original before'])} into {escape(repr(target))} {_percent(facts['target after'])}:"
        " verified by running the classifier on this very picture."
    )
    here = here_of(size, boxes=change.boxes, contrast=_bare(change), says="Your picture, with the cells that go.")
    words = "The outlined cells are those that were swapped; but for their soft edges, everything else is the same."
    where = boxes_in_words(change.boxes, size)
    yours = (
        f'<figure class="xh-tile xh-plain"><span class="xh-stack" style="aspect-ratio:{size[0]}/{size[1]}">'
        f'<img alt="Your picture, as the model saw it" src="{picture_uri(explanation.image)}"></span>'
        f'<figcaption class="xh-caption">Yours: {escape(repr(own))} {_percent(facts["original before"])}.</figcaption>'
        "</figure>"
    )
    after = (
        f"{target!r} {_percent(facts['target after'])}, {own!r} {_percent(facts['original after'])}."
        " The outlined cells are swapped."
    )
    composite = card(change, "The smallest change", here=here, words=words, caption=after)
    from_there = ""
    if giver is not None:
        drawn = stack(giver, f"The picture that the cells come from. {where}", boxes=change.boxes, heat=False)
        caption = f"Where the cells come from: {giver.caption}"
        from_there = card(giver, "Where the cells come from", here=here, words=words, drawn=drawn, caption=caption)
    tiles = [yours, *(f'<div class="xh-tile">{each}</div>' for each in (composite, from_there) if each)]
    return f'<p class="xh-said">{said}</p><div class="xh-cards">{"".join(tiles)}</div>{_change_quality(change)}'


def link_to(source: str | None) -> str:
    """A link to a row of a dataset; only to the web, since whoever published the references wrote the address."""
    if not source or not source.startswith(("https://", "http://")):
        return ""
    return (
        f'<p class="xh-note"><a href="{escape(source)}" rel="noopener noreferrer" target="_blank">See its row</a></p>'
    )


def source_of(references: "ReferenceSet | None", evidence: "Evidence") -> str | None:
    """The address of the row that a piece of evidence shows, where its picture may not be shown."""
    if references is None or not references.sources or evidence.facts.get("picture") is not False:
        return None
    keys = list(references.keys)
    key = evidence.facts.get("key")
    return references.sources[keys.index(str(key))] if key in keys else None


def _table(lines: Sequence[tuple[str, str]]) -> str:
    """Names and what is said of each; nothing is said of what is not known."""
    rows = (f"<tr><th scope=row>{escape(name)}</th><td>{escape(said)}</td></tr>" for name, said in lines if said)
    return f"<table>{''.join(rows)}</table>"


def _change_quality(change: "Evidence") -> str:
    facts = change.facts
    cells, of = float(str(facts["cells"])), float(str(facts["of"]))
    altered = facts.get("changed")
    lines = [
        ("Verified", f"yes, of {facts.get('forwards')} pictures that the classifier was asked about"),
        ("Cells left as they are", f"{1 - cells / of:.0%}"),
        ("Colours of the swapped cells change by", f"{altered:.0%}" if isinstance(altered, float) else ""),
        ("Distance to your picture", _number(facts.get("distance"))),
        ("Typical of its class", _typical(facts.get("plausibility"))),
    ]
    return f'<details class="xh-quality"><summary>How good is it?</summary>{_table(lines)}</details>'


def _bare(evidence: "Evidence") -> "Evidence":
    """Without a map: laid over the visitor's picture it takes the large one away."""
    return replace(evidence, heatmap=None, raw=None)


def _asked_again(facts: Mapping[str, object]) -> str:
    if facts.get("valid") is None:
        return "not asked: its picture is not here"
    if facts["valid"]:
        return f"yes, {facts['predicted']!r} at {_percent(facts.get('probability'))}"
    return f"no: the stored picture is called {facts.get('asked again')!r} when asked again"


def _percent(share: object) -> str:
    return percent(float(str(share))) if isinstance(share, int | float) else ""


def _number(distance: object) -> str:
    return f"{distance:.2f}, where 0 is the same and 2 the opposite" if isinstance(distance, float) else ""


def _lies(facts: Mapping[str, object]) -> str:
    like, unlike, ratio = (facts.get(name) for name in ("nearest like", "nearest unlike", "like to unlike"))
    if not isinstance(like, float) or not isinstance(unlike, float) or not isinstance(ratio, float):
        return ""
    return f"{facts.get('where')}: {like:.2f} from its own class, {unlike:.2f} from any other (ratio {ratio:.2f})"


def _typical(value: object) -> str:
    if not isinstance(value, float):
        return "too few pictures of it to say"
    return f"{'yes' if value <= 1 else 'about' if value <= 1.25 else 'less than most'}: {value:.2f} of what is usual"


def _interval(values: object) -> "tuple[float | None, float | None, float | None]":
    """A share or a correlation with its interval; nothing where it is not known, or odd."""
    if not isinstance(values, list | tuple) or len(values) != 3:
        return None, None, None
    if not all(isinstance(value, int | float) and abs(value) <= 1.001 for value in values):  # nor is it NaN
        return None, None, None
    value, low, high = map(float, values)
    return value, low, high


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 < value < 10**12


def _shares(values: object) -> str:
    value, low, high = _interval(values)
    return "" if value is None or low is None or high is None else f"{value:.0%} ({low * 100:.0f} to {high * 100:.0f})"


def _plain(values: object) -> str:
    value, low, high = _interval(values)
    return "" if value is None or low is None or high is None else f"{value:.2f} ({low:.2f} to {high:.2f})"
