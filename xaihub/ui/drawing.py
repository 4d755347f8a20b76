"""Evidence as HTML: pictures under heatmaps, bars, rows of examples. It never asks which technique made them.

Everything that came from the Hub or a visitor is escaped here.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from xaihub.images import colourise, heat_in_words, thumbnail
from xaihub.notebook import picture_address
from xaihub.ui.colours import COLOURS, ends
from xaihub.ui.words import percent

if TYPE_CHECKING:
    from xaihub.records import Box, Evidence, Explanation, Heatmap, Prediction

__all__ = [
    "TWO_CLASSES", "bars", "boxes_in_words", "boxes_over", "card", "dialog", "examples_shown", "heat_words", "heats",
    "legend", "on_original", "picture_uri", "stack", "tools", "view",
]  # fmt: skip

PLACES = (
    ("upper left", "upper middle", "upper right"),
    ("middle left", "centre", "middle right"),
    ("lower left", "lower middle", "lower right"),
)
LARGEST = 720  # pixels of the longer edge: sharp on a desktop, light on a telephone


def bars(prediction: "Prediction", target: int, model: str, count: int = 5) -> str:
    """The most probable classes, each with its share in figures and as a bar; the one explained is marked in words."""
    best = np.argsort(-prediction.probabilities, kind="stable")[:count].tolist()
    shown = best if target in best else [*best, target]
    items = "".join(
        f'<li{" class=xh-target" if i == target else ""}><span class="xh-class">{escape(prediction.labels[i])}'
        f"{' <em>explained below</em>' if i == target else ''}</span>"
        f'<span class="xh-share">{percent(float(prediction.probabilities[i]))}</span>'
        f'<span class="xh-bar" aria-hidden="true"><i style="width:{prediction.probabilities[i] * 100:.1f}%"></i></span>'
        "</li>"
        for i in shown
    )
    each = "" if prediction.activation == "softmax" else " Each class stands for itself: the shares need not sum to 1."
    return (
        f'<section class="xh-bars" aria-label="Prediction"><h2>{escape(model)} says '
        f"<strong>{escape(prediction.label)}</strong></h2><ol>{items}</ol>"
        f"{f'<p class=xh-note>{each}</p>' if each else ''}</section>"
    )


def view(explanation: "Explanation", evidence: "Evidence", title: str, summary: str = "") -> str:
    """One piece of evidence, large: the visitor's own picture with the frame that the model saw, and that frame."""
    label = explanation.target_label
    where = heat_words(evidence)
    described = f"What the model saw, with its heatmap for {label}: {where}." if where else evidence.caption
    signed = evidence.signed is not None
    mixed = len(explanation.evidence) > 1  # examples stand below
    return (
        f'<section class="xh-view" aria-label="{escape(title)}">'
        f'<div class="xh-pair"><figure>{on_original(explanation, evidence, "Your picture")}'
        "<figcaption>Your picture. The frame is what the model saw"
        f"{_scale_in_words(explanation)}.</figcaption></figure>"
        f'<figure class="xh-main">{stack(evidence, described)}'
        f"<figcaption>{escape(title)} for <strong>{escape(label)}</strong>{': ' + escape(where) if where else ''}."
        f"</figcaption></figure></div>"
        f"{tools(signed) + legend(signed, mixed) if evidence.heatmap is not None else ''}"
        f'<p class="xh-caption">{escape(evidence.caption)}</p><p class="xh-sub">{escape(summary)}</p></section>'
    )


def card(
    evidence: "Evidence",
    title: str,
    *,
    head: str = "",
    drawn: str = "",
    here: str = "",
    words: str = "",
    caption: str | None = None,
) -> str:
    """One example: a button that opens it beside the visitor's picture.

    Args:
        head: HTML above it.
        drawn: HTML of its picture, where that is not the evidence's own.
        here: HTML of a template: what is laid over the visitor's picture meanwhile.
        words: what is then said of both. `caption`: in place of the evidence's own.
    """
    where = heat_words(evidence)
    boxes = boxes_in_words(evidence.boxes, evidence.image.size, numbered=bool(evidence.matches))
    described = " ".join(part for part in (f"{title}.", f"{where}." if where else "", boxes) if part)
    said = f' data-words="{escape(words)}"' if words else ""
    return (
        f'<button type="button" class="xh-card" aria-haspopup="dialog" data-title="{escape(title)}"{said}>{head}'
        f"{drawn or stack(evidence, described)}"
        f'<span class="xh-caption">{escape(evidence.caption if caption is None else caption)}</span>{here}</button>'
    )


