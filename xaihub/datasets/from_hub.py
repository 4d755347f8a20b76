"""Labelled pictures of a dataset on the Hub, none of whose rows can make this machine read anything else.

hub_parts.py     which files are which split
from_library.py  what is left to the datasets library
Parquet files are read here, see parquet.py, and so are images in folders, see class_folders.py.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from xaihub import hub
from xaihub.datasets.from_library import of_library
from xaihub.datasets.hub_folders import open_folders, splits_in
from xaihub.datasets.hub_parts import Parts, Wanted, explained, parts_of
from xaihub.datasets.parquet import choose_columns, open_rows
from xaihub.datasets.pictures import LabelledPictures, Source, draw, drawn, in_order, refuse_unknown_labels
from xaihub.datasets.reading import BUFFER, LARGE, Read, picture
from xaihub.datasets.webdataset import Tar, read_samples
from xaihub.errors import DatasetError
from xaihub.progress import Progress

__all__ = ["hub_splits", "open_hub_dataset"]

_MAX_PARTS = 64  # files of a large dataset whose footers are read for rows with rare labels


def open_hub_dataset(
    repo_id: str, wanted: Wanted, *, token: hub.Token, stream_beyond: int, progress: Progress
) -> LabelledPictures:
    """The rows that are wanted; of a dataset larger than `stream_beyond` bytes, rows of its beginning.

    Raises:
        DatasetError, HubError: it cannot be read.
    """
    # asked first, with this visitor's token: a warm cache would answer for a private dataset without asking
    repo = hub.look(repo_id, revision=wanted.revision, token=token, repo_type="dataset")
    with explained(repo_id):
        parts = parts_of(repo, wanted.config, token)
        large = sum(repo.files.values()) > stream_beyond
        progress(0.0, f"{'Streaming' if large else 'Fetching'} {repo_id}")
        folders = open_folders(parts, wanted) if parts.in_folders else None
        splits = splits_in(parts, folders)
        split = wanted.split or splits[0]
        if split not in splits:
            raise DatasetError(f"{repo_id} has no split {split!r}. It has: {', '.join(splits)}.")
        # of many images the library's stream gives some, as it always has; where it can read them
        if folders is not None and not (large and split in parts.splits and not folders.zips):
            read = folders.read(split)
        elif parts.kind == "parquet" and all(path.endswith(".parquet") for path in parts.splits[split]):
            read = _of_parquet(parts, split, wanted, large)
        elif parts.kind == "webdataset":
            read = _of_tars(parts, split, wanted, large)
        else:
            read = of_library(parts, split, wanted, folders.tree if folders else None)
    found, names = read.found, read.names
    if wanted.labels is not None and not read.note:
        if not names:
            raise DatasetError(f"{repo_id} has no column of labels, so none can be asked for. Leave the label out.")
        refuse_unknown_labels(repo_id, wanted.labels, names)
        found = [source for source in found if source[1] in wanted.labels]
        refuse_unknown_labels(repo_id, wanted.labels, in_order({str(label) for _, label, _ in read.found}))
    if wanted.labels is not None:
        names = tuple(label for label in names if label in wanted.labels)
    if not found:
        raise DatasetError(f"{repo_id} has no rows in its split {split!r}. Name another split.")
    most = wanted.limit or (BUFFER if large else None)
    chosen = found if read.note else draw(found, most, wanted.seed)
    return LabelledPictures(
        repo_id, chosen, names, repo.revision, parts.config, split, read.note or drawn(len(chosen), len(found)),
        not (repo.private or repo.gated), licence=repo.licence, notices=read.notices,
    )  # fmt: skip


def hub_splits(repo_id: str, wanted: Wanted, *, token: hub.Token = None) -> list[str]:
    """The splits of a configuration, the first if none is named; train first where there is one.

    Raises:
        DatasetError, HubError: it cannot be read.
    """
    repo = hub.look(repo_id, revision=wanted.revision, token=token, repo_type="dataset")
    with explained(repo_id):
        parts = parts_of(repo, wanted.config, token)
        return list(splits_in(parts, open_folders(parts, wanted) if parts.in_folders else None))


def _of_parquet(parts: Parts, split: str, wanted: Wanted, large: bool) -> Read:
    """Rows of parquet files: fetched whole, or of a large dataset only the parts that are read."""
    repo, files = parts.repo, list(parts.splits[split])
    count = wanted.limit or BUFFER
    window = max(count, BUFFER) if large else None

    def opener(path: str) -> Any:
        if large:
            return hub.open_remote(repo, path, token=parts.token)
        return str(hub.fetch(repo, [path], token=parts.token) / path)

    rare = large and wanted.labels is not None
    rows = open_rows(
        repo.repo_id, [partial(opener, path) for path in (files[:_MAX_PARTS] if rare else files)],
        enough=None if rare else window,
    )  # fmt: skip
    choose = partial(
        choose_columns, rows, repo.repo_id, label_column=wanted.label_column, image_column=wanted.image_column,
        noted=parts.schema,
    )  # fmt: skip
    table = choose(count=window)
    while rare and window and window < rows.count and _few(table.labels, wanted, count):
        window *= 4  # rows with the wanted labels are rare: look further, at labels alone
        table = choose(count=window)
    found: list[Source] = [
        (f"{split}/{i}", label, picture(partial(rows.cell, table.image, i), repo, parts.token))
        for i, label in enumerate(table.labels)
    ]
    read = Read(found, table.names, notices=(table.notice,) if table.notice else ())
    return _some_of(read, repo, wanted) if large else read


def _of_tars(parts: Parts, split: str, wanted: Wanted, large: bool) -> Read:
    """Rows of tar files: fetched whole, or of a large dataset only the parts that are read."""
    repo = parts.repo

    def opener(path: str) -> Tar:
        name = f"{path[:120]} of {repo.repo_id}"
        if large:
            return Tar(name, hub.open_remote(repo, path, token=parts.token))
        return Tar(name, hub.fetch(repo, [path], token=parts.token) / path)

    read = read_samples(
        repo.repo_id, split, [partial(opener, path) for path in parts.splits[split]], label=wanted.label_column,
        image=wanted.image_column, most=max(wanted.limit or BUFFER, BUFFER) if large else None,
    )  # fmt: skip
    return _some_of(read, repo, wanted) if large else read


def _some_of(read: Read, repo: hub.Repo, wanted: Wanted) -> Read:
    """Of the beginning of a large dataset as many rows as are wanted."""
    found = read.found
    if wanted.labels is not None:
        if not read.names:
            raise DatasetError(f"{repo.repo_id} has no column of labels, so none can be asked for. Leave it out.")
        refuse_unknown_labels(repo.repo_id, wanted.labels, read.names)
        found = [source for source in found if source[1] in wanted.labels]
    some = draw(found, wanted.limit or BUFFER, wanted.seed)
    return Read(some, read.names, f"{len(some)} pictures {LARGE}, drawn evenly from the classes", read.notices)


def _few(labels: Sequence[str | None], wanted: Wanted, count: int) -> bool:
    return sum(label in (wanted.labels or ()) for label in labels) < count
