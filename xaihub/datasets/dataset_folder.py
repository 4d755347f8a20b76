"""A dataset as a folder: parquet files of splits, which the datasets library, the Hub's viewer and we read alike.

`data/{split}-00000-of-00001.parquet` hold the pictures as files in bytes, `dataset.json` says how they came together.
"""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from xaihub.datasets.pictures import LabelledPictures, Source, draw, drawn, refuse_unknown_labels
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
    """Whether the folder holds splits as parquet files, as `write_split` and the Hub name them."""
    return any(_FILE.fullmatch(path.name) for path in (folder / "data").glob("*.parquet"))


def split_names(folder: Path) -> list[str]:
    """The splits of a dataset folder: train first, as in the card, then validation and test, then others."""
    names = {found[1] for path in (folder / "data").glob("*.parquet") if (found := _FILE.fullmatch(path.name))}
    usual = ("train", "validation", "test")
    return sorted(names, key=lambda name: (usual.index(name) if name in usual else len(usual), name))


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
) -> LabelledPictures:
    """The labelled pictures of one split; the split train, or else the first, if none is named.

    Rows are called as they are on the Hub: `train/0` is the first of the split train.

    Raises:
        DatasetError: there is no such split, or its files cannot be read.
    """
    name, there = folder.resolve().name, split_names(folder)
    split = split or ("train" if "train" in there else there[0])
    if split not in there:
        raise DatasetError(f"{str(folder)!r} has no split {split!r}. It has: {', '.join(there)}.")
    table = _opened(folder, split)
    names = table.classes
    found: list[Source] = [
        (f"{split}/{i}", names[label] if 0 <= label < len(names) else None, partial(table.picture, i))
        for i, label in enumerate(table.labels)
    ]
    if labels is not None:
        refuse_unknown_labels(repr(str(folder)), labels, names)
        names = tuple(label for label in names if label in labels)
        found = [source for source in found if source[1] in names]
    if not found:
        raise DatasetError(f"{str(folder)!r} has no rows in its split {split!r}. Name another split.")
    chosen = draw(found, limit, seed)
    return LabelledPictures(name, chosen, names, split=split, note=drawn(len(chosen), len(found)))


@dataclass
class _Table:
    """The rows of a split's files; pictures are read a row group at a time, the last few being kept."""

    files: Sequence[Any]  # pyarrow's ParquetFile
    groups: Sequence[tuple[int, int, int]]  # of each row group: its file, its place in the file, its first row
    labels: Sequence[int]
    classes: tuple[str, ...]
    held: "OrderedDict[int, Any]" = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)  # files are read on several threads

    def picture(self, row: int) -> bytes:
        place = next(i for i in reversed(range(len(self.groups))) if self.groups[i][2] <= row)
        with self.lock:
            if place not in self.held:
                file, group, _ = self.groups[place]
                self.held[place] = self.files[file].read_row_group(group, columns=["image"])["image"]
                while len(self.held) > 3:
                    self.held.popitem(last=False)
            self.held.move_to_end(place)
            cell = self.held[place][row - self.groups[place][2]].as_py()
        if not cell or cell.get("bytes") is None:
            raise PictureError("This row holds no picture.")
        return cell["bytes"]


def _opened(folder: Path, split: str) -> _Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = [path for path in sorted((folder / "data").glob("*.parquet")) if _of(path, split)]
    try:
        files = [pq.ParquetFile(path) for path in paths]
        classes = _classes(files[0].schema_arrow)
        labels = [label for file in files for label in file.read(columns=["label"])["label"].to_pylist()]
        return _Table(files, _row_groups(files), [-1 if label is None else int(label) for label in labels], classes)
    except (OSError, LookupError, ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        raise DatasetError(
            f"{str(folder)!r} holds no dataset that can be read ({type(error).__name__}: {error}). Build it again with"
            " scripts/build_dataset.py."
        ) from error


def _of(path: Path, split: str) -> bool:
    found = _FILE.fullmatch(path.name)
    return found is not None and found[1] == split


def _classes(schema: Any) -> tuple[str, ...]:
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    if features["image"]["_type"] != "Image" or features["label"]["_type"] != "ClassLabel":
        raise ValueError("its columns image and label are no pictures and no classes")
    return tuple(map(str, features["label"]["names"]))


def _row_groups(files: Sequence[Any]) -> list[tuple[int, int, int]]:
    groups, first = [], 0
    for place, file in enumerate(files):
        for group in range(file.metadata.num_row_groups):
            groups.append((place, group, first))
            first += file.metadata.row_group(group).num_rows
    return groups
