"""Which columns of a table hold the image and the label: told by kinds, values and names; where in doubt, asked."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xaihub.errors import DatasetError

__all__ = ["Column", "LabelColumn", "columns_of", "flatten", "image_column", "label_column", "word_of"]

_NAMES = {
    "label", "labels", "class", "classes", "category", "categories", "target", "targets", "cls", "dx", "diagnosis",
    "class_name", "classname", "label_name", "label_names", "labelname", "class_label", "class_id", "label_id",
    "category_name", "category_id", "fine_label", "coarse_label", "species", "breed", "y", "gt", "ground_truth",
    "groundtruth", "answer",
}  # fmt: skip
_FIRST = ("label", "labels", "fine_label")  # of several columns of class labels, the one that its author calls so
_NO_CLASSES = {
    "source", "origin", "license", "licence", "split", "subset", "fold", "url", "uri", "path", "file", "filename",
    "file_name", "author", "photographer", "artist", "camera", "format", "mode", "mime", "mime_type", "dtype", "lang",
    "language", "generator", "generator_revision", "original_format", "id", "uuid", "hash", "key", "sha256", "md5",
    "__key__", "__url__", "date", "time", "timestamp", "width", "height", "size",
}  # fmt: skip
_IMAGES = ("image", "img", "picture", "photo", "pixel_values")
_CALLED = {"text": "Value", "number": "Value", "classes": "ClassLabel", "list": "List"}  # by the datasets library
_SAMPLE = 2_000  # values of each column that are looked at


@dataclass(frozen=True)
class Column:
    """A column, or a field of one (`json.label`), with some of its values.

    Attributes:
        kind: "image", "classes", "text", "number", "list" or "other".
        names: of the classes, by index.
    """

    name: str
    kind: str
    values: Sequence[Any] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelColumn:
    """The column that labels are taken from, if there is one.

    Attributes:
        name: None where there is none.
        names: its classes, in order; () where words are taken as they come.
        notice: what a person should know of the choice, or why there is none; "" if it goes without saying.
    """

    name: str | None
    names: tuple[str, ...] = ()
    notice: str = ""

    @property
    def stored(self) -> str | None:
        """The column of the table; of a field the column that it is in."""
        return None if self.name is None else self.name.split("\0")[0]

    @property
    def shown(self) -> str:
        return _shown(self.name or "")

    def word(self, value: Any) -> str | None:
        """A row's label in words; None where it is withheld or missing."""
        for part in (self.name or "").split("\0")[1:]:
            value = value.get(part) if isinstance(value, Mapping) else None
        return word_of(value, self.names)


def word_of(value: Any, names: Sequence[str] = ()) -> str | None:
    """A label in words: None for a missing one, "3" for 3 and 3.0, the only element of a list of one.

    Raises:
        DatasetError: it is several labels, or no label at all.
    """
    if isinstance(value, list | tuple) and len(value) < 2:
        value = value[0] if value else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, list | tuple | Mapping | float):
        raise DatasetError(f"{value!r:.60} is not one label.")
    if names:
        return names[int(value)] if 0 <= int(value) < len(names) else None
    return str(value) if str(value).strip() else None


def columns_of(schema: Any, noted: Any = None) -> list[Column]:
    """The columns of an arrow schema, as the datasets library's own notes in it, or their types, say what they are.

    Args:
        noted: another schema whose notes count instead, where a dataset's card says what its columns are.
    """
    notes = _noted(schema if noted is None else noted)
    found = []
    for field in schema:
        note = notes.get(field.name)
        kind, names = _kind(field.type, note if isinstance(note, Mapping) else {})
        found.append(Column(field.name, kind, (), names))
    return found


def _noted(schema: Any) -> Mapping[str, Any]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (LookupError, TypeError, ValueError, RecursionError):
        return {}
    return features if isinstance(features, Mapping) else {}


