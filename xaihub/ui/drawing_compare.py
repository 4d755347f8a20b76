"""A comparison as HTML: its maps side by side, each with its cost, and a table of how alike they are."""

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from xaihub.ui.drawing import bars, card, dialog, heat_words, legend, on_original, picture_uri, tools
from xaihub.ui.pace import time_in_words
from xaihub.ui.words import note

if TYPE_CHECKING:
    from xaihub.ui.desk_compare import Cell, Compared

__all__ = ["compared_maps", "likeness", "said"]

_WHAT = {
    "methods": "several methods, of one class in one model",
    "classes": "several classes, by one method in one model",
    "models": "two models, by one method; each looks at a crop of its own",
}
_MEANT = (
    "Each figure is Spearman's rank correlation of two heatmaps over the pixels that both show: 1 where they put the"
    " pixels into the same order from coldest to hottest, 0 where one order tells nothing of the other, below 0 where"
    " it is rather reversed. Maps that agree can be wrong together. Choose a figure to see its two maps side by side."
)


def said(compared: "Compared") -> str:
    """What each model says of the picture."""
    return "".join(
        bars(cell.explanation.prediction, cell.explanation.target, str(cell.explanation.provenance["model"]), 3)
        for cell in _one_of_each_model(compared)
    )


def _one_of_each_model(compared: "Compared") -> "list[Cell]":
    return compared.cells if compared.vary == "models" else compared.cells[:1]


def compared_maps(compared: "Compared") -> str:
    """The picture and every map beside it, at one size, then how they are shown and how alike they are."""
    maps = [cell.evidence for cell in compared.cells if cell.evidence is not None]
    signed = any(evidence.signed is not None for evidence in maps)
    mixed = any(evidence.signed is None for evidence in maps)
    tiles = "".join(_tile(compared, i, cell) for i, cell in enumerate(compared.cells))
    title = _WHAT[compared.vary].capitalize()
    return (
        f'<section class="xh-view xh-compared" aria-label="The maps"><h2>{escape(title)}</h2>'
        f'<p class="xh-sub">{escape(_cost(compared))}</p>'
        f'<div class="xh-tiles">{_picture(compared)}{tiles}</div>{tools(signed)}{legend(signed, mixed)}</section>'
        f"{likeness(compared)}{dialog(_DIALOG_WORDS, signed=signed, mixed=mixed)}"
    )


def _picture(compared: "Compared") -> str:
    """The picture alone, in the same size: what the model saw, or all of it where two models saw parts."""
    explanation = compared.cells[0].explanation
    whole = compared.vary == "models"
    image = explanation.original if whole else explanation.image
    words = "Your picture" if whole else "What the model saw"
    return (
        f'<figure class="xh-main xh-tile"><span class="xh-name">{words}</span>'
        f'<span class="xh-stack" style="aspect-ratio:{image.width}/{image.height}">'
        f'<img alt="{words}, without a heatmap" src="{picture_uri(image)}"></span>'
        f"<figcaption>{words}, without a heatmap.</figcaption></figure>"
    )


def _tile(compared: "Compared", index: int, cell: "Cell") -> str:
    """One map with its number, name and cost; or why there is none."""
    notes = "".join(map(note, cell.shown.notes))
    head = (
        f'<span class="xh-name">{index + 1} {escape(cell.title)}</span>'
        f'<span class="xh-cost">{escape(_cell_cost(cell))}</span>'
    )
    if cell.evidence is None:
        return f'<div class="xh-tile xh-none" data-map="{index}">{head}{notes}</div>'
    title = f"{index + 1} {cell.title}"
    where = heat_words(cell.evidence)
    described = f"{title}, for {cell.explanation.target_label}{': ' + where if where else ''}."
    drawn = on_original(cell.explanation, cell.evidence, described) if compared.vary == "models" else ""
    label = cell.explanation.target_label
    shown = card(cell.evidence, f"{title}, for {label}", head=head, drawn=drawn)
    return f'<div class="xh-tile" data-map="{index}">{shown}{notes}</div>'


