"""A table beside images, which names them and says their labels: csv, json lines, json or parquet."""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from xaihub.datasets.columns import Column, LabelColumn, columns_of, label_column, sample
from xaihub.datasets.parquet import open_rows
from xaihub.datasets.tree import split_in_name, split_word
from xaihub.errors import DatasetError

__all__ = ["MAX_TABLE_BYTES", "Labelled", "NamedImages", "read_table"]

MAX_TABLE_BYTES = 64 * 2**20
_MAX_CELL = 2**20
_FILES = ("file_name", "filename", "file", "image", "image_path", "path", "img", "image_id", "id", "name")
_MISSING = {"", "nan", "null", "n/a", "#n/a"}


@dataclass(frozen=True)
class NamedImages:
    """A table, and which images of the folder its rows name.

    Attributes:
        path: of the table, relative to the folder.
        images: row -> the image it names, None where there is none such.
        columns: all but the one that names the images.
    """

    path: str
    images: tuple[str | None, ...]
    columns: tuple[Column, ...]

    def labels(self, source: str, wanted: str | None) -> "Labelled":
        """The label of each image that is named.

        Raises:
            DatasetError: several columns could be meant, or an image has several labels.
        """
        splits = next((column for column in self.columns if _says_splits(column)), None)
        chosen = label_column(
            [replace(column, values=sample(column.values)) for column in self.columns if column is not splits],
            f"{self.path} of {source}", wanted,
        )  # fmt: skip
        values = next((column.values for column in self.columns if column.name == chosen.stored), ())
        found: dict[str, tuple[str | None, str | None]] = {}
        for row, image in enumerate(self.images):
            if image is None:
                continue
            label = chosen.word(values[row]) if chosen.name else None
            split = split_word(str(splits.values[row])) if splits else split_in_name(self.path.rsplit("/", 1)[-1])
            if image in found and found[image][0] != label:
                raise DatasetError(
                    f"{self.path} of {source} gives {image!r:.80} several labels: {found[image][0]!r:.40} and"
                    f" {label!r:.40}. One label an image can be read; keep one row for each, or name another column"
                    " (label_column)."
                )
            found[image] = (label, split)
        return Labelled(self.path, chosen, found, sum(image is None for image in self.images))


@dataclass(frozen=True)
class Labelled:
    """Table that says something of images.

    Attributes:
        rows: image -> label, and the split where the table says it.
        missing: rows that name no image of the folder.
    """

    path: str
    column: LabelColumn
    rows: Mapping[str, tuple[str | None, str | None]]
    missing: int


def read_table(content: bytes, path: str, images: Sequence[str], *, strangers: bool = False) -> NamedImages | None:
    """The table, if one of its columns names images of the folder.

    Args:
        content: of its file, of at most `MAX_TABLE_BYTES`; `path`: where it lies, relative to the folder.
        images: the paths of the folder's images.
        strangers: whether the table is a stranger's; it must not name files elsewhere then.

    Raises:
        DatasetError: it is damaged, or two of its columns name different images.
        ValueError: a stranger's table names a file elsewhere.
    """
    columns = _read(content, path)
    finder = _Finder(path, images)
    if strangers:
        _refuse_elsewhere(path, columns)
    found: dict[str, tuple[str | None, ...]] = {}
    for column in columns:
        if column.values and finder.names_images(sample(column.values)[:200]):
            found[column.name] = tuple(map(finder, column.values))
    if not found:
        return None
    usual = [name for known in _FILES for name in found if name.lower() == known]
    texts = [column.name for column in columns if column.kind == "text" and column.name in found]
    chosen = (usual or texts or list(found))[0]
    if not usual and any(found[name] != found[chosen] for name in texts):
        raise DatasetError(
            f"The columns {', '.join(map(repr, found))} of {path} name different images. Call the one that is meant"
            " file_name."
        )
    others = [column for column in columns if found.get(column.name) != found[chosen]]
    return NamedImages(path, found[chosen], tuple(others))


def _says_splits(column: Column) -> bool:
    texts = {value for value in column.values if isinstance(value, str)}
    return column.name.lower() in ("split", "subset", "set", "partition", "phase", "usage") and bool(texts) and all(
        split_word(text) for text in texts
    )  # fmt: skip


def _refuse_elsewhere(path: str, columns: Sequence[Column]) -> None:
    for column in columns:
        for value in column.values if column.name.lower().endswith(("file_name", "path", "file")) else ():
            if isinstance(value, str) and (re.match(r"[/~\\]|[A-Za-z][\w+.-]*:", value) or ".." in value.split("/")):
                raise ValueError(f"{path} names {value[:120]!r}, outside of the dataset's own files")


