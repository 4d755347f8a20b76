"""A dataset as a folder: parquet files of splits, which the datasets library, the Hub's viewer and we read alike.

`data/{split}-00000-of-00001.parquet` hold the pictures as files in bytes, `dataset.json` says how they came together.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from xaihub.datasets.listing import list_folder
from xaihub.datasets.parquet import Rows, choose_columns, open_rows
from xaihub.datasets.pictures import LabelledPictures, Source, draw, drawn, refuse_unknown_labels, tidy_split
from xaihub.datasets.tree import split_in_name, split_word
from xaihub.errors import DatasetError, PictureError

__all__ = ["MARK", "is_dataset_folder", "open_dataset_folder", "split_names", "write_split"]

MARK = "dataset.json"  # a folder of a dataset has this file
COLUMNS = {
    "source": "string", "source_key": "string", "generator": "string", "generator_revision": "string",
    "original_width": "int32", "original_height": "int32", "original_format": "string", "original_sha256": "string",
    "pixels_sha256": "string", "perceptual_hash": "string",
}  # fmt: skip
_SHARD_BYTES = 256 * 2**20
_GROUP_ROWS = 100  # read at once when one row is asked for; what the Hub's viewer likes for pictures
_FILE = re.compile(r"([\w.]+)-(\d{5})-of-(\d{5})\.parquet")


def is_dataset_folder(folder: Path) -> bool:
    """Return whether the folder holds splits as parquet files: named as on the Hub, or with no images beside."""
    if any(_FILE.fullmatch(path.name) for path in (folder / "data").glob("*.parquet")):
        return True
    listing = list_folder(folder)
    return not listing.images and any(path.endswith(".parquet") for path in listing.tables)


def _files(folder: Path) -> dict[str, list[Path]]:
    """Split -> its parquet files: by their names, by the folders they lie in, or all of them train."""
    named: dict[str, list[Path]] = {}
    for path in sorted((folder / "data").glob("*.parquet")):
        if found := _FILE.fullmatch(path.name):
            named.setdefault(found[1], []).append(path)
    if named:
        return named
    for inside in list_folder(folder).tables:
        if inside.endswith(".parquet"):
            *folders, name = inside.split("/")
            splits = [split for part in reversed(folders) if (split := split_word(part))]
            named.setdefault(splits[0] if splits else split_in_name(name) or "train", []).append(folder / inside)
    return named


def split_names(folder: Path) -> list[str]:
    """The splits of a dataset folder: train first, as in the card, then validation and test, then others."""
    return list(tidy_split(_files(folder)))


def write_split(folder: Path, split: str, rows: Iterable[Mapping[str, Any]], classes: Sequence[str]) -> list[Path]:
    """The files that now hold the rows: equal bytes for equal rows, and never more than a row group in memory.

    Args:
        rows: "image" (the bytes of a picture's file), "label" (index of its class) and what `COLUMNS` names.
        classes: the labels' names, in order.
    """
    (folder / "data").mkdir(parents=True, exist_ok=True)
    drafts: list[Path] = []
    for groups in _shards(_groups(rows, _schema(classes))):
        drafts.append(folder / "data" / f"{split}-{len(drafts):05d}.draft")
        _write_shard(drafts[-1], groups, _schema(classes))
    return [
        draft.replace(folder / "data" / f"{split}-{place:05d}-of-{len(drafts):05d}.parquet")
        for place, draft in enumerate(drafts)
    ]


def _schema(classes: Sequence[str]) -> Any:
    """Of a table of rows, with what the datasets library, and so the Hub's viewer, takes the columns to be."""
    import pyarrow as pa

    fields = [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())]
    fields += [(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()]
    features = {"image": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
    features |= {name: {"dtype": kind, "_type": "Value"} for name, kind in COLUMNS.items()}
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


def _groups(rows: Iterable[Mapping[str, Any]], schema: Any) -> Iterator[Any]:
    """Tables of a row group each."""
    import pyarrow as pa

    held: list[dict[str, Any]] = []
    for row in rows:
        held.append({**row, "image": {"bytes": row["image"], "path": None}})
        if len(held) == _GROUP_ROWS:
            yield pa.Table.from_pylist(held, schema=schema)
            held = []
    if held:
        yield pa.Table.from_pylist(held, schema=schema)


def _shards(groups: Iterator[Any]) -> Iterator[Iterator[Any]]:
    """The row groups in files: a new file is begun when one has become large."""
    waiting = next(groups, None)

    def shard() -> Iterator[Any]:
        nonlocal waiting
        size = 0
        while waiting is not None and size < _SHARD_BYTES:
            size += waiting.nbytes
            yield waiting
            waiting = next(groups, None)

    while waiting is not None:
        yield shard()


def _write_shard(file: Path, groups: Iterator[Any], schema: Any) -> None:
    import pyarrow.parquet as pq

    # pictures are compressed already, and no two are the same
    compression = {"image.bytes": "none"}
    dictionaries = ["label", "source", "generator", "generator_revision", "original_format"]
    others = dict.fromkeys(("image.path", "label", *COLUMNS), "snappy")
    with pq.ParquetWriter(file, schema, compression=compression | others, use_dictionary=dictionaries) as writer:
        for group in groups:
            writer.write_table(group)


def open_dataset_folder(
    folder: Path,
    split: str | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    labels: Sequence[str] | None = None,
    label_column: str | None = None,
    image_column: str | None = None,
) -> LabelledPictures:
    """The labelled pictures of one split; the split train, or else the first, if none is named.

    Rows are called as they are on the Hub: `train/0` is the first of the split train.

    Raises:
        DatasetError: there is no such split, its files cannot be read, or several columns may be its labels.
    """
    files = _files(folder)
    there = tidy_split(files)
    split = split or there[0]
    if split not in there:
        raise DatasetError(f"{str(folder)!r} has no split {split!r}. It has: {', '.join(there)}.")
    rows = open_rows(repr(str(folder)), [partial(str, path) for path in files[split]])
    table = choose_columns(rows, repr(str(folder)), label_column=label_column, image_column=image_column)
    found: list[Source] = [
        (f"{split}/{i}", label, partial(_picture, rows, table.image, i)) for i, label in enumerate(table.labels)
    ]
    names = table.names
    if labels is not None:
        refuse_unknown_labels(repr(str(folder)), labels, names)
        names = tuple(label for label in names if label in labels)
        found = [source for source in found if source[1] in names]
    if not found:
        raise DatasetError(f"{str(folder)!r} has no rows in its split {split!r}. Name another split.")
    chosen = draw(found, limit, seed)
    note, notices = drawn(len(chosen), len(found)), (table.notice,) if table.notice else ()
    return LabelledPictures(folder.resolve().name, chosen, names, split=split, note=note, notices=notices)


def _picture(rows: Rows, column: str, row: int) -> bytes:
    cell = rows.cell(column, row)
    data = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if not isinstance(data, bytes):
        raise PictureError("This row holds no picture.")
    return data