def _cell_cost(cell: "Cell") -> str:
    passes = f"{cell.passes:,} more pass{'es' * (cell.passes > 1)}" if cell.passes else "no further pass"
    return f"{passes}, {time_in_words(cell.shown.seconds)}" if cell.shown.evidence else ""


def _cost(compared: "Compared") -> str:
    """What all of it took: the passes and the measured seconds."""
    made = [cell for cell in compared.cells if cell.shown.evidence]
    passes, seconds = sum(cell.passes for cell in made), sum(cell.shown.seconds for cell in made)
    shared = "one pass of each model" if compared.vary == "models" else "one shared pass"
    more = f" and {passes:,} more" if passes else ""
    return f"{len(made)} map{'s' * (len(made) != 1)} from {shared}{more}: {time_in_words(seconds)} beyond the shared."


def likeness(compared: "Compared") -> str:
    """The matrix as a table: figures, with a shade for who can see it; each figure opens its two maps."""
    cells, alike = [compared.cells[i] for i in compared.maps], compared.alike
    if len(cells) < 2:
        return ""
    title = "How alike the maps are"
    if len(alike) != len(cells):
        apart = note("The two models look at parts of the picture that do not meet.")
        return f'<section class="xh-alike"><h3>{title}</h3>{apart}</section>'
    heads = "".join(
        f'<th scope="col"><abbr title="{escape(cell.title)}">{i + 1}</abbr></th>'
        for i, cell in zip(compared.maps, cells, strict=True)
    )
    lines = "".join(_line(compared, row) for row in range(len(cells)))
    return (
        f'<section class="xh-alike" aria-label="{title}"><h3>{title}</h3>'
        f'<p class="xh-sub">{escape(_extremes(compared))}</p>'
        f'<div class="xh-scroll" role="region" tabindex="0" aria-label="The table, to be scrolled sideways"><table>'
        f'<caption class="xh-unseen">Rank correlation of every two maps</caption>'
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
        f'<p class="xh-note">{_MEANT}{_grounds(compared)}</p></section>'
    )


def _line(compared: "Compared", row: int) -> str:
    numbers, titles = compared.maps, [compared.cells[i].title for i in compared.maps]
    entries = "".join(
        '<td class="xh-same">same</td>'
        if column == row
        else _figure(float(compared.alike[row, column]), (numbers[row], numbers[column]), titles[row], titles[column])
        for column in range(len(numbers))
    )
    return f'<tr><th scope="row">{numbers[row] + 1} {escape(titles[row])}</th>{entries}</tr>'


def _figure(alike: float, pair: tuple[int, int], first: str, second: str) -> str:
    shown, spoken = ("flat", "one of them is flat") if np.isnan(alike) else (_two_places(alike), _two_places(alike))
    shade = 0 if np.isnan(alike) else round(max(0.0, alike) * 60)
    return (
        f'<td><button type="button" class="xh-figure" style="--shade:{shade}%" data-pair="{pair[0]} {pair[1]}"'
        f' aria-haspopup="dialog" aria-label="{escape(first)} and {escape(second)}: {spoken}">{shown}</button></td>'
    )


def _two_places(value: float) -> str:
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _extremes(compared: "Compared") -> str:
    """The most and the least alike pair, for whoever does not read a table."""
    titles = [compared.cells[i].title for i in compared.maps]
    rows, columns = np.triu_indices(len(titles), 1)
    values = compared.alike[rows, columns]
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return "All maps are flat, so there is no order to compare."
    if len(known) == 1:
        return f"Their rank correlation is {_two_places(float(values[known[0]]))}."
    most, least = known[values[known].argmax()], known[values[known].argmin()]

    def pair(which: int) -> str:
        return f"{titles[rows[which]]} and {titles[columns[which]]} ({_two_places(float(values[which]))})"

    return f"Most alike: {pair(int(most))}. Least alike: {pair(int(least))}."


def _grounds(compared: "Compared") -> str:
    if compared.vary != "models":
        return " All maps lie on the same pixels: the crop that the model saw."
    return " The two models see parts of the picture of their own; compared is what both see, on the original picture."


_DIALOG_WORDS = "What each colour means is the same on both sides; each map is scaled to its largest size."
