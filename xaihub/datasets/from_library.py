"""Rows of a dataset on the Hub as the datasets library reads them: tar files of images, and all other formats."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from xaihub import hub
from xaihub.datasets.archives import check_tars
from xaihub.datasets.class_folders import Tree
from xaihub.datasets.columns import Column, LabelColumn, columns_of, image_column, label_column
from xaihub.datasets.hub_parts import Parts, Wanted
from xaihub.datasets.pictures import Source, in_order
from xaihub.datasets.reading import BUFFER, LARGE, Read, picture
from xaihub.errors import DatasetError

__all__ = ["of_library"]

_LOOKED_AT = 100  # streamed rows that the columns are chosen by
_SAMPLE = 2_000  # and rows that are not streamed


def of_library(parts: Parts, split: str, wanted: Wanted, large: bool, tree: Tree | None) -> Read:
    """Rows as the datasets library reads them: streamed, or fetched where they are tar files of images."""
    repo = parts.repo
    check_tars(repo, parts.splits[split], parts.token)
    streamed = large or parts.kind != "webdataset"
    rows = _load(repo, parts.config, split, parts.token, streamed)
    label, notices = LabelColumn(None), tree.notices if tree else ()
    if tree is not None:  # the folders say the labels
        image = image_column(columns_of(rows.features.arrow_schema), repo.repo_id, wanted.image_column)
    else:
        columns = _columns(rows, streamed)
        image = image_column(columns, repo.repo_id, wanted.image_column)
        label = label_column(columns, repo.repo_id, wanted.label_column)
        notices = (label.notice,) if label.notice else ()
    rows = _undecoded(rows, [name for name in (image, label.stored) if name])
    if streamed:
        return _streamed(parts, rows, image, label, wanted, notices, tree)
    labels = [label.word(value) for value in rows[label.stored]] if label.stored else [None] * len(rows)
    found: list[Source] = [
        (f"{split}/{i}", word, picture(partial(_cell, rows, i, image), repo, parts.token))
        for i, word in enumerate(labels)
    ]
    return Read(found, label.names or in_order({word for word in labels if word is not None}), notices=notices)


def _columns(rows: Any, streamed: bool) -> list[Column]:
    """The columns with values of some rows as they are stored: nothing that a row names is opened for it."""
    import pyarrow as pa

    if streamed:
        some = list((rows.decode(False) if rows.features else rows).take(_LOOKED_AT))
        schema = rows.features.arrow_schema if rows.features else pa.Table.from_pylist(some).schema
        values = {name: [row.get(name) for row in some] for name in schema.names}
        return [replace(column, values=values[column.name]) for column in columns_of(schema)]
    schema, step = rows.features.arrow_schema, max(1, len(rows) // _SAMPLE)
    places = range(0, len(rows), step)
    return [
        column if column.kind in ("image", "bytes", "other")
        else replace(column, values=rows.data.column(column.name).take(pa.array(places)).to_pylist())
        for column in columns_of(schema)
    ]  # fmt: skip


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


def _cell(rows: Any, index: int, column: str) -> Any:
    return rows[index][column]


def _load(repo: hub.Repo, config: str, split: str, token: hub.Token, streamed: bool) -> Any:
    import datasets

    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(
            repo.repo_id, config, split=split, revision=repo.revision, token=token, streaming=streamed
        )
    finally:
        if bars:
            datasets.enable_progress_bars()


def _undecoded(rows: Any, columns: list[str]) -> Any:
    """These columns, giving bytes: pictures are decoded by us, with our limits, and a broken one is only one lost.

    Other columns may hold pictures or sounds as well, and to read a row would be to open them, wherever they are.
    """
    import datasets

    if isinstance(rows, datasets.IterableDataset):
        return rows.decode(False).select_columns(columns)
    rows = rows.select_columns(columns)
    for name, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    return rows
