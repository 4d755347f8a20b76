"""Images in folders: where their splits and classes are is told by the whole tree, or by a table that names them."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from xaihub.datasets.listing import Listing, list_folder, told
from xaihub.datasets.pictures import (
    LabelledPictures,
    Source,
    draw,
    drawn,
    in_order,
    refuse_unknown_labels,
    same,
    tidy_split,
)  # fmt: skip
from xaihub.datasets.tables import MAX_TABLE_BYTES, Labelled, read_table
from xaihub.datasets.tree import Layout, Placed, is_part, layout_of, parse_layout, without_label
from xaihub.errors import DatasetError, DownloadError, PictureError
from xaihub.images import FORMATS

__all__ = ["Tree", "is_flat_folder", "open_class_folders", "open_flat_folder", "read_folder", "read_tree"]

_TABLES = 50  # more are files of single images, such as their boxes
Both = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Tree:
    """The images of a folder as they are meant.

    Attributes:
        images: path -> split and label, either of which may be None.
        keys: path -> how the image is called: its path within its split.
        empty: which of them have no bytes.
        tabled: whether a table says the order of the images.
        notices: what was left out, and what else a person should know of the reading.
    """

    images: Mapping[str, Placed]
    keys: Mapping[str, str]
    empty: frozenset[str]
    tabled: bool
    notices: tuple[str, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """train, validation and test in that order, then others; none where no folder, file or table says any."""
        return tidy_split({one.split for one in self.images.values() if one.split is not None})

    @property
    def labelled(self) -> bool:
        return any(one.label is not None for one in self.images.values())


def read_folder(folder: Path, layout: str | None = None, label_column: str | None = None) -> Tree:
    """The images of a folder and the folders within it; see `read_tree`."""

    def content(path: str) -> bytes:
        size = (folder / path).stat().st_size
        if size > MAX_TABLE_BYTES:
            raise DatasetError(
                f"{path} has {size / 2**20:,.0f} MB; tables of at most {MAX_TABLE_BYTES / 2**20:.0f} MB are read. Keep"
                " the names and labels of the images alone."
            )
        return (folder / path).read_bytes()

    return read_tree(repr(str(folder)), list_folder(folder), content, layout, label_column)


def read_tree(
    name: str,
    listing: Listing,
    content: Callable[[str], bytes],
    layout: str | None,
    label_column: str | None,
    *,
    strangers: bool = False,
) -> Tree:
    """The images of a tree, with their splits and labels.

    Args:
        name: of the folder, for messages.
        content: gives the bytes of a table; it refuses one that has too many.
        strangers: whether the tables are a stranger's, which may not name files elsewhere.
        layout: what each level of the folders is, such as "{split}/{label}"; told by the whole tree if not given.
        label_column: of a table that names the images.

    Raises:
        DatasetError: two readings are possible; both are named, and how to choose.
    """
    says, notices, problems = _tables(listing, content, name, label_column, strangers)
    if layout is not None:
        chosen = parse_layout(layout)
        placed = chosen.place(listing.images)
        if chosen.label is None and not chosen.in_name:
            placed = _with_table(placed, says)
    else:
        chosen, placed = _meant(listing.images, says, name, label_column)
    if problems and label_column != "" and not any(one.label is not None for one in placed.values()):
        raise problems[0]
    said = [told(listing.left_out)]
    if lost := len(listing.images) - len(placed):
        said.append(
            f"{lost:,} {'image was' if lost == 1 else 'images were'} left out: no folder or table names the class"
        )
    tabled = list(placed) != sorted(placed)
    return Tree(placed, _keys(placed, chosen), listing.empty, tabled, (*filter(None, said), *notices))


def _tables(
    listing: Listing, content: Callable[[str], bytes], name: str, label_column: str | None, strangers: bool
) -> tuple[list[Labelled], tuple[str, ...], list[DatasetError]]:
    """Return what tables beside the images say of them, notices on the others, and why labels are not clear."""
    found: list[Labelled] = []
    problems: list[DatasetError] = []
    notices: list[str] = []
    for path in listing.tables if 0 < len(listing.tables) <= _TABLES and listing.images else ():
        try:
            table = read_table(content(path), path, listing.images, strangers=strangers)
            labels = table.labels(name, label_column) if table else None
        except (DatasetError, DownloadError, PictureError, OSError) as error:
            if label_column:
                raise
            notices.append(str(error).rstrip("."))
            problems += [error] if isinstance(error, DatasetError) else []
            continue
        if labels is None:
            continue
        found.append(labels)
        if labels.column.notice:
            notices.append(f"{path}: {labels.column.notice}")
        if labels.missing:
            notices.append(f"{labels.missing:,} rows of {path} name no image of the folder")
    return found, tuple(notices), problems


def _meant(
    paths: Sequence[str], says: Sequence[Labelled], name: str, label_column: str | None
) -> tuple[Layout, dict[str, Placed]]:
    """The layout, and each image's place: labels of folders, or of a table where the folders have none."""
    table = _merged(says, name)
    labelled = {path for path, (label, _) in table.items() if label is not None}
    if label_column == "":
        layout = without_label(paths, name)
        return layout, _with_table(layout.place(paths), says, name)
    try:
        layout = layout_of(paths, name)
    except DatasetError:
        if not labelled:
            raise
        layout = without_label(paths, name)
    by_folder = layout.place(paths)
    both: Both = {
        path: (one.label, str(table[path][0]))
        for path, one in by_folder.items()
        if one.label is not None and path in labelled and not is_part(one.label)
    }
    if not labelled or (both and label_column is None and _agree(both)):
        return layout, _with_splits(by_folder, table)
    if both and label_column is None and len({folder for folder, _ in both.values()}) > 1:
        column = next(one.column.name for one in says if one.column.name)
        some = ", ".join(sorted({folder for folder, _ in both.values()})[:4])
        raise DatasetError(
            f"{name} has labels in its folders ({some[:120]}) and others in {says[0].path} ({column}). Say which are"
            f" meant: layout={str(layout)!r} or label_column={column!r} (--layout or --label-column on the command"
            " line)."
        )
    layout = without_label(paths, name)
    return layout, _with_table(layout.place(paths), says, name)


