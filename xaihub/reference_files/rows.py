"""rows.parquet: one row for each picture. Columns of text stay packed, and pictures stay on the disk."""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xaihub.errors import ReferencesError

__all__ = ["Pictures", "Texts", "check_packing", "read_rows", "rows_with", "schema_of", "short_texts", "write_rows"]

_KINDS = {
    "key": "string", "label": "string", "predicted": "string", "predicted_index": "int64", "probability": "float32",
    "pixels_sha256": "string", "perceptual_hash": "uint64", "source": "string",
}  # fmt: skip
_NUMBERS = {"predicted_index": np.int64, "probability": np.float32, "perceptual_hash": np.uint64}
_TEXTS = ("key", "label", "pixels_sha256", "source")
_GROUP = 256  # rows that are read to show one picture: some ten megabytes
_BARE_GROUP = 65_536  # where there are no pictures
_HELD = 3  # row groups that are kept
_LETTERS, _ALL_LETTERS = 1024, 2**30  # bytes of a text at most, on average, and of a column: keys are paths
_LARGEST_GROUP = 512 * 2**20  # bytes of a row group, unpacked: 256 crops of 1024 x 1024 pixels have half of it
_PACKED = ("UNCOMPRESSED", "SNAPPY")  # snappy unpacks to 22 times its size at most, others to any size
_WRITTEN = {"PLAIN", "RLE", "BIT_PACKED", "RLE_DICTIONARY", "PLAIN_DICTIONARY"}  # no value begins as another one does


def write_rows(file: Path, columns: Mapping[str, Any], classes: Sequence[str]) -> bool:
    """Writes the rows, a row group in memory at a time; gives whether there is any picture among them."""
    import pyarrow.parquet as pq

    schema, count, found = schema_of(_KINDS), len(columns["key"]), False
    group = _GROUP if count and columns["image"][0] is not None else _BARE_GROUP
    # pictures are compressed already, and no two are the same
    compression = {"image.bytes": "none"} | dict.fromkeys(("image.path", *_KINDS), "snappy")
    words = ["label", "predicted", "predicted_index"]
    with pq.ParquetWriter(file, schema, compression=compression, use_dictionary=words) as writer:
        for start in range(0, count, group):
            table, pictured = _table(columns, classes, slice(start, min(start + group, count)), schema)
            writer.write_table(table)
            found |= pictured
    return found


