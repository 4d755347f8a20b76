"""Pictures for a card, drawn with Pillow alone: a confusion matrix, a sheet of explained examples, prototypes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Example", "Patch", "confusion_picture", "examples_sheet", "most_confused", "prototypes_sheet"]

MOST_CLASSES = 20  # beyond this no name could be read
_INK, _FAINT, _PAPER = (30, 30, 34), (120, 120, 128), (255, 255, 255)
_DEEP = (20, 60, 140)  # of a full cell
_WRONG = (176, 32, 32)
_MARKED = (255, 214, 10)  # of a box: seen on dark and on bright pictures, with a dark line beside it


class Example(NamedTuple):
    """A picture as the classifier saw it, where it looked (or None), and the two names."""

    image: Image.Image
    overlay: Image.Image | None
    label: str
    predicted: str


class Patch(NamedTuple):
    """A picture, the box (left, top, right, bottom) in it that is meant, in its pixels, and words below it."""

    image: Image.Image
    box: tuple[float, float, float, float]
    words: str


def most_confused(matrix: NDArray[np.int64], most: int = MOST_CLASSES) -> list[int]:
    """The classes with the most mistakes, given or received, in their own order; all where they are few."""
    if len(matrix) <= most:
        return list(range(len(matrix)))
    wrong = matrix.sum(0) + matrix.sum(1) - 2 * np.diagonal(matrix)
    return sorted(np.argsort(-wrong, kind="stable")[:most].tolist())


def confusion_picture(matrix: Any, labels: Sequence[str], *, title: str = "") -> Image.Image:
    """The counts of (C, C) true classes by answers; a cell is as dark as its share of the row.

    Beyond 20 classes the 20 with the most mistakes are shown.
    """
    whole = np.asarray(matrix, dtype=np.int64)
    shown = most_confused(whole)
    names = [_short(labels[i]) for i in shown]
    cell = 84 if len(shown) <= 6 else 44
    font, small = _font(18 if len(shown) <= 6 else 14), _font(14)
    left, top = int(max(font.getlength(name) for name in names)) + 60, 0
    across = max(font.getlength(name) for name in names) > cell - 8  # names that are too wide stand upright
    top = 64 + (int(max(font.getlength(name) for name in names)) if across else 24)
    width = max(left + cell * len(shown) + 24, int(_font(18).getlength(title)) + 48, 360)
    note = "" if len(shown) == len(whole) else f"the {len(shown)} of {len(whole):,} classes with the most mistakes"
    canvas = Image.new("RGB", (width, top + cell * len(shown) + (48 if note else 24)), _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((24, 12), title, _INK, _font(18))
    draw.text((left, 38), "answer", _FAINT, small)
    draw.text((20, top - 22), "true class", _FAINT, small)
    for place, name in enumerate(names):
        draw.text((left - 12, top + cell * (place + 0.5)), name, _INK, font, anchor="rm")
        _column_name(canvas, name, (left + cell * place, top), cell, font, upright=across)
    totals = np.maximum(whole.sum(1), 1)
    for row, true in enumerate(shown):
        for column, answer in enumerate(shown):
            corner = (left + cell * column, top + cell * row)
            _cell(draw, corner, cell, int(whole[true, answer]), whole[true, answer] / totals[true], font)
    draw.text((left, top + cell * len(shown) + 14), note, _FAINT, small)
    return canvas


def examples_sheet(examples: Sequence[Example], *, edge: int = 200) -> Image.Image:
    """Each example as two pictures side by side, the true and the predicted name below; a wrong one in red."""
    if not examples:
        raise ValueError("There are no examples to draw.")
    font, columns, gap, text = _font(15), 2 if len(examples) > 1 else 1, 16, 48
    rows = -(-len(examples) // columns)
    tile = 2 * edge + gap, edge + text
    canvas = Image.new("RGB", (columns * tile[0] + gap, rows * tile[1] + gap), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for place, example in enumerate(examples):
        x, y = gap + (place % columns) * tile[0], gap + (place // columns) * tile[1]
        canvas.paste(_fitted(example.image, edge), (x, y))
        if example.overlay is not None:
            canvas.paste(_fitted(example.overlay, edge), (x + edge + 2, y))
        right = example.label == example.predicted
        draw.text((x, y + edge + 4), f"true: {_short(example.label)}", _INK, font)
        draw.text((x, y + edge + 22), f"answer: {_short(example.predicted)}", _INK if right else _WRONG, font)
    return canvas


def prototypes_sheet(rows: Sequence[tuple[str, Sequence[Patch]]], *, edge: int = 112) -> Image.Image:
    """A row for each class, its name above its patches, each boxed in its whole picture."""
    if not any(patches for _, patches in rows):
        raise ValueError("There are no prototypes to draw.")
    font, small, gap, head, foot = _font(15), _font(12), 8, 28, 20
    widest = max(len(patches) for _, patches in rows)
    tall = head + edge + foot + gap
    canvas = Image.new("RGB", (max(widest * (edge + gap) + gap, 360), tall * len(rows) + gap), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for place, (name, patches) in enumerate(rows):
        top = gap + place * tall
        draw.text((gap, top), _short(name), _INK, font)
        for column, patch in enumerate(patches):
            x, y = gap + column * (edge + gap), top + head
            canvas.paste(_boxed(patch, edge), (x, y))
            draw.text((x, y + edge + 3), patch.words, _FAINT, small)
    return canvas


def _boxed(patch: Patch, edge: int) -> Image.Image:
    """The picture within a square, the box drawn at that size, so that its line is never wider than a small patch."""
    tile, scale = _fitted(patch.image, edge), edge / max(patch.image.size)
    over, down = ((edge - side * scale) / 2 for side in patch.image.size)
    left, top, right, bottom = (round(at * scale + by) for at, by in zip(patch.box, (over, down) * 2, strict=True))
    draw = ImageDraw.Draw(tile)
    draw.rectangle((left - 1, top - 1, right, bottom), outline=_INK)
    draw.rectangle((left, top, right - 1, bottom - 1), outline=_MARKED, width=2)
    return tile


def _cell(draw: ImageDraw.ImageDraw, corner: tuple[int, int], size: int, count: int, share: float, font: Any) -> None:
    x, y = corner
    ground = tuple(round(paper + (deep - paper) * share) for paper, deep in zip(_PAPER, _DEEP, strict=True))
    draw.rectangle((x, y, x + size - 2, y + size - 2), fill=ground, outline=(222, 222, 228))
    if count:
        ink = _PAPER if share > 0.5 else _INK
        draw.text((x + (size - 2) / 2, y + (size - 2) / 2), f"{count:,}", ink, font, anchor="mm")


def _column_name(
    canvas: Image.Image, name: str, corner: tuple[int, int], cell: int, font: Any, *, upright: bool
) -> None:
    x, y = corner
    if not upright:
        ImageDraw.Draw(canvas).text((x + cell / 2, y - 6), name, _INK, font, anchor="mb")
        return
    length, height = int(font.getlength(name)) + 2, int(font.size) + 8
    strip = Image.new("RGB", (length, height), _PAPER)
    ImageDraw.Draw(strip).text((0, 2), name, _INK, font)
    canvas.paste(strip.rotate(90, expand=True), (x + (cell - height) // 2, y - 6 - length))


def _fitted(image: Image.Image, edge: int) -> Image.Image:
    """The picture within a square, on white."""
    small = image.convert("RGB")
    scale = edge / max(small.size)
    small = small.resize(
        (max(1, round(small.width * scale)), max(1, round(small.height * scale))), Image.Resampling.LANCZOS
    )
    ground = Image.new("RGB", (edge, edge), _PAPER)
    ground.paste(small, ((edge - small.width) // 2, (edge - small.height) // 2))
    return ground


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"{name[: most - 3]}..."


def _font(size: int) -> Any:
    """The font that comes with Pillow: the same picture on every machine."""
    return ImageFont.load_default(size)
