"""A dataset as somebody names it, and which splits it has, before any of its pictures is read."""

from dataclasses import dataclass
from pathlib import Path

from xaihub import hub
from xaihub.datasets.class_folders import read_folder
from xaihub.datasets.dataset_folder import is_dataset_folder, split_names
from xaihub.datasets.from_hub import hub_splits
from xaihub.datasets.hub_parts import Wanted
from xaihub.datasets.pictures import LabelledPictures
from xaihub.errors import DatasetError
from xaihub.folders import folder_named
from xaihub.progress import Progress, silent

__all__ = ["Source", "splits_of"]


def splits_of(
    source: str | Path,
    *,
    config: str | None = None,
    revision: str | None = None,
    layout: str | None = None,
    label_column: str | None = None,
    token: hub.Token = None,
    local: bool = True,
) -> list[str]:
    """The names of its splits, train first where there is one; none for a folder of class folders.

    Args:
        layout, label_column: see `open_dataset`.
        local: whether a folder on this machine may be named; never for a visitor.

    Raises:
        DatasetError: it cannot be read as a dataset.
        HubError: it does not exist, or the Hub does not answer.
    """
    if local and (folder := folder_named(str(source))):
        return (
            split_names(folder) if is_dataset_folder(folder) else list(read_folder(folder, layout, label_column).splits)
        )
    wanted = Wanted(config, revision=revision, layout=layout, label_column=label_column)
    return hub_splits(hub.clean_repo_id(str(source)), wanted, token=token)


@dataclass(frozen=True)
class Source:
    """A dataset as it is named on the command line.

    Attributes:
        data: a folder of class folders, a dataset folder, or a Hub id.
        split: None for the usual one: train to learn from; the only one, test or validation to measure on.
        layout, label_column, image_column: see `open_dataset`.
    """

    data: str | Path
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    limit: int | None = None
    token: hub.Token = None
    layout: str | None = None
    label_column: str | None = None
    image_column: str | None = None

    def splits(self) -> list[str]:
        """See `splits_of`; the one that was named must be among them."""
        names = splits_of(
            self.data, config=self.config, revision=self.revision, layout=self.layout, label_column=self.label_column,
            token=self.token,
        )  # fmt: skip
        if self.split is not None and self.split not in names:
            there = f"has: {', '.join(names)}" if names else "is a folder of class folders, which has none"
            raise DatasetError(f"{self.data} has no split {self.split!r}. It {there}.")
        return names

    def to_measure(self) -> str | None:
        """The split that something is measured on: the one named, the only one, or test, validation, in that order.

        Raises:
            DatasetError: there are several, and none is called so.
        """
        names = self.splits()
        split = self.split or next((name for name in ("test", "validation") if name in names), None)
        if split is None and len(names) > 1:
            raise DatasetError(
                f"{self.data} has the splits {', '.join(names)}, and none is called test or validation. Name one with"
                " --split."
            )
        return split or (names[0] if names else None)

    def open(self, split: str | None, progress: Progress = silent, *, seed: int = 0) -> LabelledPictures:
        """The pictures of one split; see `open_dataset`."""
        from xaihub.datasets import open_dataset

        return open_dataset(
            self.data, config=self.config, split=split, revision=self.revision, limit=self.limit, token=self.token,
            seed=seed, progress=progress, layout=self.layout, label_column=self.label_column,
            image_column=self.image_column,
        )  # fmt: skip