def _agree(both: Both) -> bool:
    """Return whether folders and table say the same, in the same words or others: 0 and 1 for cat and dog."""
    pairs = set(both.values())
    return len({one for one, _ in pairs}) == len({other for _, other in pairs}) == len(pairs) > 1


def _merged(says: Sequence[Labelled], name: str) -> dict[str, tuple[str | None, str | None]]:
    """Image -> label and split, of all tables."""
    found: dict[str, tuple[str | None, str | None]] = {}
    for one in says:
        for path, (label, split) in one.rows.items():
            before, told_split = found.get(path, (None, None))
            if before is not None and label is not None and label != before:
                raise DatasetError(
                    f"The tables {', '.join(each.path for each in says)} of {name} give {path[:80]!r} different labels:"
                    f" {before[:40]!r} and {label[:40]!r}. Move all but one away."
                )
            found[path] = (before if label is None else label, told_split or split)
    return found


def _with_splits(placed: Mapping[str, Placed], table: Mapping[str, tuple[str | None, str | None]]) -> dict[str, Placed]:
    """With the splits that a table says where folders say none."""
    if any(one.split for one in placed.values()) or not all(table.get(path, (0, None))[1] for path in placed):
        return dict(placed)
    return {path: Placed(table[path][1], one.label) for path, one in placed.items()}


def _with_table(placed: Mapping[str, Placed], says: Sequence[Labelled], name: str = "") -> dict[str, Placed]:
    """The images with the table's labels; of a split that has labels, only those that it names."""
    table = _merged(says, name)
    by_folder = any(one.split for one in placed.values())
    by_table = not by_folder and any(split for _, split in table.values())
    found = {}
    for path in dict.fromkeys([*table, *placed]):  # in the table's order, as the datasets library has them
        if (one := placed.get(path)) is None:
            continue
        label, split = table.get(path, (None, None))
        found[path] = Placed((split or ("train" if label else None)) if by_table else one.split, label)
    labelled = {one.split for one in found.values() if one.label is not None}
    return {
        path: one for path, one in found.items()
        if one.label is not None or (one.split not in labelled and (one.split is not None or not by_table))
        or (path in table and not by_table)
    }  # fmt: skip