def _table(columns: Mapping[str, Any], classes: Sequence[str], span: slice, schema: Any) -> tuple[Any, bool]:
    """Some rows as a table, and whether any of them has a picture."""
    import pyarrow as pa

    held: dict[str, Any] = {name: columns[name][span] for name in _KINDS if name != "predicted"}
    held["predicted"] = [classes[int(index)] for index in held["predicted_index"]]
    pictures = columns["image"][span]
    held["image"] = [None if data is None else {"bytes": data, "path": None} for data in pictures]
    arrays = [pa.array(held[name], kind) for name, kind in zip(schema.names, schema.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema), any(data is not None for data in pictures)


def schema_of(kinds: Mapping[str, str]) -> Any:
    """Columns of these kinds and one of pictures, with what the datasets library, and so the Hub's viewer, reads their
    meaning from.
    """
    import pyarrow as pa

    features = {name: {"dtype": kind, "_type": "Value"} for name, kind in kinds.items()} | {"image": {"_type": "Image"}}
    fields = [(name, pa.type_for_alias(kind)) for name, kind in kinds.items()]
    fields.append(("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


def read_rows(file: Path, rows: int) -> dict[str, Any]:
    """The columns: numbers as arrays, texts packed, pictures unread; "source" is empty where format 1 had none.

    A stranger's file of some kilobytes may unpack to gigabytes, so what it says of itself is looked at first, and
    repeated values are counted before they are written out.

    Args:
        rows: how many there should be.

    Raises:
        OSError, LookupError, ValueError, TypeError, pyarrow.ArrowException: they are not what they should be.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file)
    check_packing(metadata, rows)
    there = [name for name in (*_TEXTS, *_NUMBERS) if name in metadata.schema.to_arrow_schema().names]
    once = [*(name for name in there if name in _TEXTS), "image.bytes"]  # a value that is repeated is held once
    opened = pq.ParquetFile(file, metadata=metadata, read_dictionary=once)
    table = opened.read(columns=there)
    columns: dict[str, Any] = {}
    for name, kind in _NUMBERS.items():
        columns[name] = _whole(table[name], name).to_numpy().astype(kind)
    for name in _TEXTS:
        texts = table[name] if name in there or name != "source" else pa.nulls(len(table), pa.string())
        columns[name] = Texts(_whole(texts, name) if name in ("key", "pixels_sha256") else short_texts(texts, name))
    image = opened.schema_arrow.field("image").type
    held = image.field("bytes").type if pa.types.is_struct(image) and image.get_field_index("bytes") >= 0 else None
    if held != pa.dictionary(pa.int32(), pa.binary()):
        raise TypeError(f"its pictures are {image}")
    return columns | {"image": Pictures(opened)}


def check_packing(metadata: Any, rows: int) -> None:
    """Nothing, if a file has so many rows and packs them as `write_rows` does.

    Raises:
        ValueError: it could unpack to far more than its size.
    """
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    if not metadata.num_rows == sum(group.num_rows for group in groups) == rows:
        raise ValueError("its files have different numbers of rows")
    for group in groups:
        chunks = [group.column(place) for place in range(group.num_columns)]
        wrong = [chunk for chunk in chunks if chunk.compression not in _PACKED or set(chunk.encodings) - _WRITTEN]
        if wrong:
            how = f"{wrong[0].compression}, {', '.join(wrong[0].encodings)}"
            raise ValueError(f"its column {wrong[0].path_in_schema[:80]!r} is packed in a way that is not read ({how})")
        size = sum(chunk.total_uncompressed_size for chunk in chunks)
        if size > _LARGEST_GROUP:
            raise ValueError(f"{group.num_rows:,} of its rows have {size / 2**20:,.0f} MB, too many to read at once")


def short_texts(column: Any, name: str) -> Any:
    """The column, if its texts are short.

    Raises:
        ValueError: they have more letters than keys and labels need.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    letters = 0
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else ():
        lengths = pc.binary_length(chunk.dictionary).take(chunk.indices)
        letters += pc.sum(lengths.cast(pa.int64())).as_py() or 0
    if letters > min(_LETTERS * len(column), _ALL_LETTERS):
        raise ValueError(f"the {name} of its rows has {letters / 2**20:,.0f} MB of letters in {len(column):,} rows")
    return column


def _whole(column: Any, name: str) -> Any:
    if column.null_count:
        raise ValueError(f"{column.null_count} of its rows have no {name}")
    return short_texts(column, name) if name in _TEXTS else column


class _Column(Sequence[Any]):
    """A column as a sequence, equal to any other sequence of the same values."""

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self._at(i) for i in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(f"There are {len(self)} rows, so none is {place}.")
        return self._at(int(place) % len(self))

    def _at(self, row: int) -> Any:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes) or len(self) != len(other):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


class Texts(_Column):
    """R texts or None, packed as pyarrow holds them: a million of them take no more than their letters."""

    def __init__(self, array: Any) -> None:
        import pyarrow as pa

        chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
        long = [_spelled(chunk, pa.large_string()) for chunk in chunks]  # with offsets for more than 2 GB of letters
        self.array = pa.chunked_array(long, pa.large_string()).combine_chunks()

    def __len__(self) -> int:
        return len(self.array)

    def _at(self, row: int) -> str | None:
        return self.array[row].as_py()

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            return self.array[start:stop:step].to_pylist()
        return super().__getitem__(place)

    def __iter__(self) -> Iterator[str | None]:
        return chain.from_iterable(self[start : start + 10_000] for start in range(0, len(self), 10_000))

    def __repr__(self) -> str:
        return f"Texts({len(self):,})"


def _spelled(chunk: Any, kind: Any) -> Any:
    """An array with each value written out."""
    import pyarrow as pa

    if pa.types.is_dictionary(chunk.type):
        return chunk.dictionary.cast(kind).take(chunk.indices)
    return chunk.cast(kind)


def rows_with(texts: Sequence[str | None], text: str) -> NDArray[np.int64]:
    """The rows that have this text."""
    if isinstance(texts, Texts):
        import pyarrow.compute as pc

        same = pc.fill_null(pc.equal(texts.array, text), False)
        return np.flatnonzero(same.to_numpy(zero_copy_only=False)).astype(np.int64)
    return np.array([row for row, other in enumerate(texts) if other == text], dtype=np.int64)


class Pictures(_Column):
    """R encoded pictures or None, read from the file a row group at a time; safe from several threads."""

    def __init__(self, file: Any) -> None:
        groups = range(file.metadata.num_row_groups)
        self._file = file
        self._ends = np.cumsum([file.metadata.row_group(group).num_rows for group in groups], dtype=np.int64)
        self._held: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def _at(self, row: int) -> bytes | None:
        import pyarrow as pa

        try:
            return self._read(row)
        except (pa.ArrowException, OSError, LookupError) as error:  # its bytes are as published, and broken
            raise ReferencesError(f"The picture of row {row} cannot be read ({error}). Build them again.") from error

    def _read(self, row: int) -> bytes | None:
        group = int(np.searchsorted(self._ends, row, side="right"))
        with self._lock:
            if group not in self._held:
                self._held[group] = self._file.read_row_group(group, columns=["image"])["image"]
                while len(self._held) > _HELD:
                    self._held.popitem(last=False)
            self._held.move_to_end(group)
            column = self._held[group]
        cell = column[row - (int(self._ends[group - 1]) if group else 0)].as_py()
        return cell["bytes"] if cell else None

    def __repr__(self) -> str:
        return f"Pictures({len(self):,})"
