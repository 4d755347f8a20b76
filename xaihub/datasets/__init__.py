"""Labelled pictures from a folder or a dataset of the Hub. The only importer of datasets."""

import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from xaihub import hub
from xaihub.datasets.class_folders import open_class_folders, open_flat_folder
from xaihub.datasets.dataset_folder import MARK, is_dataset_folder, open_dataset_folder, write_split
from xaihub.datasets.from_hub import open_hub_dataset
from xaihub.datasets.hub_parts import Wanted
from xaihub.datasets.pictures import Get, LabelledPictures, Row, from_pairs
from xaihub.datasets.splits import splits_of
from xaihub.errors import DatasetError
from xaihub.folders import folder_named
from xaihub.progress import Progress, silent

__all__ = [
    "MARK",
    "Get",
    "LabelledPictures",
    "Row",
    "from_pairs",
    "is_dataset_folder",
    "open_dataset",
    "open_flat_folder",
    "open_splits",
    "splits_of",
    "write_split",
]

LARGEST_DOWNLOAD = 700 * 2**20  # beyond this the first rows are streamed instead, shuffled in a buffer


def open_dataset(
    source: str | Path,
    *,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    labels: Sequence[str] | None = None,
    label_column: str | None = None,
    image_column: str | None = None,
    layout: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    token: hub.Token = None,
    local: bool = True,
    progress: Progress = silent,
) -> LabelledPictures:
    """The labelled pictures of a folder of images, of a folder of parquet files, or of a dataset of the Hub.

    Which folders are splits and which are classes is told by the whole tree, or by a table that names the images. Where
    two readings are possible, both are named in the error, and `layout`, `label_column` or `image_column` chooses.

    With a `limit` the rows are drawn by seed, the same number from each class as far as it has them.

    Args:
        source: a folder of images in class folders, or with a table (csv, json lines, json, parquet) that names them,
            or of splits of these; a folder of parquet files, as scripts/build_dataset.py writes; or a dataset's id.
        config: of a Hub dataset; the first if not given.
        split: of a Hub dataset or a folder of splits; the first if not given, preferring "train". Folders called val
            or dev are the split validation, as the datasets library calls them.
        labels: only pictures of these classes; they are chosen before the limit is counted.
        label_column: of a table or a dataset; found by the kinds, names and values of all if not given, "" for none.
        image_column: of parquet files and Hub datasets; found by its kind and name if not given.
        layout: what each level of the folders is, from the outermost: "{split}/{label}", "{label}/{split}",
            "*/{label}", "{label}"; told by the tree if not given.
        local: whether a folder on this machine may be named; never for a visitor.

    Raises:
        DatasetError: no pictures could be found in it, or it can be read in two ways.
        HubError: it cannot be read.
    """
    if limit is not None and limit < 1:
        raise DatasetError(f"A limit of {limit} pictures leaves none to read. Give 1 or more.")
    if local and (folder := folder_named(str(source))):
        if is_dataset_folder(folder):
            rows = open_dataset_folder(
                folder, split, limit=limit, seed=seed, labels=labels, label_column=label_column,
                image_column=image_column,
            )  # fmt: skip
        else:
            rows = open_class_folders(folder, split, limit, seed, labels, layout=layout, label_column=label_column)
    else:
        wanted = Wanted(config, split, revision, labels, label_column, image_column, layout, limit, seed)
        repo_id = hub.clean_repo_id(str(source))
        rows = open_hub_dataset(repo_id, wanted, token=token, stream_beyond=LARGEST_DOWNLOAD, progress=progress)
    if local:  # a visitor's dataset would fill the host's log
        for notice in rows.notices:
            _say(rows.name, notice)
    return rows


@lru_cache(1_000)
def _say(name: str, notice: str) -> None:
    """Each notice once, on the log, which shows it on the terminal and in a notebook."""
    logging.getLogger(__name__).warning("%s: %s.", name, notice)


def open_splits(source: str | Path, *, token: hub.Token = None, progress: Progress = silent) -> list[LabelledPictures]:
    """Every split of a dataset, each as `open_dataset` gives it.

    Raises:
        DatasetError, HubError: it cannot be read.
    """
    splits: Sequence[str | None] = splits_of(source, token=token) or [None]
    return [open_dataset(source, split=split, token=token, progress=progress) for split in splits]
