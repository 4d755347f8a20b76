"""What a notebook shows of our records: pieces of HTML that need nothing else, not even a style sheet.

Everything is inline: notebooks strip scripts and styles, and some are light and some dark, so text keeps the notebook's
own colour and grounds are shades of it. Everything a stranger may have named is escaped and cut; pictures are small.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from xaihub.images import blend, resize_heatmap, thumbnail

__all__ = [
    "LARGE", "MOST_FIGURES", "SMALL", "bars", "card", "facts", "figure", "notes", "picture_address", "row", "text",
]  # fmt: skip

LARGE, SMALL = 224, 144  # pixels of a picture's longer edge
MOST_TEXT = 300  # characters of a sentence; of a name a third
MOST_FIGURES = 12  # in a row
_ACCENT = "#6d6af2"  # readable on white and on black
_SHADE = "rgba(128,128,128,.18)"
_TABLE = "border:0;border-collapse:collapse;font-size:inherit;color:inherit"
_FONT = "font-family:system-ui,sans-serif"
_SMALL_TEXT = "font-size:12px;line-height:1.35;opacity:.85"


def card(title: str, *parts: str) -> str:
    """The whole: a heading and what stands below it; `title` is HTML, and so are the parts."""
    return (
        f'<div style="max-width:960px;padding:12px 14px;border:1px solid {_SHADE};border-radius:10px;'
        f'{_FONT};font-size:14px;line-height:1.4">'
        f'<div style="font-size:15px;margin-bottom:8px">{title}</div>{"".join(parts)}</div>'
    )


def bars(rows: Iterable[tuple[str, str, float, bool]], note: str = "") -> str:
    """A table of names, figures and shares in [0, 1] as bars; those marked are bold."""
    drawn = "".join(
        f'<tr style="background:none">'
        f'<td style="padding:1px 10px 1px 0;text-align:left;max-width:260px;{_weight(marked)}">'
        f"{text(name, MOST_TEXT // 3)}</td>"
        f'<td style="padding:1px 8px 1px 0;text-align:right;white-space:nowrap;{_weight(marked)}">{text(number)}</td>'
        f'<td style="padding:1px 0;width:170px"><div style="background:{_SHADE};border-radius:4px">'
        f'<div style="width:{min(max(share, 0.0), 1.0) * 100:.1f}%;min-width:2px;height:9px;border-radius:4px;'
        f'background:{_ACCENT}"></div></div></td></tr>'
        for name, number, share, marked in rows
    )
    below = f'<div style="{_SMALL_TEXT}">{text(note)}</div>' if note else ""
    return f'<div><table style="{_TABLE};margin:0"><tbody>{drawn}</tbody></table>{below}</div>'


def figure(
    image: Image.Image,
    caption: str,
    *,
    heading: str = "",
    heatmap: NDArray[np.floating] | None = None,
    boxes: Sequence[tuple[float, float, float, float]] = (),
    edge: int = SMALL,
) -> str:
    """A picture with what lies over it, and the sentence below it.

    Args:
        heatmap: (H, W) in [0, 1], aligned with the picture.
        boxes: in the picture's pixels.
        edge: of the longer side, in pixels.
    """
    shown = _at_edge(image.convert("RGB"), edge)
    if heatmap is not None:
        shown = blend(shown, resize_heatmap(heatmap, shown.size), opacity=0.5)
    if boxes:
        scale = shown.width / image.width
        for box in boxes[:MOST_FIGURES]:
            ImageDraw.Draw(shown).rectangle([value * scale for value in box], outline=_ACCENT, width=2)
    wide = max(shown.width, min(edge, SMALL))
    return (
        f'<div style="width:{wide}px;{_FONT}">{_heading(heading)}'
        f'<img src="{picture_address(shown)}" width="{shown.width}" height="{shown.height}" alt="{text(caption)}"'
        f' style="display:block;margin:0;border-radius:6px;max-width:100%">'
        f'<div style="{_SMALL_TEXT};margin-top:3px;overflow-wrap:anywhere">{text(caption)}</div></div>'
    )


def row(figures: Sequence[str], heading: str = "") -> str:
    """Figures side by side, as many as there is room for, and in words how many more there are."""
    if not figures:
        return ""
    left = len(figures) - MOST_FIGURES
    more = f'<div style="{_SMALL_TEXT}">and {left} more</div>' if left > 0 else ""
    flow = "display:flex;flex-wrap:wrap;gap:12px 16px;align-items:flex-start;margin:6px 0 10px"
    return f'{_heading(heading)}<div style="{flow}">{"".join(figures[:MOST_FIGURES])}{more}</div>'


def notes(sentences: Sequence[str]) -> str:
    """Remarks as a list."""
    items = "".join(f"<li>{text(sentence)}</li>" for sentence in sentences[:MOST_FIGURES])
    return f'<ul style="{_SMALL_TEXT};margin:8px 0 0;padding-left:18px">{items}</ul>' if items else ""


def facts(told: Mapping[str, object], summary: str) -> str:
    """Names and what they stand for, folded away; what is None or empty is left out."""
    cell = 'style="padding:0 12px 0 0;text-align:left;vertical-align:top'
    rows = "".join(
        f'<tr style="background:none"><td {cell};opacity:.7;white-space:nowrap">{text(name)}</td>'
        f'<td {cell};overflow-wrap:anywhere">{text(_told(value))}</td></tr>'
        for name, value in told.items()
        if value not in (None, "", [], {})
    )
    return (
        f'<details style="{_SMALL_TEXT};margin-top:8px"><summary style="cursor:pointer">{text(summary)}</summary>'
        f'<table style="{_TABLE};margin:4px 0 0"><tbody>{rows}</tbody></table></details>'
    )


def _told(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items() if part is not None)
    if isinstance(value, list | tuple):
        return (" x " if all(isinstance(part, int) for part in value) else " ").join(map(str, value))
    return str(value)


def text(given: str, most: int = MOST_TEXT) -> str:
    """Escaped, and cut where it is longer."""
    return escape(given if len(given) <= most else f"{given[: most - 1]}…")


def _at_edge(picture: Image.Image, edge: int) -> Image.Image:
    """The picture with its longer edge as asked for; a small network's crop is enlarged, or nobody could see it."""
    scale = edge / max(picture.size)
    if scale <= 1:
        return thumbnail(picture, edge)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)


def _heading(given: str) -> str:
    style = "font-weight:600;overflow-wrap:anywhere"
    return f'<div style="{style}">{text(given, MOST_TEXT // 3)}</div>' if given else ""


def _weight(marked: bool) -> str:
    return f"font-weight:{600 if marked else 400};overflow-wrap:anywhere"


def picture_address(picture: Image.Image, quality: int = 88) -> str:
    """The picture itself as a `data:` address of a JPEG."""
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
