"""Rows of a dataset on the Hub as the datasets library streams them: a part of many images, and tables."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from xaihub import hub
from xaihub.datasets.class_folders import Tree
from xaihub.datasets.columns import Column, LabelColumn, columns_of, image_column, label_column
from xaihub.datasets.hub_parts import Parts, Wanted
from xaihub.datasets.pictures import Source, in_order
from xaihub.datasets.reading import BUFFER, LARGE, Read, picture
from xaihub.errors import DatasetError

__all__ = ["of_library"]

_LOOKED_AT = 100  # streamed rows that the columns are chosen by
_KINDS = ("csv", "json", "imagefolder")
_CHECKED = 20  # files of which the first bytes are looked at
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"PK", b"7z\xbc\xaf")


def of_library(parts: Parts, split: str, wanted: Wanted, tree: Tree | None) -> Read:
    """Rows as the datasets library streams them, which writes nothing.

    Raises:
        DatasetError: they are of a format that may unfold to anything, or hold no images.
    """
    repo = parts.repo
    if parts.kind not in _KINDS:
        raise DatasetError(
            f"{repo.repo_id} consists of {parts.kind} files, which are not read here. Parquet files, images in folders"
            " or zip files, and tar files of images are."
        )
    for path in parts.splits[split][:_CHECKED] if tree is None else ():
        with hub.open_remote(repo, path, token=parts.token) as stream:
            if stream.read(6).startswith(_COMPRESSED):
                raise DatasetError(
                    f"{path[:120]} of {repo.repo_id} is compressed, so how much it holds cannot be known."
                )
    rows = _load(repo, parts.config, split, parts.token)
    label, notices = LabelColumn(None), tree.notices if tree else ()
    if tree is not None:  # the folders say the labels
        image = image_column(columns_of(rows.features.arrow_schema), repo.repo_id, wanted.image_column)
    else:
        columns = _columns(rows)
        image = image_column(columns, repo.repo_id, wanted.image_column)
        label = label_column(columns, repo.repo_id, wanted.label_column)
        notices = (label.notice,) if label.notice else ()
    rows = rows.decode(False).select_columns([name for name in (image, label.stored) if name])
    return _streamed(parts, rows, image, label, wanted, notices, tree)


def _columns(rows: Any) -> list[Column]:
    """The columns with values of some rows as they are stored: nothing that a row names is opened for it."""
    import pyarrow as pa

    some = list((rows.decode(False) if rows.features else rows).take(_LOOKED_AT))
    schema = rows.features.arrow_schema if rows.features else pa.Table.from_pylist(some).schema
    values = {name: [row.get(name) for row in some] for name in schema.names}
    return [replace(column, values=values[column.name]) for column in columns_of(schema)]


def _streamed(
    parts: Parts, rows: Any, image: str, label: LabelColumn, wanted: Wanted, notices: tuple[str, ...],
    tree: Tree | None,
) -> Read:  # fmt: skip
    repo, count, buffer = parts.repo, wanted.limit or BUFFER, BUFFER

    def word(row: Mapping[str, Any]) -> str | None:
        if tree is not None:
            return one.label if (one := tree.images.get(_inside(row[image], repo))) else None
        return label.word(row[label.stored]) if label.stored else None

    if wanted.labels is not None:  # before the limit; and a buffer of a rare label would take the whole dataset
        if not label.stored and not (tree and tree.labelled):
            raise DatasetError(f"{repo.repo_id} has no column of labels, so none can be asked for. Leave it out.")
        labels = frozenset(wanted.labels)
        rows, buffer = rows.filter(lambda row: word(row) in labels), min(BUFFER, 2 * count)
    taken = list(rows.shuffle(seed=wanted.seed, buffer_size=buffer).take(count))
    if not taken and wanted.labels is not None:
        raise DatasetError(f"{repo.repo_id} has no pictures labelled {' or '.join(map(repr, wanted.labels))}.")
    found: list[Source] = [
        (_called(i, row[image], repo), word(row), picture(partial(row.__getitem__, image), repo, parts.token))
        for i, row in enumerate(taken)
    ]
    names = label.names or in_order({word for _, word, _ in found if word is not None})
    return Read(found, names, f"{len(found)} pictures {LARGE}, shuffled", notices)


def _inside(cell: Any, repo: hub.Repo) -> str:
    path = cell.get("path") if isinstance(cell, Mapping) else None
    return str(path or "").removeprefix(f"hf://datasets/{repo.repo_id}@{repo.revision}/")


def _called(place: int, cell: Any, repo: hub.Repo) -> str:
    """A streamed row's name: its place among those taken, and the name of its file where that is known."""
    inside = _inside(cell, repo)
    return f"row {place}, {inside[-200:]}" if inside else f"row {place}"


def _load(repo: hub.Repo, config: str, split: str, token: hub.Token) -> Any:
    import datasets

    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(
            repo.repo_id, config, split=split, revision=repo.revision, token=token, streaming=True
        )
    finally:
        if bars:
            datasets.enable_progress_bars()
