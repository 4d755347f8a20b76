"""Evidence as HTML: pictures under heatmaps, bars, rows of examples. It never asks which technique made them.

Everything that came from the Hub or a visitor is escaped here.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from xaihub.images import colourise, heat_in_words, thumbnail

if TYPE_CHECKING:
    from xaihub.records import Box, Evidence, Explanation, Prediction

__all__ = ["bars", "card", "examples_shown", "rows", "stack", "view"]

LARGEST = 720  # pixels of the longer edge: sharp on a desktop, light on a telephone


def bars(prediction: "Prediction", target: int, model: str, count: int = 5) -> str:
    """The most probable classes, each with its share in figures and as a bar; the one explained is marked in words."""
    best = np.argsort(-prediction.probabilities, kind="stable")[:count].tolist()
    shown = best if target in best else [*best, target]
    items = "".join(
        f'<li{" class=xh-target" if i == target else ""}><span class="xh-class">{escape(prediction.labels[i])}'
        f"{' <em>explained below</em>' if i == target else ''}</span>"
        f'<span class="xh-share">{_percent(float(prediction.probabilities[i]))}</span>'
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


def view(explanation: "Explanation", evidence: "Evidence", title: str) -> str:
    """One piece of evidence, large: the visitor's own picture with the frame that the model saw, and that frame."""
    label = explanation.target_label
    where = heat_in_words(evidence.heatmap) if evidence.heatmap is not None else ""
    described = f"What the model saw, with its heatmap for {label}: {where}." if where else evidence.caption
    return (
        f'<section class="xh-view" aria-label="{escape(title)}">'
        f'<div class="xh-pair"><figure>{_on_original(explanation, evidence)}'
        "<figcaption>Your picture. The frame is what the model saw"
        f"{_scale_in_words(explanation)}.</figcaption></figure>"
        f'<figure class="xh-main">{stack(evidence, described)}'
        f"<figcaption>{escape(title)} for <strong>{escape(label)}</strong>{': ' + escape(where) if where else ''}."
        f"</figcaption></figure></div>"
        f"{_slider() + legend(label) if evidence.heatmap is not None else ''}"
        f'<p class="xh-caption">{escape(evidence.caption)}</p></section>'
    )


def rows(explanation: "Explanation", methods: Sequence[tuple[str, str, str]]) -> str:
    """A row of cards for each method (name, title, summary) that has several pieces of evidence, or a note on none."""
    drawn = []
    for name, title, summary in methods:
        found = explanation.evidence.get(name, ())
        notes = "".join(f'<p class="xh-note">{escape(note)}</p>' for note in explanation.notes.get(name, ()))
        if found or notes:
            cards = "".join(card(evidence, f"{title}, {i + 1} of {len(found)}") for i, evidence in enumerate(found))
            drawn.append(
                f'<section class="xh-row" data-method="{escape(name)}"><h3>{escape(title)}</h3>'
                f'<p class="xh-sub">{escape(summary)}</p>{notes}<div class="xh-cards">{cards}</div></section>'
            )
    return "".join(drawn) + (_DIALOG if drawn else "")


def card(evidence: "Evidence", title: str) -> str:
    """One example: a button that opens it beside the visitor's picture."""
    where = f" {heat_in_words(evidence.heatmap)}." if evidence.heatmap is not None else ""
    return (
        f'<button type="button" class="xh-card" aria-haspopup="dialog" data-title="{escape(title)}">'
        f"{stack(evidence, f'{title}.{where}')}"
        f'<span class="xh-caption">{escape(evidence.caption)}</span></button>'
    )


def stack(evidence: "Evidence", described: str) -> str:
    """A picture with its heatmap and its boxes over it; the script and the slider change only `--heat`."""
    width, height = evidence.image.size
    heat = f'<img class="xh-heat" alt="" src="{_heat(evidence)}">' if evidence.heatmap is not None else ""
    boxes = "".join(f'<i class="xh-box" style="{_place(box, (width, height))}"></i>' for box in evidence.boxes)
    return (
        f'<span class="xh-stack" style="aspect-ratio:{width}/{height}">'
        f'<img alt="{escape(described)}" src="{picture_uri(evidence.image)}">{heat}{boxes}</span>'
    )