def stack(evidence: "Evidence", described: str, *, boxes: "Sequence[Box] | None" = None, heat: bool = True) -> str:
    """A picture with its heatmap and its boxes over it; the script and the slider change only what is shown of them.

    Args:
        boxes: in place of the evidence's own. `heat`: whether its heatmap is laid over it.
    """
    width, height = evidence.image.size
    hot, signed = heats(evidence) if heat else ("", "")
    marked = boxes_over(evidence.boxes, (width, height), numbered=bool(evidence.matches))
    if boxes is not None:
        marked = boxes_over(boxes, (width, height))
    return (
        f'<span class="xh-stack{signed}" style="aspect-ratio:{width}/{height}">'
        f'<img alt="{escape(described)}" src="{picture_uri(evidence.image)}">{hot}{marked}</span>'
    )


def boxes_over(boxes: "Sequence[Box]", size: tuple[int, int], *, numbered: bool = False) -> str:
    """Boxes over a picture of (width, height); numbered ones have a colour each, and their number above or below."""
    if not numbered:
        return "".join(f'<i class="xh-box" style="{_place(box, size)}"></i>' for box in boxes)
    return "".join(
        f'<i class="xh-box xh-region xh-region-{i}{" xh-under" * (box[1] < size[1] / 7)}" style="{_place(box, size)}">'
        f"<b>{i}</b></i>"
        for i, box in enumerate(boxes, 1)
    )


def boxes_in_words(boxes: "Sequence[Box]", size: tuple[int, int], *, numbered: bool = False) -> str:
    """Where boxes lie, for whoever cannot see them: "Region 1 is in the upper left, region 2 in the centre."."""
    if not boxes:
        return ""
    places = [_where(box, size) for box in boxes]
    if numbered:
        told = ", ".join(f"region {i} {'is ' * (i == 1)}in the {place}" for i, place in enumerate(places, 1))
        return f"{told.capitalize()}."
    return f"Outlined: {', '.join(dict.fromkeys(places))}."


def heats(evidence: "Evidence", style: str = "") -> tuple[str, str]:
    """The heatmap to be laid over a picture, in both views where it has a sign; and the class that says it has."""
    if evidence.heatmap is None:
        return "", ""
    placed = f' style="{style}"' if style else ""
    there = " xh-there" if style else ""
    image = f'<img class="xh-heat{there} xh-for" alt=""{placed} src="{_coloured(evidence.heatmap)}">'
    signed = evidence.signed
    if signed is None:
        return image, ""
    both = f'<img class="xh-heat{there} xh-both" alt=""{placed} src="{_coloured(signed, signed=True)}">'
    return image + both, " xh-signed"


def heat_words(evidence: "Evidence") -> str:
    """Where the heat is, and where what speaks against the class is; "" where there is no heatmap."""
    if evidence.heatmap is None:
        return ""
    bright = evidence.facts.get("positive") is not False
    where = heat_in_words(evidence.heatmap) if bright else "there is no heat to speak of"
    signed = evidence.signed
    if signed is None or not (signed < 0).any():
        return where
    share = float(np.clip(-signed, 0, None).sum() / np.abs(signed).sum())
    against = heat_in_words(-signed).replace("of the heat", "of it")
    return f"{where}; {share:.0%} of all evidence speaks against it: {against}"


def examples_shown(files: Sequence[Path], kept: Sequence[str], does: str = "explain") -> str:
    """A button for each example, named after its file.

    Args:
        kept: what gradio calls its copy of each: by this the browser tells it from a picture of one's own.
        does: what a click does, a verb that takes an s.
    """
    buttons = "".join(
        f'<button type="button" data-index="{i}" data-file="{escape(copy)}" title="{escape(name)}"'
        f' aria-label="{does.capitalize()} the example {escape(name)}">'
        f'<img alt="" src="{picture_uri(Image.open(file), 128)}"></button>'
        for i, (file, copy) in enumerate(zip(files, kept, strict=True))
        for name in [file.stem.replace("-", " ").replace("_", " ")]
    )
    return f'<p class="xh-sub">Examples: one click {does}s one</p><div class="xh-examples">{buttons}</div>'


def legend(signed: bool = False, mixed: bool = False) -> str:
    """What the colours mean, in words: of a map of what speaks for a class, and of one that knows for and against.

    Args:
        mixed: other maps, which know no against, are shown as well.
    """
    others = " Maps that know no against keep their colours." if mixed else ""
    both = (
        '<p class="xh-legend xh-of-both"><span aria-hidden="true" class="xh-ramp xh-ramp-both"></span>'
        f"Blue: speaks against the class. White: neither. Red: speaks for it.{others}</p>"
    )
    positive = f'<p class="xh-legend xh-of-for"><span aria-hidden="true" class="xh-ramp"></span>{ends()}</p>'
    alone = " xh-signed" if signed and not mixed else ""
    return f'<div class="xh-legends{alone}">{positive}{both if signed else ""}</div>'


