"""Pictures in folders: one folder a class, one such folder a split, or one folder of them all."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from xaihub.datasets.pictures import LabelledPictures, Source, draw, drawn, refuse_unknown_labels, same
from xaihub.errors import DatasetError

__all__ = ["is_flat_folder", "open_class_folders", "open_flat_folder", "split_folders"]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
_SPLITS = {
    name: split
    for split, names in {
        "train": ("train", "training"),
        "validation": ("validation", "valid", "val", "dev"),
        "test": ("test", "testing", "eval", "evaluation"),
    }.items()
    for name in names
}  # how the datasets library calls what a folder's name says


def split_folders(folder: Path) -> dict[str, Path]:
    """Split -> its folder of class folders, train, validation and test in that order; none where folders are classes.

    Folders are splits if all of them are called so, hold folders with pictures, and no pictures beside these: else
    somebody would be told what tells "train" from "val", where ants and bees were meant.
    """
    inside = _folders(folder)
    named = {_SPLITS.get(child.name.lower(), ""): child for child in inside}
    if not inside or "" in named or len(named) < len(inside) or not all(map(_holds_classes, inside)):
        return {}
    return {split: named[split] for split in dict.fromkeys(_SPLITS.values()) if split in named}


def _holds_classes(folder: Path) -> bool:
    beside = any(path.suffix.lower() in _SUFFIXES for path in folder.iterdir())
    return not beside and not is_flat_folder(folder)


def is_flat_folder(folder: Path) -> bool:
    """Whether none of its folders holds pictures, so that there are neither classes nor splits."""
    return not any(next(_pictures(child), None) for child in _folders(folder))


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def open_class_folders(
    folder: Path, split: str | None, limit: int | None, seed: int, labels: Sequence[str] | None = None
) -> LabelledPictures:
    """The pictures of a folder of class folders; `labels` names the classes that are wanted, if not all are.

    Args:
        split: of a folder of splits; train, or else the first, if none is named.

    Raises:
        DatasetError: there are none, or there is no such split.
    """
    name = folder.resolve().name
    if splits := split_folders(folder):
        split = split or next(iter(splits))
        if split not in splits:
            raise DatasetError(f"{str(folder)!r} has no split {split!r}. It has: {', '.join(splits)}.")
        folder = splits[split]
    elif split is not None:
        raise DatasetError(f"{str(folder)!r} has no split {split!r}. It is a folder of class folders, which has none.")
    classes = [child.name for child in _folders(folder)]
    found: list[Source] = [
        (str(path.relative_to(folder)), name, partial(same, path))
        for name in classes
        for path in _pictures(folder / name, folder.resolve())
    ]
    if not found:
        raise DatasetError(
            f"{str(folder)!r} holds no pictures in class folders. Put each class's pictures in a folder named after it."
        )
    names = tuple(name for name in classes if any(label == name for _, label, _ in found))
    if labels is not None:
        refuse_unknown_labels(repr(str(folder)), labels, names)
        names = tuple(name for name in names if name in labels)
        found = [source for source in found if source[1] in names]
    chosen = draw(found, limit, seed)
    return LabelledPictures(name, chosen, names, split=split, note=drawn(len(chosen), len(found)))


def open_flat_folder(folder: Path, *, limit: int | None = None, seed: int = 0) -> LabelledPictures:
    """All pictures of a folder, also in folders within it, without labels; those in hidden folders are left out.

    Links are followed wherever they lead, for it is the user's own folder; a visitor can name none.

    Raises:
        DatasetError: there are none, or the limit leaves none.
    """
    if limit is not None and limit < 1:
        raise DatasetError(f"A limit of {limit} pictures leaves none to read. Give 1 or more.")
    found: list[Source] = [
        (path.relative_to(folder).as_posix(), None, partial(same, path))
        for path in _pictures(folder)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        kinds = ", ".join(sorted(_SUFFIXES))
        raise DatasetError(f"{str(folder)!r} holds no pictures ({kinds}). Name a folder that does.")
    chosen = draw(found, limit, seed)
    return LabelledPictures(folder.resolve().name, chosen, (), note=drawn(len(chosen), len(found)))


def _pictures(folder: Path, root: Path | None = None) -> Iterator[Path]:
    """Picture files in order; a link that leads out of `root`, if there is one, is not followed."""
    for path in sorted(folder.rglob("*")):
        inside = root is None or path.resolve().is_relative_to(root)
        if path.suffix.lower() in _SUFFIXES and path.is_file() and inside:
            yield path
