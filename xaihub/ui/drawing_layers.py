"""What the Layers page shows, as HTML: the strip, the plane with its slider, the curve, and a table beside each.

Everything that came from the Hub or a visitor is escaped here.
"""

from html import escape
from typing import TYPE_CHECKING

from xaihub.ui.desk_layers import Explored, Shown
from xaihub.ui.drawing import heat_words, legend, picture_uri, stack, tools
from xaihub.ui.plot import Dot, curve, legend_of, marks, scatter

if TYPE_CHECKING:
    from xaihub.records import Evidence
    from xaihub.separability import Separability

__all__ = ["plane_shown", "strip_shown"]

BUDGET = ((60, 224), (150, 144), (10**9, 96))  # (so many pictures, pixels of each): a page of two megabytes at most


def strip_shown(explored: Explored) -> str:
    """The map at every layer, first to last, and all of them together; a click opens one beside the picture."""
    from xaihub import METHODS

    strip = explored.strip
    title = METHODS[explored.choices["method"]].title
    label = strip.prediction.labels[strip.target]
    signed = strip.shown[-1].signed is not None
    targets = {part.name for part in explored.layer.layers}
    cards = "".join(_stage(explored, i, layer.name in targets) for i, layer in enumerate(strip.layers))
    together = f"the {strip.fused.facts['layers']} maps that can be read, each counting alike"
    alike = _stage_card(strip.fused, "Together", together, strip.fused.caption, "")
    return (
        f'<section class="xh-strip" aria-label="The map at every layer"><h3>{escape(title)} for'
        f" <strong>{escape(label)}</strong>, from the first layer to the last</h3>"
        '<p class="xh-sub">Every map is drawn over its own largest absolute value, so colours compare places within a'
        " map, not maps with each other. Early layers answer to edges and colours: there a map says which of these the"
        " answer rests on, not what the network took them for.</p>"
        f'<div class="xh-stages">{cards}{alike}</div>{tools(signed, "xh-strip-view")}{legend(signed)}'
        f"{_window()}</section>"
    )


def plane_shown(explored: Explored) -> str:
    """The references in two dimensions at a layer of choice, and how far the groups are apart at each."""
    from xaihub.projections import PROJECTIONS

    shown = explored.shown
    if shown is None:
        return ""
    entry = PROJECTIONS[explored.choices["projection"]]
    planes = explored.planes[entry.name]
    last = len(planes) - 1
    dots = [
        Dot(label, predicted, _said_of(shown, i))
        for i, (label, predicted) in enumerate(zip(shown.labels, shown.predicted, strict=True))
    ]
    described = (
        f"{len(dots)} reference pictures and yours, laid out by {entry.title}. The arrow keys go from one to the next,"
        " Enter opens it. The table below says the same."
    )
    by = "label" if any(label is not None for label in shown.labels) else "prediction"
    names = [layer.name for layer in explored.strip.layers]
    return (
        f'<section class="xh-space" data-by="{by}" aria-label="The references at a layer">{marks()}'
        f"<h3>{len(dots)} references at one layer, by {escape(entry.title)}</h3>{_controls(names, by, last)}"
        f"{_at_layers(explored)}"
        f'<div class="xh-stage-plane">{scatter(planes, dots, last, described)}'
        '<div class="xh-peek" hidden aria-hidden="true"><img alt=""><span></span></div></div>'
        f"{legend_of(shown.labels, 'label')}{legend_of(shown.predicted, 'prediction')}"
        f'<p class="xh-sub">{escape(entry.caution)} Each point is the mean of a layer\'s maps over the picture, of'
        " length one, as the search for twins takes it.</p>"
        f"{_pictures(shown)}"
        '<h3>How separable the classes become</h3><p class="xh-sub">Balanced accuracy of a <strong>linear'
        " probe</strong>: a ridge regression on each layer's embeddings, tested on pictures that it was not fitted to"
        " (five folds). The band is one standard error; inside of it, two layers are alike.</p>"
        f"{curve('label', shown.apart['label'], names)}{curve('prediction', shown.apart['prediction'], names)}"
        f"{_table('label', explored, shown)}{_table('prediction', explored, shown)}{_meaning(shown)}</section>"
    )


def _stage(explored: Explored, i: int, is_target: bool) -> str:
    from xaihub.stages import cautious

    strip = explored.strip
    layer = strip.layers[i]
    rows, columns = layer.grid
    which = f"{i + 1} of {len(strip.layers)}{', the target layer' if is_target else ''}"
    words = f"{rows} x {columns} places, {layer.view.channels:,} channels"
    caution = cautious(explored.choices["method"], strip.common[i])
    return _stage_card(strip.shown[i], layer.name, f"{which}: {words}", strip.shown[i].caption, caution)


def _stage_card(evidence: "Evidence", name: str, words: str, caption: str, caution: str) -> str:
    doubt = '<span class="xh-doubt">not to be read: open it for why</span>' if caution else ""
    return (
        f'<button type="button" class="xh-stage" aria-haspopup="dialog" data-title="{escape(name)}"'
        f' data-words="{escape(caution or caption)}">'
        f"{stack(evidence, f'{name}. {heat_words(evidence)}.')}"
        f'<span class="xh-caption"><strong>{_breakable(name)}</strong> {escape(words)}</span>{doubt}</button>'
    )