def picture_uri(picture: Image.Image, largest: int = LARGEST) -> str:
    """A `data:` address of the picture, at most so large."""
    small = picture if max(picture.size) <= largest else thumbnail(picture, largest)
    return picture_address(small, quality=90)


def _coloured(heatmap: "Heatmap", *, signed: bool = False) -> str:
    return picture_uri(Image.fromarray(colourise(heatmap, signed=signed)))


def on_original(explanation: "Explanation", evidence: "Evidence", described: str) -> str:
    """The heatmap is laid where the crop lies, as `explanation.on_original` does, but at the browser's resolution."""
    width, height = explanation.original.size
    heat, signed = heats(evidence, _place(explanation.crop, (width, height)))
    left, upper, right, lower = explanation.crop
    inside = _place((max(0, left), max(0, upper), min(width, right), min(height, lower)), (width, height))
    return (
        f'<span class="xh-stack xh-original{signed}" style="aspect-ratio:{width}/{height};'
        f'--ratio:{width / height:.4f}">'
        f'<img alt="{escape(described)}" src="{picture_uri(explanation.original)}">{heat}'
        f'<i class="xh-frame" style="{inside}"></i></span>'
    )


def _scale_in_words(explanation: "Explanation") -> str:
    width, height = explanation.image.size
    left, upper, right, lower = explanation.crop
    stretch = ((right - left) / width) / max(1e-9, (lower - upper) / height)
    squeezed = ", squeezed to a square" if width == height and not 0.95 < stretch < 1.05 else ""
    times = min(width / (right - left), height / (lower - upper))
    enlarged = f", enlarged {times:,.0f} times" if times >= 2 else ""
    return f", at {width} x {height} pixels{squeezed}{enlarged}"


def _place(box: "Box", size: tuple[int, int]) -> str:
    """CSS for a box on a picture of (width, height)."""
    left, upper, right, lower = box
    width, height = size
    return (
        f"left:{left / width * 100:.3f}%;top:{upper / height * 100:.3f}%;"
        f"width:{(right - left) / width * 100:.3f}%;height:{(lower - upper) / height * 100:.3f}%"
    )


def _where(box: "Box", size: tuple[int, int]) -> str:
    """The third of the picture in which the middle of a box lies, in words."""
    across, down = (
        min(2, int(3 * (low + high) / 2 / length))
        for low, high, length in ((box[0], box[2], size[0]), (box[1], box[3], size[1]))
    )
    return PLACES[down][across]


def tools(signed: bool, group: str = "xh-view") -> str:
    """How heatmaps are shown: opacity, colours, and for maps with a sign which of the two views.

    Args:
        group: a name for the two views' buttons; no two sets of tools on a page may share it.
    """
    views = (
        '<fieldset class="xh-views"><legend class="xh-unseen">Show</legend>'
        f'<label><input type="radio" class="xh-sign" name="{group}" value="for" checked> evidence for</label>'
        f'<label><input type="radio" class="xh-sign" name="{group}" value="both"> for and against</label></fieldset>'
    )
    choices = "".join(f"<option>{name}</option>" for name in ("viridis", *COLOURS))
    return (
        '<div class="xh-tools"><label class="xh-slider"><span>Heatmap opacity</span>'
        '<input type="range" min="0" max="100" step="5" value="55" class="xh-opacity"><output>55%</output></label>'
        f'<label class="xh-palette">Colours <select class="xh-colours">{choices}</select></label>'
        f"{views if signed else ''}</div>"
    )


def dialog(words: str, *, signed: bool = False, mixed: bool = False) -> str:
    """The window in which two pictures stand beside each other; the script fills it."""
    return (
        '<dialog class="xh-dialog" aria-labelledby="xh-dialog-title"><h3 id="xh-dialog-title"></h3>'
        '<div class="xh-pair"><figure class="xh-mine"><figcaption></figcaption></figure>'
        '<figure class="xh-theirs"><figcaption></figcaption></figure></div>'
        f"{tools(signed, 'xh-dialog-view')}{legend(signed, mixed)}"
        f'<p class="xh-legend xh-words">{words}</p><button type="button" class="xh-close">Close</button></dialog>'
    )


TWO_CLASSES = (
    "On the left the heat is for the class that you chose, on the right for the class that the classifier gives to that"
    " picture."
)
