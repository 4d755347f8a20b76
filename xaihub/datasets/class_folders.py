"""Pictures in folders: one folder a class, or one folder of them all."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from xaihub.datasets.pictures import LabelledPictures, Source, draw, drawn, refuse_unknown_labels, same
from xaihub.errors import DatasetError

__all__ = ["open_class_folders", "open_flat_folder"]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}


def open_class_folders(
    folder: Path, limit: int | None, seed: int, labels: Sequence[str] | None = None
) -> LabelledPictures:
    """The pictures of a folder of class folders; `labels` names the classes that are wanted, if not all are.

    Raises:
        DatasetError: there are none.
    """
    classes = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
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
    return LabelledPictures(folder.resolve().name, chosen, names, note=drawn(len(chosen), len(found)))


def open_flat_folder(folder: Path, *, limit: int | None = None, seed: int = 0) -> LabelledPictures:
    """All pictures of a folder, also in folders within it, without labels; those in hidden folders are left out.

    Links are followed wherever they lead, for it is the user's own folder; a visitor can name none.

    Raises:
        DatasetError: there are none.
    """
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