def examples_shown(files: Sequence[Path]) -> str:
    """A button for each example, named after its file."""
    buttons = "".join(
        f'<button type="button" data-index="{i}" aria-label="Explain the example {escape(name)}"'
        f' title="{escape(name)}">'
        f'<img alt="" src="{picture_uri(Image.open(file), 128)}"></button>'
        for i, (file, name) in enumerate((file, file.stem.replace("-", " ").replace("_", " ")) for file in files)
    )
    return f'<p class="xh-sub">Examples: one click explains one</p><div class="xh-examples">{buttons}</div>'


def legend(label: str) -> str:
    """What the colours mean, in words."""
    return (
        '<p class="xh-legend"><span aria-hidden="true" class="xh-ramp"></span>'
        f"Dark violet: no evidence. Yellow: the strongest evidence for <strong>{escape(label)}</strong> in this"
        " picture.</p>"
    )


def picture_uri(picture: Image.Image, largest: int = LARGEST) -> str:
    """A `data:` address of the picture, at most so large."""
    stream = io.BytesIO()
    small = picture if max(picture.size) <= largest else thumbnail(picture, largest)
    small.convert("RGB").save(stream, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _heat(evidence: "Evidence") -> str:
    assert evidence.heatmap is not None  # noqa: S101  asked by the callers
    return picture_uri(Image.fromarray(colourise(evidence.heatmap)))


def _on_original(explanation: "Explanation", evidence: "Evidence") -> str:
    """The heatmap is laid where the crop lies, as `explanation.on_original` does, but at the browser's resolution."""
    width, height = explanation.original.size
    place = _place(explanation.crop, (width, height))
    heat = (
        f'<img class="xh-heat xh-there" alt="" style="{place}" src="{_heat(evidence)}">'
        if evidence.heatmap is not None
        else ""
    )
    left, upper, right, lower = explanation.crop
    inside = _place((max(0, left), max(0, upper), min(width, right), min(height, lower)), (width, height))
    return (
        f'<span class="xh-stack xh-original" style="aspect-ratio:{width}/{height};--ratio:{width / height:.4f}">'
        f'<img alt="Your picture" src="{picture_uri(explanation.original)}">{heat}'
        f'<i class="xh-frame" style="{inside}"></i></span>'
    )


def _scale_in_words(explanation: "Explanation") -> str:
    width, height = explanation.image.size
    left, upper, right, lower = explanation.crop
    stretch = ((right - left) / width) / max(1e-9, (lower - upper) / height)
    squeezed = ", squeezed to a square" if width == height and not 0.95 < stretch < 1.05 else ""
    return f", at {width} x {height} pixels{squeezed}"


def _place(box: "Box", size: tuple[int, int]) -> str:
    """CSS for a box on a picture of (width, height)."""
    left, upper, right, lower = box
    width, height = size
    return (
        f"left:{left / width * 100:.3f}%;top:{upper / height * 100:.3f}%;"
        f"width:{(right - left) / width * 100:.3f}%;height:{(lower - upper) / height * 100:.3f}%"
    )


def _slider() -> str:
    return (
        '<label class="xh-slider"><span>Heatmap opacity</span>'
        '<input type="range" min="0" max="100" step="5" value="55" class="xh-opacity"><output>55%</output></label>'
    )


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.0005 else "< 0.1%"


_DIALOG = (
    '<dialog class="xh-dialog" aria-labelledby="xh-dialog-title"><h3 id="xh-dialog-title"></h3>'
    '<div class="xh-pair"><figure class="xh-mine"><figcaption></figcaption></figure>'
    '<figure class="xh-theirs"><figcaption></figcaption></figure></div>'
    f"{_slider()}"
    '<p class="xh-legend"><span aria-hidden="true" class="xh-ramp"></span>Dark violet: no evidence. Yellow: the'
    " strongest evidence, on the left for the class that you chose, on the right for the class that the classifier"
    ' gives to that picture.</p><button type="button" class="xh-close">Close</button></dialog>'
)
