"""prototypes.parquet: where each prototype was taken from, and its picture where that may be passed on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xaihub.errors import UnsupportedModelError, first_line
from xaihub.prototypes.gallery import Prototype
from xaihub.reference_files.rows import check_packing, schema_of, short_texts

__all__ = ["GALLERY", "read_gallery", "read_weights", "write_gallery"]

GALLERY = "prototypes.parquet"

_NUMBERS = ("owner", "row", "column", "rows", "columns")
_TEXTS = ("key", "pixels_sha256", "source")
_KINDS = {
    "owner": "int64", "label": "string", "weight": "float32", "key": "string", "row": "int64", "column": "int64",
    "rows": "int64", "columns": "int64", "pixels_sha256": "string", "source": "string",
}  # fmt: skip
_MOST_BYTES = 256 * 2**20  # of all pictures: ten thousand crops of 224 x 224 pixels have about as much
_LARGEST = 4096  # rows or columns of a grid: a place for each pixel of the largest pictures, and more


def write_gallery(
    file: Path, gallery: Sequence[Prototype], labels: Sequence[str], weights: Sequence[float] | None = None
) -> None:
    """Writes the rows, as the Hub's viewer shows them, too.

    Args:
        weights: (P,), what each prototype counts for its own class: for people, the network has its own.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {
        "owner": [each.owner for each in gallery],
        "label": [labels[each.owner] for each in gallery],
        "weight": list(weights) if weights is not None else [None] * len(gallery),
        "key": [each.key for each in gallery],
        "row": [each.cell[0] for each in gallery],
        "column": [each.cell[1] for each in gallery],
        "rows": [each.grid[0] for each in gallery],
        "columns": [each.grid[1] for each in gallery],
        "pixels_sha256": [each.digest for each in gallery],
        "source": [each.source for each in gallery],
        "image": [{"bytes": each.data, "path": None} if each.data else None for each in gallery],
    }
    schema = schema_of(_KINDS)
    arrays = [pa.array(columns[name], kind) for name, kind in zip(schema.names, schema.types, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), file, compression="snappy")


def read_gallery(file: Path, owners: Sequence[int], where: str) -> tuple[Prototype, ...]:
    """(P,), where each prototype of a network comes from; the pictures are not decoded yet.

    A stranger's file of some kilobytes may unpack to gigabytes, so what it says of itself is looked at first.

    Args:
        owners: (P,), the classes that the network's prototypes speak for.
        where: whose file it is, for people.

    Raises:
        UnsupportedModelError: there is none, it cannot be read, or it belongs to another network.
    """
    import pyarrow as pa

    if not file.is_file():
        raise UnsupportedModelError(
            f"{where} has no {GALLERY}, so nothing says which pictures its prototypes were taken from. Its author can"
            " save it again with xaihub, which writes that file."
        )
    try:
        rows = zip(owners, *_columns(file, len(owners)), strict=True)
        return tuple(_prototype(place, *row) for place, row in enumerate(rows))
    except (OSError, LookupError, ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        raise UnsupportedModelError(
            f"{where} has a {GALLERY} that does not fit its network ({first_line(error)}). One of the two belongs to"
            " another model, or the file is broken; its author can save it again with xaihub."
        ) from error


def read_weights(file: Path) -> list[float | None]:
    """(P,), what each prototype counts for its own class, of a file that `write_gallery` wrote on this machine."""
    import pyarrow.parquet as pq

    found: list[float | None] = pq.read_table(file, columns=["weight"])["weight"].to_pylist()
    return found


def _columns(file: Path, rows: int) -> list[list[Any]]:
    """The columns in the order that `_prototype` takes them; a value that the file repeats is held once."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file)
    check_packing(metadata, rows)
    size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    if size > _MOST_BYTES:
        raise ValueError(f"unpacked it has {size / 2**20:,.0f} MB, more than {_MOST_BYTES / 2**20:,.0f} MB")
    opened = pq.ParquetFile(file, metadata=metadata, read_dictionary=[*_TEXTS, "image.bytes"])
    table = opened.read(columns=[*_NUMBERS, *_TEXTS, "image.bytes"])
    numbers = [_numbers(table[name], name) for name in _NUMBERS]
    texts = [_values(short_texts(table[name], name), name, str) for name in _TEXTS]
    return [*numbers, *texts, _values(table["image"].flatten()[0], "image", bytes)]


def _numbers(column: Any, name: str) -> list[int]:
    import pyarrow as pa

    if column.type != pa.int64() or column.null_count:
        raise TypeError(f"its {name}s are {column.type} or missing")
    return [int(number) for number in column.to_pylist()]


def _values(column: Any, name: str, kind: type) -> list[Any]:
    """Texts, or pictures' bytes, or None where there is none."""
    found: list[Any] = []
    for chunk in column.chunks:
        held = chunk.dictionary.to_pylist()
        if any(not isinstance(value, kind) for value in held):
            raise TypeError(f"its column {name!r} holds {chunk.dictionary.type}")
        found += [None if place is None else held[place] for place in chunk.indices.to_pylist()]
    return found


def _prototype(place: int, wanted: int, *row: Any) -> Prototype:
    owner, down, across, rows, columns, key, digest, source, data = row
    if owner != wanted:
        raise ValueError(f"prototype {place} is of class {owner}, not {wanted}")
    if not (0 <= down < rows <= _LARGEST and 0 <= across < columns <= _LARGEST):
        raise ValueError(f"cell {down}, {across} of prototype {place} lies on no grid of {rows} x {columns}")
    if key is None or digest is None:
        raise ValueError(f"prototype {place} has no key or no hash")
    return Prototype(owner, key, (down, across), (rows, columns), digest, data, source)
