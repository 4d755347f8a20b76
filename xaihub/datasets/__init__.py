"""Labelled pictures from a folder or a dataset of the Hub. The only importer of datasets."""

from collections.abc import Sequence
from pathlib import Path

from xaihub import hub
from xaihub.datasets.class_folders import open_class_folders, open_flat_folder
from xaihub.datasets.dataset_folder import MARK, is_dataset_folder, open_dataset_folder, write_split
from xaihub.datasets.from_hub import Wanted, open_hub_dataset
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
    limit: int | None = None,
    seed: int = 0,
    token: hub.Token = None,
    local: bool = True,
    progress: Progress = silent,
) -> LabelledPictures:
    """The labelled pictures of a folder of class folders or of splits of them, of a dataset folder, or of the Hub.

    With a `limit` the rows are drawn by seed, the same number from each class as far as it has them.

    Args:
        source: a folder of class folders, a folder that scripts/build_dataset.py wrote, or a dataset's id.
        config: of a Hub dataset; the first if not given.
        split: of a Hub dataset or a folder of splits; the first if not given, preferring "train". Folders called val
            or dev are the split validation, as the datasets library calls them.
        labels: only pictures of these classes; they are chosen before the limit is counted.
        label_column: of a Hub dataset; found by its kind and name if not given.
        local: whether a folder on this machine may be named; never for a visitor.

    Raises:
        DatasetError: no pictures could be found in it.
        HubError: it cannot be read.
    """
    if limit is not None and limit < 1:
        raise DatasetError(f"A limit of {limit} pictures leaves none to read. Give 1 or more.")
    if local and (folder := folder_named(str(source))):
        if is_dataset_folder(folder):
            return open_dataset_folder(folder, split, limit=limit, seed=seed, labels=labels)
        return open_class_folders(folder, split, limit, seed, labels)
    wanted = Wanted(config, split, revision, labels, label_column, limit, seed)
    repo_id = hub.clean_repo_id(str(source))
    return open_hub_dataset(repo_id, wanted, token=token, stream_beyond=LARGEST_DOWNLOAD, progress=progress)


def open_splits(source: str | Path, *, token: hub.Token = None, progress: Progress = silent) -> list[LabelledPictures]:
    """Every split of a dataset, each as `open_dataset` gives it.

    Raises:
        DatasetError, HubError: it cannot be read.
    """
    splits: Sequence[str | None] = splits_of(source, token=token) or [None]
    return [open_dataset(source, split=split, token=token, progress=progress) for split in splits]