def _breakable(name: str) -> str:
    """A module's name that may be broken after its dots."""
    return escape(name).replace(".", ".<wbr>")


def _controls(names: list[str], by: str, last: int) -> str:
    radios = "".join(
        f'<label><input type="radio" name="xh-by" class="xh-by" value="{value}"{" checked" if value == by else ""}>'
        f" {words}</label>"
        for value, words in (("label", "the dataset's label"), ("prediction", "the classifier's prediction"))
    )
    return (
        f'<div class="xh-tools"><label class="xh-slider xh-layer-slider"><span>Layer</span><input type="range" min="0"'
        f' max="{last}" step="1" value="{last}" class="xh-depth" aria-valuetext="{escape(names[last])}">'
        f"<output>{last + 1} of {last + 1}</output></label>"
        f'<fieldset class="xh-views"><legend>Shapes and colours show</legend>{radios}</fieldset></div>'
    )


def _at_layers(explored: Explored) -> str:
    """A line for each layer, of which the script shows one."""
    planes = explored.planes[explored.choices["projection"]]
    lines = []
    for i, (layer, plane) in enumerate(zip(explored.strip.layers, planes, strict=True)):
        held = ""
        if plane.shares is not None:
            across, up = plane.shares
            held = f" Across {across:.0%}, up {up:.0%} of the variance; {max(0.0, 1 - across - up):.0%} is not seen."
        hidden = "" if i == len(planes) - 1 else " hidden"
        lines.append(
            f'<p class="xh-at" data-layer="{i}" data-name="{escape(layer.name)}"{hidden}>'
            f"<strong>{escape(layer.in_words)}</strong>.{held}</p>"
        )
    return f'<div aria-live="polite">{"".join(lines)}</div>'


def _pictures(shown: Shown) -> str:
    """The table that says what the plane shows: every picture with its groups and its likeness at the shown layer."""
    count = len(shown.predicted)
    edge = next(pixels for most, pixels in BUDGET if count <= most)
    embedded, last = shown.embedded, len(shown.similarity) - 1
    rows = "".join(
        f'<tr data-row="{i}" data-like="{";".join(f"{layer[i]:.2f}" for layer in shown.similarity)}">'
        f'<td><img alt="" loading="lazy" src="{picture_uri(embedded.references.picture(row), edge)}"></td>'
        f"<td>{escape(shown.labels[i] or 'none')}</td>"
        f"<td>{escape(shown.predicted[i])} ({shown.probability[i]:.0%})</td>"
        f'<td class="xh-like">{shown.similarity[last][i]:.2f}</td></tr>'
        for i, row in enumerate(embedded.rows)
    )
    return (
        '<details class="xh-table xh-pictures"><summary>The same as a table: each picture and how alike yours is to it'
        "</summary><table><thead><tr><th>picture</th><th>label</th><th>prediction</th>"
        f"<th>cosine to yours at this layer</th></tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _table(by: str, explored: Explored, shown: Shown) -> str:
    rows = "".join(
        f'<tr data-layer="{i}"><td>{i + 1}. {escape(layer.name)}</td>{_cells(each)}</tr>'
        for i, (layer, each) in enumerate(zip(explored.strip.layers, shown.apart[by], strict=True))
    )
    return (
        f'<details class="xh-table" data-by="{by}"><summary>The same as a table, with the silhouette</summary><table>'
        f"<thead><tr><th>layer</th><th>linear probe by {by}, balanced accuracy</th><th>chance</th>"
        f"<th>cosine silhouette by {by}</th></tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _cells(each: "Separability | None") -> str:
    if each is None:
        return '<td colspan="3">too few pictures of each</td>'
    return f"<td>{each.probe:.2f} ± {each.error:.2f}</td><td>{each.chance:.2f}</td><td>{each.silhouette:+.2f}</td>"


def _meaning(shown: Shown) -> str:
    """What the curve says, and what it does not."""
    measured = next((each for each in shown.apart["label"] if each is not None), None)
    lines = [
        "A high point means that the groups can be told apart by a straight cut at that layer; it does not mean that"
        " the network uses that difference. By prediction the last layers are high almost by construction: the answer"
        " is read from them.",
    ]
    if measured is not None and measured.rows < len(shown.labels):
        lines.append(
            f"{len(shown.labels) - measured.rows} of the {len(shown.labels)} pictures are the only one of their label"
            " and were left out of the probe."
        )
    made = shown.embedded.references.made
    lines.append(f"References: {made.dataset}. Near copies among them make every layer look more separable than it is.")
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<section class="xh-trust"><h3>How far to trust this</h3><ul>{items}</ul></section>'


def _said_of(shown: Shown, i: int) -> str:
    label = f"labelled {shown.labels[i]}, " if shown.labels[i] is not None else ""
    return f"Picture {i + 1}: {label}called {shown.predicted[i]} ({shown.probability[i]:.0%})"


def _window() -> str:
    """The window in which a stage or a reference stands beside the picture; the script fills it."""
    return (
        '<dialog class="xh-dialog xh-layers-dialog" aria-labelledby="xh-layers-title"><h3 id="xh-layers-title"></h3>'
        '<div class="xh-pair"><figure class="xh-mine"><figcaption></figcaption></figure>'
        '<figure class="xh-theirs"><figcaption></figcaption></figure></div>'
        '<button type="button" class="xh-close">Close</button></dialog>'
    )
