"""Class names in a file beside the weights, as taggers have them: `selected_tags.csv`, `tags.txt`, `labels.json`."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xaihub.untrusted import json_value

__all__ = ["Named", "name_files", "names_beside"]

_SPEAKS_OF_NAMES = re.compile(r"[^/]*(tag|label|class|categor|synset|name)[^/]*\.(csv|tsv|txt|json)", re.IGNORECASE)
_LARGEST = 8 * 2**20  # bytes; 10,861 tags with their counts have 300 KB
_MOST_FILES = 4
_NAME = re.compile(r"(.*[_ ])?(name|tag|label|class|text)s?", re.IGNORECASE)
_PLACE = re.compile(r"(class_?|output_?)?(index|idx|id)", re.IGNORECASE)


class Named(NamedTuple):
    """Names as `class_names` takes them, the file they are from, and whether they are tags: many hold at once."""

    names: Sequence[Any] | Mapping[Any, Any]
    file: str
    tags: bool


def name_files(held: Mapping[str, int]) -> list[str]:
    """Which files of a repository, path -> size, could name its classes."""
    fitting = [path for path, size in held.items() if _SPEAKS_OF_NAMES.fullmatch(path) and size <= _LARGEST]
    return sorted(fitting)[:_MOST_FILES]


def names_beside(folder: Path, classes: int) -> Named | None:
    """The names in the first file of a folder that has exactly one for each class; None where none has.

    They are tags where the file's name or a column's says so.
    """
    held = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    for file in name_files(held):
        try:
            names, columns = _read(file, (folder / file).read_bytes())
        except (OSError, ValueError, csv.Error):
            continue
        if len(names) == classes:
            return Named(names, file, any("tag" in word.lower() for word in (file, *columns)))
    return None


def _read(file: str, data: bytes) -> tuple[Sequence[Any] | Mapping[Any, Any], Sequence[str]]:
    """The names in a file, and the words that say what they are."""
    if file.lower().endswith(".json"):
        return _largest(json_value(data, file))
    text = data.decode("utf-8-sig")
    if file.lower().endswith(".txt"):
        return [line.strip() for line in text.splitlines() if line.strip()], ()
    rows = [row for row in csv.reader(io.StringIO(text), delimiter="\t" if "\t" in text[:4096] else ",") if row]
    head, body = rows[0], rows[1:]
    if not any(_NAME.fullmatch(word.strip()) for word in head):  # no heading: the first column that is no number
        head, body = [], rows
    return _column(head, body), head


def _column(head: Sequence[str], body: Sequence[Sequence[str]]) -> Sequence[str] | Mapping[str, str]:
    """The names of a table, in the order of an index from 0 to C - 1 where it has one, else as they stand."""
    columns = list(zip(*body, strict=True))
    named = [place for place, word in enumerate(head) if _NAME.fullmatch(word.strip())]
    candidates = [
        place for place in (named or range(len(columns))) if not all(_digits(cell) for cell in columns[place])
    ]
    if not candidates:
        raise ValueError("no column of names")
    names = columns[candidates[0]]
    for place, word in enumerate(head):
        if _PLACE.fullmatch(word.strip()) and _counts(columns[place]):
            return dict(zip(columns[place], names, strict=True))
    return names


def _digits(cell: str) -> bool:
    return cell.strip().isdecimal()


def _counts(cells: Sequence[str]) -> bool:
    """Return whether a column holds each of 0 to C - 1 once."""
    return all(map(_digits, cells)) and sorted(map(int, cells)) == list(range(len(cells)))


def _largest(value: Any) -> tuple[Sequence[Any] | Mapping[Any, Any], Sequence[str]]:
    """The names in a JSON file: itself, or the largest list or object that it holds, with that one's key."""
    inside = value.items() if isinstance(value, Mapping) else ()
    parts = [(key, part) for key, part in inside if isinstance(part, Mapping | list)]
    key, part = max(parts, key=lambda entry: len(entry[1]), default=("", value))
    if isinstance(part, Mapping) and all(isinstance(index, int) for index in part.values()):
        part = {index: name for name, index in part.items()}
    return (part if isinstance(part, Mapping | list) else ()), (str(key),)
