"""Images in folders on the Hub, some of them perhaps in zip files, read as folders on a disk are."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from xaihub import hub
from xaihub.datasets.archives import ZippedFolder
from xaihub.datasets.class_folders import Tree, read_tree
from xaihub.datasets.hub_parts import MAX_TABLES, Parts, Wanted
from xaihub.datasets.listing import TABLE_SUFFIXES, Listing, image_suffixes, is_clutter
from xaihub.datasets.pictures import Source, in_order, tidy_split
from xaihub.datasets.reading import Read
from xaihub.errors import DatasetError, DownloadError

__all__ = ["Folders", "open_folders", "splits_in"]

_MAX_ZIPS = 200
_MAX_MEMBERS = 500_000
# of the datasets library and of models, and no tables of images
_NO_TABLES = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "config.json", "state.json"}


@dataclass(frozen=True)
class Folders:
    """The images of a repository as they are meant, and how to get one.

    Attributes:
        stored: path in the tree -> the file of the repository that it is in; a zip file is a folder of its name.
    """

    parts: Parts
    tree: Tree
    stored: Mapping[str, str]
    zips: Mapping[str, ZippedFolder]

    def read(self, split: str) -> Read:
        """The images of a split, which are fetched when they are asked for; numbered as the datasets library does."""
        images, parts = self.tree.images, self.parts
        listed = list(images)
        if not parts.declared and self.tree.splits:
            listed = [path for path in images if images[path].split == split]
        elif self.tree.tabled or self.zips:
            files = set(parts.splits[split])
            listed = [path for path in images if self.stored[path] in files]
        else:
            listed = [path for path in parts.splits[split] if path in images]
        get = partial(_get, parts, self.stored, self.zips)
        found: list[Source] = [
            (f"{split}/{i}", images[path].label, partial(get, path)) for i, path in enumerate(listed)
        ]
        names = in_order({label for _, label, _ in found if label is not None})
        notices = self.tree.notices if names else (*self.tree.notices, "No image of this split has a label")
        return Read(found, names, notices=notices)


def open_folders(parts: Parts, wanted: Wanted) -> Folders:
    """Return the reading of a repository's folders; its tables, and the lists of its zip files, are fetched for it.

    Raises:
        DatasetError: two readings are possible, or a zip file cannot be read.
        HubError: a file did not arrive, or is too large.
    """
    listed = {path for paths in parts.splits.values() for path in paths}
    chosen = listed if parts.declared else set(parts.repo.files)  # its patterns pass over folders such as unlabeled/
    archives = sorted(path for path in chosen if path.lower().endswith(".zip"))
    if len(archives) > _MAX_ZIPS:
        raise DatasetError(f"{parts.repo.repo_id} has {len(archives):,} zip files; {_MAX_ZIPS} are read at most.")
    zips: dict[str, ZippedFolder] = {}
    for path in archives:
        stream = hub.open_remote(parts.repo, path, token=parts.token)
        zips[path] = ZippedFolder(f"{path} of {parts.repo.repo_id}", stream)
        if sum(len(each.sizes) for each in zips.values()) > _MAX_MEMBERS:
            raise DatasetError(f"The zip files of {parts.repo.repo_id} hold more than {_MAX_MEMBERS:,} files.")
    sizes = {path: (path, size) for path, size in parts.repo.files.items() if path not in zips}
    for archive, members in zips.items():
        inside = {f"{archive[: -len('.zip')]}/{member}": (archive, size) for member, size in members.sizes.items()}
        sizes |= inside
    own = [path for path in sorted(sizes) if not any(map(is_clutter, path.split("/")))]
    usable = [path for path in own if sizes[path][0] in chosen]
    images = tuple(path for path in usable if Path(path).suffix.lower() in image_suffixes() and sizes[path][1])
    tables = tuple(p for p in own if p.lower().endswith(TABLE_SUFFIXES) and p.rsplit("/", 1)[-1] not in _NO_TABLES)
    stored = {path: sizes[path][0] for path in own}
    clutter = sum(sizes[path][0] in listed for path in sizes) - sum(stored[path] in listed for path in own)
    listing = Listing(images, tables, {"hidden or of a system": clutter} if clutter else {})

    room = MAX_TABLES

    def table(path: str) -> bytes:
        nonlocal room
        size, room = sizes[path][1], room - sizes[path][1]
        if room < 0:
            room += size
            raise DownloadError(
                f"{path[:120]!r} of {parts.repo.repo_id} was not fetched: it has {size / 2**20:,.0f} MB, and at most"
                f" {MAX_TABLES / 2**20:,.0f} MB of tables are read"
            )
        if stored[path] in zips:
            return zips[stored[path]].read(path.removeprefix(f"{stored[path][: -len('.zip')]}/"), size)
        return (hub.fetch(parts.repo, [path], token=parts.token) / path).read_bytes()

    tree = read_tree(parts.repo.repo_id, listing, table, wanted.layout, wanted.label_column, strangers=True)
    return Folders(parts, tree, stored, zips)


def _get(parts: Parts, stored: Mapping[str, str], zips: Mapping[str, ZippedFolder], path: str) -> Path | bytes:
    file = stored[path]
    if file in zips:
        return zips[file].read(path.removeprefix(f"{file[: -len('.zip')]}/"))
    return hub.fetch(parts.repo, [path], token=parts.token) / path


def splits_in(parts: Parts, folders: Folders | None) -> tuple[str, ...]:
    """Those that the card declares, or that the tree is read to have, or else that the datasets library finds."""
    if folders is None or parts.declared or not folders.tree.splits:
        return tidy_split(parts.splits)
    return folders.tree.splits
