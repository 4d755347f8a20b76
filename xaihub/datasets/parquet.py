"""Rows of parquet files, a batch at a time: what a file would take is read in its footer before anything is decoded.

A file of 32 KB can hold one image a hundred thousand times over, or claim a thousand million rows. So footers are
checked, columns are read only as far as they are needed, and images are decoded one after another.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from xaihub.datasets import columns as columns_module
from xaihub.datasets.columns import Column, columns_of
from xaihub.datasets.pictures import in_order
from xaihub.errors import DatasetError, PictureError, XaihubError, first_line

__all__ = ["MAX_ROWS", "Rows", "Table", "choose_columns", "open_rows"]

MAX_ROWS = 5_000_000  # of all files that are read; a list of as many labels is 40 MB
MAX_GROUPS = 100_000
MAX_FOOTER = 16 * 2**20
MAX_COLUMNS = 2_000
MAX_DECODED = 256 * 2**20  # of a column of one row group; more where the file itself has a quarter of it
_RATIO = 4
_PLAIN = {"PLAIN", "RLE", "BIT_PACKED", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "DELTA_LENGTH_BYTE_ARRAY"}
_DICTIONARY = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}
_AT_ONCE = 4_096  # rows of a small column
_SAMPLE = 2_000  # rows that are looked at to choose the columns
_RECENT = 64 * 2**20  # bytes of the last cells that are kept, since threads do not ask in order

Opener = Callable[[], BinaryIO | str]


class _LargeError(DatasetError):
    """A column unfolds to more than it may."""


@dataclass(frozen=True)
class _Group:
    file: int
    group: int
    first: int
    rows: int


@dataclass
class Rows:
    """The rows of parquet files, read when they are asked for.

    Attributes:
        schema: arrow's, of the first file.
        count: how many rows the groups hold.
    """

    name: str
    files: Sequence[Any]
    groups: Sequence[_Group]
    schema: Any
    _at: "dict[str, tuple[_Group, int, Iterator[Any]]]" = field(default_factory=dict)
    _recent: "OrderedDict[tuple[str, int], Any]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # cells are asked for on several threads

    @property
    def count(self) -> int:
        return sum(group.rows for group in self.groups)

    def column(self, column: str, rows: int | None = None) -> list[Any]:
        """The values of a small column, such as labels, of all rows or of the first.

        Raises:
            DatasetError: to decode it would take too much.
        """
        import pyarrow as pa

        values: list[Any] = []
        for group in self.groups:
            if rows is not None and len(values) >= rows:
                break
            self._refuse_large(group, column, together=True)
            try:
                for batch in self._batches(group, column, _AT_ONCE):
                    values += _values(batch.column(0))
                    if rows is not None and len(values) >= rows:
                        break
            except (OSError, ValueError, pa.ArrowException) as error:
                raise DatasetError(
                    f"The column {column[:60]!r} of {self.name} cannot be read ({first_line(error)})."
                    " The file is damaged: fetch or build it again."
                ) from error
        return values[:rows]

    def with_values(self, column: Column) -> Column:
        """The column with some values from all over, as far as they are small: images are not read for it."""
        if column.kind in ("image", "other"):
            return column
        if column.kind == "bytes":
            return replace(column, values=[self.cell(column.name, row) for row in range(min(4, self.count))])
        some = self.groups[:: max(1, len(self.groups) // 8)][:8]
        try:
            parts = [replace(self, groups=[group]).column(column.name, _SAMPLE // len(some)) for group in some]
        except _LargeError:
            return replace(column, kind="large")
        return replace(column, values=[value for part in parts for value in part])

    def cell(self, column: str, row: int) -> Any:
        """One value of a large column, such as an image; those before it in its row group are passed over.

        Raises:
            PictureError: it cannot be read.
            DatasetError: its column unfolds to more than it may, or there is no such row.
        """
        with self._lock:
            if (column, row) not in self._recent:
                try:
                    self._forward(column, row)
                except XaihubError:
                    raise
                except Exception as error:  # a damaged page, or a connection that broke
                    self._at.pop(column, None)
                    raise PictureError(f"This row cannot be read ({first_line(error)}).") from error
            return self._recent[column, row]

    def _forward(self, column: str, row: int) -> None:
        group = next(group for group in reversed(self.groups) if group.first <= row)
        here, place, batches = self._at.get(column, (None, 0, iter(())))
        if here != group or place > row:
            self._refuse_large(group, column)
            place, batches = group.first, self._batches(group, column, 1)
        for batch in batches:
            cell = batch.column(0)[0]
            if row - place < 64:  # the last few: another thread may still ask for them
                self._recent[column, place] = cell.as_py()
            place += 1
            if place > row:
                break
        self._at[column] = (group, place, batches)
        if (column, row) not in self._recent:
            raise DatasetError(f"{self.name} has no row {row}.")
        while len(self._recent) > 1 and sum(map(_size, self._recent.values())) > _RECENT:
            self._recent.popitem(last=False)
        while len(self._recent) > 128:
            self._recent.popitem(last=False)

    def _batches(self, group: _Group, column: str, size: int) -> Iterator[Any]:
        batches: Iterator[Any] = self.files[group.file].iter_batches(
            batch_size=size, row_groups=[group.group], columns=[column], use_threads=False
        )
        return batches

    def _refuse_large(self, group: _Group, column: str, *, together: bool = False) -> None:
        """Raise if a column of a row group unfolds to more than it may, `together` if many of its values are held."""
        footer = self.files[group.file].metadata.row_group(group.group)
        for i in range(footer.num_columns):
            chunk = footer.column(i)
            if chunk.path_in_schema.split(".")[0] != column:
                continue
            limit = max(MAX_DECODED, _RATIO * chunk.total_compressed_size)
            size, values = max(chunk.total_uncompressed_size, chunk.total_compressed_size), chunk.num_values
            # of values that share bytes with others each may be as large as all; plain texts stay in their dictionary
            apart = (
                _PLAIN if "." in chunk.path_in_schema and chunk.physical_type == "BYTE_ARRAY" else _PLAIN | _DICTIONARY
            )
            shared = together and not set(chunk.encodings) <= apart
            if size > limit or values > MAX_ROWS or (shared and values * size > limit):
                raise _LargeError(
                    f"{self.name} is not read: {values:,} values of its column {column[:60]!r} would take"
                    f" {(values * size if shared else size) / 2**20:,.0f} MB at once; at most {limit / 2**20:,.0f} MB"
                    f" and {MAX_ROWS:,} values are decoded. Write it with smaller row groups."
                )


@dataclass(frozen=True)
class Table:
    """The meaning of parquet columns for images.

    Attributes:
        image: the column of images.
        labels: of each row, None where it has none.
        names: of the classes, in order.
        notice: what a person should know of how the columns were chosen; "" if it goes without saying.
    """

    image: str
    labels: list[str | None]
    names: tuple[str, ...]
    notice: str


def choose_columns(
    rows: Rows,
    name: str,
    *,
    label_column: str | None = None,
    image_column: str | None = None,
    noted: Any = None,
    count: int | None = None,
) -> Table:
    """The columns of images and labels, and the labels of all rows or of the first `count`.

    Args:
        noted: see `columns_of`.

    Raises:
        DatasetError: there are no images, or several columns could be meant.
    """
    columns = columns_of(rows.schema, noted)
    small = [rows.with_values(column) if column.kind == "bytes" else column for column in columns]
    image = columns_module.image_column(small, name, image_column)
    some = [replace(column, kind="image") if column.name == image else rows.with_values(column) for column in columns]
    chosen = columns_module.label_column(some, name, label_column)
    total = rows.count if count is None else min(count, rows.count)
    if chosen.stored is None:
        return Table(image, [None] * total, (), chosen.notice)
    try:
        labels = [chosen.word(value) for value in rows.column(chosen.stored, total)]
    except (DatasetError, ValueError, TypeError) as error:
        raise DatasetError(
            f"The column {chosen.shown!r} of {name} cannot be its labels: {str(error)[:120]} Name another with"
            " label_column (--label-column on the command line)."
        ) from error
    return Table(image, labels, chosen.names or in_order({word for word in labels if word is not None}), chosen.notice)


def open_rows(name: str, openers: Sequence[Opener], *, enough: int | None = None) -> Rows:
    """The rows of these files, whose footers are read now; of further files only until there are enough rows.

    Args:
        openers: each gives a path or an open file.

    Raises:
        DatasetError: a footer cannot be read, or asks for too much.
    """
    import pyarrow as pa

    files: list[Any] = []
    groups: list[_Group] = []
    first = 0
    for opener in openers:
        if enough is not None and first >= enough:
            break
        try:
            file = _open(opener())
        except (OSError, ValueError, TypeError, LookupError, pa.ArrowException) as error:
            raise DatasetError(
                f"{name} holds no dataset that can be read ({type(error).__name__}: {str(error)[:200]}). Build it"
                " again, with scripts/build_dataset.py or as parquet files of images and labels."
            ) from error
        if files and set(file.schema_arrow.names) != set(files[0].schema_arrow.names):
            raise DatasetError(f"The parquet files of {name} have different columns, so they are not one dataset.")
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if enough is None or first < enough:
                groups.append(_Group(len(files), group, first, rows))
            first += rows
        files.append(file)
        if first > MAX_ROWS or len(groups) > MAX_GROUPS:
            raise DatasetError(
                f"{name} claims {first:,} rows in {len(groups):,} row groups; at most {MAX_ROWS:,} and {MAX_GROUPS:,}"
                " are read. Use a smaller dataset, or a part of it."
            )
    if not files:
        raise DatasetError(f"{name} has no parquet files.")
    return Rows(name, files, groups, files[0].schema_arrow)


def _open(source: BinaryIO | str) -> Any:
    """A file whose footer was read and found to be of a reasonable size."""
    import pyarrow.parquet as pq

    with _stream(source) as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - 8))
        end = stream.read(8)
        footer = int.from_bytes(end[:4], "little")
        if end[4:] == b"PAR1" and footer > min(MAX_FOOTER, size):
            raise ValueError(f"its footer would have {footer:,} bytes")
    made: dict[str, Any] = {"pre_buffer": False, "buffer_size": 2**20}
    limits = {"thrift_string_size_limit": MAX_FOOTER, "thrift_container_size_limit": 1_000_000}
    file = pq.ParquetFile(source, **made, **limits)
    if file.metadata.num_columns > MAX_COLUMNS:
        raise ValueError(f"it has {file.metadata.num_columns:,} columns")
    texts = _texts(file.schema_arrow)
    return pq.ParquetFile(source, metadata=file.metadata, read_dictionary=texts, **made, **limits) if texts else file


def _texts(schema: Any) -> list[str]:
    """Columns of text, which stay as the indices they are stored as: one long text may be meant by a million rows."""
    import pyarrow as pa

    kinds = (pa.types.is_string, pa.types.is_large_string)
    return [field.name for field in schema if any(kind(field.type) for kind in kinds)]


class _stream:  # noqa: N801  a context, as open() is
    """A path opened and closed again, or a file left open."""

    def __init__(self, source: BinaryIO | str) -> None:
        self.source = source

    def __enter__(self) -> BinaryIO:
        self.file = open(self.source, "rb") if isinstance(self.source, str) else self.source
        return self.file

    def __exit__(self, *_error: object) -> None:
        if isinstance(self.source, str):
            self.file.close()


def _values(array: Any) -> list[Any]:
    """As Python's; a text that many rows share is one string."""
    import pyarrow as pa

    if not pa.types.is_dictionary(array.type):
        return list(array.to_pylist())
    texts = array.dictionary.to_pylist()
    return [None if place is None else texts[place] for place in array.indices.to_pylist()]


def _size(cell: Any) -> int:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    return len(data) if isinstance(data, bytes | str) else 0