class _Finder:
    """Finds the image that a cell names: by its path from the table, or by the end of it, with or without suffix."""

    def __init__(self, table: str, images: Iterable[str]) -> None:
        inside = f"{table.rpartition('/')[0]}/".lstrip("/")
        self.whole: dict[str, str] = {}
        self.ends: dict[str, str | None] = {}  # None for the end of several paths
        for image in images:
            if not image.startswith(inside):
                continue
            path = image.removeprefix(inside)
            self.whole[path] = image
            parts = path.split("/")
            for start in range(len(parts)):
                end = "/".join(parts[start:])
                for key in {end, end.rpartition(".")[0]} - {""}:
                    self.ends[key] = image if self.ends.get(key, image) == image else None

    def __call__(self, cell: Any) -> str | None:
        if isinstance(cell, float) and cell.is_integer():
            cell = int(cell)
        if not isinstance(cell, str | int) or isinstance(cell, bool):
            return None
        path = str(cell).strip().replace("\\", "/").removeprefix("./")
        found = self.whole.get(path) or self.ends.get(path)
        while not found and "/" in path:  # ../input/train/1.jpg, as it lay on another machine
            path = path.split("/", 1)[1]
            found = self.ends.get(path)
        return found

    def names_images(self, cells: Sequence[Any]) -> bool:
        """Return whether half of the cells, or more, name images, and not all the same."""
        found = [image for cell in cells if (image := self(cell))]
        return len(found) * 2 >= len(cells) and len(set(found)) * 2 >= len(found)


def _read(content: bytes, path: str) -> list[Column]:
    suffix = Path(path).suffix.lower()
    try:
        if suffix == ".parquet":
            rows = open_rows(path, [partial(io.BytesIO, content)])
            return [
                replace(column, values=rows.column(column.name))
                for column in columns_of(rows.schema) if column.kind in ("text", "number", "classes", "list")
            ]  # fmt: skip
        text = _decoded(content)
        if suffix in (".csv", ".tsv"):
            return _of_lines(text, "\t" if suffix == ".tsv" else None)
        return _of_objects(_objects(text, suffix != ".json"))
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise DatasetError(f"The table {path} cannot be read ({str(error)[:200]}). Mend it or move it away.") from error


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _of_lines(text: str, separator: str | None) -> list[Column]:
    head = text[:4096].split("\n", 1)[0]
    separator = separator or max(",;\t|", key=head.count)
    csv.field_size_limit(_MAX_CELL)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row]
    if not rows:
        return []
    header, body = [name.strip() for name in rows[0]], rows[1:]
    if any("." in name and Path(name).suffix.lower() in (".jpg", ".jpeg", ".png") for name in header):  # no header
        header, body = [f"column {i + 1}" for i in range(len(rows[0]))], rows
    cells = {name: [row[i] if i < len(row) else "" for row in body] for i, name in enumerate(header) if name}
    return [_column(name, values) for name, values in cells.items()]


def _column(name: str, cells: Sequence[str]) -> Column:
    """Of whole numbers where all that is not missing is such, as 1.0 beside an empty cell; else of texts."""
    values = [None if cell.strip().lower() in _MISSING else cell.strip() for cell in cells]
    try:
        numbers = [None if value is None else float(value) for value in values]
    except ValueError:
        return Column(name, "text", values)
    padded = any(value and len(value) > 1 and value[0] == "0" and value.isdigit() for value in values)
    if padded or any(number is not None and not math.isfinite(number) for number in numbers):
        return Column(name, "text", values)
    if all(number is None for number in numbers):
        return Column(name, "text", values)
    return Column(name, "number", [n if n is None or not n.is_integer() else int(n) for n in numbers])


def _objects(text: str, lines: bool) -> list[Mapping[str, Any]]:
    found = [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    if isinstance(found, Mapping):  # {"cat.jpg": "cat"}
        found = [{"file_name": key, "label": value} for key, value in found.items() if isinstance(value, str | int)]
    if not isinstance(found, list):
        return []
    return [one for one in found if isinstance(one, Mapping)]


def _of_objects(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    names = dict.fromkeys(str(name) for row in rows[:1000] for name in row)
    found = []
    for name in list(names)[:200]:
        values = [row.get(name) for row in rows]
        some = next((value for value in values if value is not None), None)
        kinds = ((str, "text"), (int | float, "number"), (list, "list"), (dict, "fields"))
        found.append(Column(name, next((kind for type_, kind in kinds if isinstance(some, type_)), "other"), values))
    return found
