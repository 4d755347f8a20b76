"""Where things are on pictures, from a CSV file: boxes in pixels of the original picture, and which classes they are.

Columns: file (as the dataset calls the picture), x0, y0, x1, y1, and classes (or imagenet_indices): indices with spaces
between them, or one label. Rows of one picture and the same classes are boxes of one thing to be found.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xaihub.datasets import LabelledPictures
from xaihub.errors import DatasetError
from xaihub.records import Box

__all__ = ["Marked", "questions_about", "read_boxes"]

_CORNERS = ("x0", "y0", "x1", "y1")
_CLASSES = ("classes", "imagenet_indices")


@dataclass(frozen=True)
class Marked:
    """One kind of thing on one picture: its boxes, and the classes of which the most probable one is explained."""

    file: str
    classes: tuple[str | int, ...]
    boxes: tuple[Box, ...]


def read_boxes(file: Path) -> list[Marked]:
    """What the file says, in its order.

    Raises:
        DatasetError: a column is missing, or a corner is no number; with the line.
    """
    found: dict[tuple[str, str], list[Box]] = {}
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream)
            named = next((name for name in _CLASSES if name in (rows.fieldnames or ())), "classes")
            missing = [name for name in ("file", named, *_CORNERS) if name not in (rows.fieldnames or ())]
            if missing:
                raise DatasetError(
                    f"{file} has no column {missing[0]!r}. It needs file, classes, x0, y0, x1 and y1: where each thing"
                    " is, in pixels of the picture."
                )
            for row in rows:
                box = _box(row, f"{file}, line {rows.line_num}")
                found.setdefault((row["file"], row[named]), []).append(box)
    except OSError as error:
        raise DatasetError(f"{str(file)!r} cannot be read ({error.strerror}). Name a CSV file of boxes.") from error
    if not found:
        raise DatasetError(f"{file} holds no boxes. Give one row for each thing that a map should find.")
    return [Marked(name, _classes(classes), tuple(boxes)) for (name, classes), boxes in found.items()]


def questions_about(pictures: LabelledPictures, marked: Sequence[Marked]) -> tuple[LabelledPictures, list[Marked]]:
    """The pictures that something is marked on, one for each kind of thing, and what is marked on each.

    Raises:
        DatasetError: no picture has the name of any that is marked.
    """
    sources = {key: (key, label, get) for key, label, get in pictures.sources}
    there = [each for each in marked if each.file in sources]
    if not there:
        known = next(iter(sources), "none")
        raise DatasetError(
            f"The boxes are about pictures such as {marked[0].file!r}, but {pictures.name} calls its own {known!r} and"
            " the like. Both must have the same names."
        )
    note = f"those that have a box, {len({each.file for each in there}):,} of {len(pictures):,}"
    return replace(pictures, sources=[sources[each.file] for each in there], note=note), there


def _box(row: dict[str, str], where: str) -> Box:
    try:
        left, upper, right, lower = (float(row[name]) for name in _CORNERS)
    except (TypeError, ValueError):
        given = [row[name] for name in _CORNERS]
        raise DatasetError(f"{where}: the corners {given} are not four numbers. Correct that line.") from None
    if not (right > left and lower > upper):
        raise DatasetError(
            f"{where}: a box from {left:g}, {upper:g} to {right:g}, {lower:g} holds nothing. Correct it."
        )
    return left, upper, right, lower


def _classes(text: str) -> tuple[str | int, ...]:
    several = text.split()
    return tuple(map(int, several)) if several and all(each.isdigit() for each in several) else (text,)