def _keys(placed: Mapping[str, Placed], layout: Layout) -> dict[str, str]:
    """Paths from the split's folder on, unless two folders are one split and hold files of one name."""
    if layout.split is None or (layout.label is not None and layout.label < layout.split):
        return {path: path for path in placed}
    keys = {path: "/".join(path.split("/")[layout.split + 1 :]) for path in placed}
    taken = Counter((one.split, keys[path]) for path, one in placed.items())
    return {path: path if taken[one.split, keys[path]] > 1 else keys[path] for path, one in placed.items()}


def is_flat_folder(folder: Path, layout: str | None = None, label_column: str | None = None) -> bool:
    """Return whether its images have neither splits nor labels."""
    tree = read_folder(folder, layout, label_column)
    return not tree.splits and not tree.labelled


def open_class_folders(
    folder: Path,
    split: str | None,
    limit: int | None,
    seed: int,
    labels: Sequence[str] | None = None,
    *,
    layout: str | None = None,
    label_column: str | None = None,
) -> LabelledPictures:
    """The images of one split of a folder; `labels` names the classes that are wanted, if not all are.

    Args:
        split: of a folder of splits; train, or else the first, if none is named.
        layout, label_column: see `read_tree`.

    Raises:
        DatasetError: there are none, there is no such split, or the tree can be read in two ways.
    """
    name, tree = folder.resolve().name, read_folder(folder, layout, label_column)
    if not tree.splits and not tree.labelled:
        why = f" {' '.join(f'{each}.' for each in tree.notices)}" if tree.notices else ""
        raise DatasetError(
            f"{str(folder)!r} holds no pictures in class folders. Put each class's pictures in a folder named after it,"
            f" or a table with the columns file_name and label beside them.{why}"
        )
    if tree.splits:
        split = split or tree.splits[0]
        if split not in tree.splits:
            raise DatasetError(f"{str(folder)!r} has no split {split!r}. It has: {', '.join(tree.splits)}.")
    elif split is not None:
        raise DatasetError(f"{str(folder)!r} has no split {split!r}. It is a folder of class folders, which has none.")
    found: list[Source] = [
        (tree.keys[path], one.label, partial(same, folder / path))
        for path, one in tree.images.items() if one.split == split
    ]  # fmt: skip
    empty = {tree.keys[path] for path in tree.empty if path in tree.images and tree.images[path].split == split}
    found = [source for source in found if source[0] not in empty]
    names = in_order({label for _, label, _ in found if label is not None})
    if labels is not None:
        refuse_unknown_labels(repr(str(folder)), labels, names)
        names = tuple(each for each in names if each in labels)
        found = [source for source in found if source[1] in names]
    notices = tree.notices if names else (*tree.notices, "No image of this split has a label")
    chosen = draw(found, limit, seed)
    note = drawn(len(chosen), len(found))
    return LabelledPictures(name, chosen, names, split=split, note=note, notices=notices, skipped=_empty(empty))


def open_flat_folder(folder: Path, *, limit: int | None = None, seed: int = 0) -> LabelledPictures:
    """All pictures of a folder, also in folders within it, without labels; those in hidden folders are left out.

    Links are followed wherever they lead, for it is the user's own folder; a visitor can name none.

    Raises:
        DatasetError: there are none, or the limit leaves none.
    """
    if limit is not None and limit < 1:
        raise DatasetError(f"A limit of {limit} pictures leaves none to read. Give 1 or more.")
    listing = list_folder(folder, follow=True)
    images = [path for path in listing.images if path not in listing.empty]
    found: list[Source] = [(path, None, partial(same, folder / path)) for path in images]
    if not found:
        kinds = ", ".join(sorted(f".{name.lower()}" for name in FORMATS))
        raise DatasetError(f"{str(folder)!r} holds no pictures ({kinds}). Name a folder that does.")
    chosen = draw(found, limit, seed)
    left = told(listing.left_out)
    return LabelledPictures(
        folder.resolve().name, chosen, (), note=drawn(len(chosen), len(found)), notices=(left,) if left else (),
        skipped=_empty(listing.empty),
    )  # fmt: skip


def _empty(keys: Collection[str]) -> dict[str, str]:
    return dict.fromkeys(sorted(keys), "It is empty (0 bytes).")
