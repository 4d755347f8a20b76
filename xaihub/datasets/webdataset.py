"""Tar files of samples, as the webdataset library writes them: 0001.jpg and 0001.cls are one row.

Only the headers and the small members are read at first, images when they are asked for. A tar file that is compressed,
or a member that is, says nowhere how large it is inside, so neither is unpacked.
"""

import json
import re
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from xaihub.datasets.columns import Column, image_column, label_column, sample
from xaihub.datasets.listing import image_suffixes, is_clutter
from xaihub.datasets.pictures import Source, in_order
from xaihub.datasets.reading import Read
from xaihub.errors import DatasetError, PictureError
from xaihub.images import MAX_BYTES

__all__ = ["Tar", "read_samples"]

_MAX_SMALL = 64 * 2**10  # bytes of a member that holds no image
_MAX_SAMPLES = 1_000_000
_SAMPLE_NAME = re.compile(r"((?:.*/|)[^./][^./]*)\.([^/]+)")
_NUMBERS = ("cls", "cls2", "index", "id")


@dataclass(frozen=True)
class Tar:
    """A tar file: a path, or a file on the Hub that is open."""

    name: str
    source: Path | BinaryIO
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        if isinstance(self.source, Path):
            with self.source.open("rb") as stream:
                yield stream
        else:
            with self.lock:  # it is read on several threads
                yield self.source

    def read(self, start: int, size: int, limit: int) -> bytes:
        """
        Raises:
            PictureError: it has more than `limit` bytes, or the file ends before.
        """
        if size > limit:
            raise PictureError(f"It has {size / 2**20:,.1f} MB; at most {limit / 2**20:,.1f} MB are read.")
        with self.opened() as stream:
            stream.seek(start)
            data = stream.read(size)
        if len(data) != size:
            raise PictureError("The tar file ends within it.")
        return data


def read_samples(
    name: str,
    split: str,
    tars: Sequence[Callable[[], Tar]],
    *,
    label: str | None,
    image: str | None,
    most: int | None = None,
) -> Read:
    """The rows of tar files, in their order; only the first `most` if it is given.

    Raises:
        DatasetError: a file is no plain tar file, or its columns of images or labels are not clear.
    """
    rows: list[dict[str, Any]] = []
    for opener in tars:
        if most is not None and len(rows) >= most:
            break
        rows += _rows(opener(), most if most is None else most - len(rows))
    columns = [
        Column(each, "image" if f".{each.rsplit('.', 1)[-1]}" in image_suffixes() else _kind(values), sample(values))
        for each in dict.fromkeys(each for row in rows for each in row)
        for values in [[row.get(each) for row in rows]]
    ]
    shown = image_column(columns, name, image)
    chosen = label_column(columns, name, label)
    labels = [chosen.word(row.get(chosen.stored)) if chosen.stored else None for row in rows]
    found: list[Source] = [
        (f"{split}/{i}", word, row.get(shown) or _nothing)
        for i, (row, word) in enumerate(zip(rows, labels, strict=True))
    ]
    names = in_order({word for word in labels if word is not None})
    return Read(found, names, notices=(chosen.notice,) if chosen.notice else ())


class _ShortReads:
    """A file of which no more than a megabyte is read at once: a header may claim a name of gigabytes."""

    def __init__(self, stream: BinaryIO) -> None:
        self.seek, self.tell, self._read = stream.seek, stream.tell, stream.read

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 2**20:
            raise ValueError("a header is too long")
        return self._read(size)


def _rows(tar: Tar, most: int | None) -> list[dict[str, Any]]:
    """Field -> its value, or for an image what reads it; members of one name that follow each other are one row."""
    rows: list[dict[str, Any]] = []
    last = None
    try:
        with tar.opened() as stream, tarfile.open(fileobj=_short(stream), mode="r:") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # else it keeps the headers of all
                named = _SAMPLE_NAME.fullmatch(member.name)
                if not member.isreg() or member.issparse() or not named or any(map(is_clutter, member.name.split("/"))):
                    continue
                if named[1] != last:
                    if len(rows) == (_MAX_SAMPLES if most is None else most):
                        break
                    last = named[1]
                    rows.append({})
                value = _value(tar, archive, named[2].lower(), member)
                if value is not None:
                    rows[-1][named[2].lower()] = value
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise DatasetError(
            f"{tar.name} is no plain tar file that can be read ({str(error)[:120]}). Compressed ones are not, for they"
            " say nowhere how much they hold."
        ) from error
    return rows


def _short(stream: BinaryIO) -> Any:
    stream.seek(0)
    return _ShortReads(stream)


def _value(tar: Tar, archive: tarfile.TarFile, named: str, member: tarfile.TarInfo) -> Any:
    kind = named.rsplit(".", 1)[-1]
    if f".{kind}" in image_suffixes():
        return partial(tar.read, member.offset_data, member.size, MAX_BYTES)
    if kind not in (*_NUMBERS, "txt", "text", "json") or member.size > _MAX_SMALL:
        return None
    file = archive.extractfile(member)
    text = file.read(_MAX_SMALL).decode("utf-8", "replace") if file else ""
    try:
        return json.loads(text) if kind == "json" else int(text) if kind in _NUMBERS else text.strip()
    except (ValueError, RecursionError):
        return text.strip() if kind != "json" else None


def _kind(values: Sequence[Any]) -> str:
    some = next((value for value in values if value is not None), None)
    return "text" if isinstance(some, str) else "number" if isinstance(some, int | float) else "fields"


def _nothing() -> bytes:
    raise PictureError("This row holds no picture.")