def _kind(type_: Any, note: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    import pyarrow as pa

    if note.get("_type") == "Image":
        return "image", ()
    inner = note.get("feature")
    names = _class_names(note)
    if names is not None:
        return "classes", names
    while pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if pa.types.is_struct(type_) and {type_.field(i).name for i in range(type_.num_fields)} == {"bytes", "path"}:
        return "image", ()
    tests = {
        "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        "number": (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean),
        "list": (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list),
        "fields": (pa.types.is_struct,),
        "bytes": (pa.types.is_binary, pa.types.is_large_binary),
    }
    kind = next((kind for kind, which in tests.items() if any(test(type_) for test in which)), "other")
    return kind, (_class_names(inner) or ()) if kind == "list" and isinstance(inner, Mapping) else ()


def _class_names(note: Mapping[str, Any]) -> tuple[str, ...] | None:
    names = note.get("names")
    if note.get("_type") != "ClassLabel" or not isinstance(names, Sequence) or isinstance(names, str):
        return None
    return tuple(map(str, names))


def flatten(columns: Sequence[Column]) -> list[Column]:
    """The columns with the fields of dictionaries as columns of their own, called `column NUL field`."""
    found: list[Column] = []
    for column in columns:
        fields = dict.fromkeys(key for value in column.values if isinstance(value, Mapping) for key in value)
        found += [
            Column(
                f"{column.name}\0{key}",
                _of_values(values := [v.get(key) for v in column.values if isinstance(v, Mapping)]), values,
            )
            for key in fields if column.kind in ("fields", "other")
        ] or [column]  # fmt: skip
    return found


def _of_values(values: Sequence[Any]) -> str:
    some = next((value for value in values if value is not None), None)
    if isinstance(some, str):
        return "text"
    return "number" if isinstance(some, int | float) else "list" if isinstance(some, list | tuple) else "other"


def image_column(columns: Sequence[Column], source: str, wanted: str | None = None) -> str:
    """The column of images.

    Raises:
        DatasetError: there is none, or there are several and none is called so.
    """
    found = [column.name for column in columns if column.kind == "image" or _holds_images(column)]
    if wanted is not None:
        if wanted in found:
            return wanted
        raise DatasetError(f"{source} has no column of images {wanted[:80]!r}. Those it has are: {_some(found)}.")
    if not found:
        kinds = ", ".join(f"{column.name} ({_CALLED.get(column.kind, column.kind)})" for column in columns[:8])
        raise DatasetError(
            f"{source} has no column of pictures; its columns are: {kinds or 'unknown'}. Use an image dataset."
        )
    called = [name for usual in _IMAGES for name in found if name.lower() == usual]
    if len(whole := [name for name in found if "." not in name]) == 1:  # jpg beside seg.png
        called = called or whole
    if len(found) > 1 and not called:
        raise DatasetError(
            f"{source} has several columns of images: {_some(found)}. Say which: image_column={found[0]!r}"
            " (--image-column on the command line)."
        )
    return called[0] if called else found[0]


def _holds_images(column: Column) -> bool:
    starts = [bytes(value[:4]) for value in column.values if isinstance(value, bytes)]
    return column.kind == "bytes" and bool(starts) and all(
        start[:3] == b"\xff\xd8\xff" or start in (b"\x89PNG", b"RIFF", b"GIF8", b"II*\0", b"MM\0*") for start in starts
    )  # fmt: skip


def label_column(columns: Sequence[Column], source: str, wanted: str | None = None) -> LabelColumn:
    """The column of labels, by the kinds, names and values of all.

    A column of class labels, or one that is called as labels are, is taken; of two that say the same, the one in
    words. Without such a column, the only one whose texts repeat is. What is no single label (several for an image,
    fractions) is never one.

    Args:
        wanted: its name; "" for none.

    Raises:
        DatasetError: several could be meant, or the wanted one does not exist or holds no labels.
    """
    every = flatten(columns)
    if wanted == "":
        return LabelColumn(None)
    if wanted is not None:
        return _wanted(every, source, wanted)
    columns = [column for column in every if column.kind != "image"]
    why_not = {column.name: why for column in columns if (why := _unfit(column))}
    fit = [column for column in columns if column.name not in why_not]
    strong = [column for column in fit if column.kind == "classes" or _last(column.name).lower() in _NAMES]
    weak = [column for column in fit if column.kind == "text" and _repeats(column)]
    for some in (strong, weak):
        distinct = _without_copies(some)
        if len(distinct) == 1:
            told = "" if some is strong else f"The labels are those of the column {_shown(distinct[0].name)!r}"
            return LabelColumn(distinct[0].name, distinct[0].names, told)
        if distinct:
            return _of_several(distinct, source)
    return LabelColumn(None, notice=_none(columns, why_not))


def _wanted(columns: Sequence[Column], source: str, wanted: str) -> LabelColumn:
    found = next((column for column in columns if _shown(column.name) == wanted), None)
    if found is None:
        raise DatasetError(
            f"{source} has no column {wanted[:80]!r}. Its columns are: {_some([_shown(c.name) for c in columns])}."
        )
    if why := _unfit(found):
        raise DatasetError(f"The column {wanted[:80]!r} of {source} cannot be its labels: it holds {why}.")
    return LabelColumn(found.name, found.names)


def _of_several(found: Sequence[Column], source: str) -> LabelColumn:
    classes = [column for column in found if column.kind == "classes"]
    among = classes or found
    called = [column for usual in _FIRST for column in among if column.name.lower() == usual]
    shown = [_shown(column.name) for column in found]
    if called and (called[0].kind == "classes" or not classes):
        others = _some([name for name in shown if name != called[0].name])
        return LabelColumn(
            called[0].name, called[0].names,
            f"The labels are those of the column {called[0].name!r}; label_column can name another: {others}",
        )  # fmt: skip
    raise DatasetError(
        f"{source} has several columns that may be its labels: {_some(shown)}. Say which: label_column={shown[0]!r}"
        ' (--label-column on the command line), or "" for none.'
    )


def _none(columns: Sequence[Column], why_not: Mapping[str, str]) -> str:
    named = [f"{_shown(name)!r} holds {why}" for name, why in why_not.items() if _last(name).lower() in _NAMES]
    if named:
        return f"No image has a label: {'; '.join(named[:4])}. label_column can name another column"
    there = [_shown(column.name) for column in columns]
    return f"No image has a label: no column looks like labels (there are: {_some(there)}); label_column can name one"


def _unfit(column: Column) -> str:
    """Why a column cannot be labels; "" if it can."""
    if column.kind == "image":
        return "images"
    if column.kind == "large":
        return "more than can be read at once"
    if column.kind in ("other", "fields"):
        return "neither words nor numbers"
    if column.kind == "bytes" and any(len(value) > 200 for value in column.values if value):
        return "data"
    several = sum(isinstance(value, list | tuple) and len(value) > 1 for value in column.values)
    if several:
        return f"several labels an image ({several:,} of {len(column.values):,} rows looked at)"
    try:
        words = {word_of(value, column.names) for value in column.values}
    except (DatasetError, ValueError, TypeError, IndexError):
        return "fractions, or lists within lists" if column.kind in ("number", "list") else "no single labels"
    if column.values and words <= {None} and column.kind != "classes":
        return "nothing"
    return ""


def _repeats(column: Column) -> bool:
    """Return whether texts are names of groups rather than of rows."""
    values = [value for value in column.values if isinstance(value, str) and value.strip()]
    kinds = set(values)
    grouped = len(values) > 3 and 2 <= len(kinds) <= len(values) / 2 and max(map(len, kinds)) <= 100
    return grouped and _last(column.name).lower() not in _NO_CLASSES


def _without_copies(columns: Sequence[Column]) -> list[Column]:
    """The columns without those that say what another says: 0, 1, 0 beside cat, dog, cat; words before numbers."""
    rank = {"classes": 0, "text": 1}
    found: dict[tuple[int, ...], Column] = {}

    def order_of(one: Column) -> tuple[int, bool]:
        return rank.get(one.kind, 2), one.name.lower() not in _FIRST

    for place, column in enumerate(sorted(columns, key=order_of)):
        order: dict[Any, int] = {}
        words = [word_of(value, column.names) for value in column.values]
        parts = tuple(order.setdefault(word, len(order)) for word in words)
        found.setdefault(parts if len(order) > 1 else (-1 - place,), column)
    return [column for column in columns if any(column is one for one in found.values())]


def _last(name: str) -> str:
    return name.split("\0")[-1].removeprefix(".")


def _shown(name: str) -> str:
    return name.replace("\0", ".")


def _some(names: Sequence[str]) -> str:
    return (", ".join(name[:60] for name in names[:12]) or "none") + (", ..." if len(names) > 12 else "")


def sample(values: Sequence[Any]) -> list[Any]:
    """Values from all over a column, in their order."""
    step = max(1, len(values) // _SAMPLE)
    return list(values[::step][:_SAMPLE])
