"""Which files of a folder are images and tables, and what is left out: told by names, links and first bytes alone."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from xaihub.images import FORMATS

__all__ = ["TABLE_SUFFIXES", "Listing", "image_suffixes", "is_clutter", "list_folder", "told"]

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
# Names that operating systems, file servers and tools give; those that begin with "." or "__" need no list.
_CLUTTER = {
    "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "recycler",
    "system volume information", "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
}  # fmt: skip
_UNFINISHED = ("~", ".part", ".partial", ".crdownload", ".download", ".tmp", ".bak", ".swp", ".incomplete")
_SNIFFED = 20_000  # files without a known suffix that are opened for their first bytes


@dataclass(frozen=True)
class Listing:
    """Listing of a folder, as paths relative to it, in order.

    Attributes:
        left_out: reason -> how many files.
        empty: which of the images have no bytes.
    """

    images: tuple[str, ...]
    tables: tuple[str, ...]
    left_out: Mapping[str, int]
    empty: frozenset[str] = frozenset()


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of the formats that `open_picture` reads, as Pillow registers them."""
    Image.init()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)


def is_clutter(name: str) -> bool:
    """Return whether a file or folder of this name is a system's or a tool's, and no person's."""
    return name.startswith((".", "__")) or name.lower() in _CLUTTER or name.lower().endswith(_UNFINISHED)


def list_folder(folder: Path, *, follow: bool = False) -> Listing:
    """The images and tables of a folder and of the folders within it.

    Args:
        follow: whether links that lead out of the folder are followed.
    """
    left_out: Counter[str] = Counter()
    images, tables, nothing, sniffed = [], [], set[str](), 0
    for file in _files(folder, follow, left_out):
        path, suffix = file.relative_to(folder).as_posix(), file.suffix.lower()
        try:
            empty = file.stat().st_size == 0
            if suffix in image_suffixes():
                images.append(path)
                nothing.update({path} if empty else ())
            elif suffix in TABLE_SUFFIXES and not empty:
                tables.append(path)
            elif empty:
                left_out["empty"] += 1
            elif sniffed < _SNIFFED and _begins_like_an_image(file):
                images.append(path)
            else:
                left_out[f"not images ({suffix or 'no suffix'})"] += 1
            sniffed += suffix not in image_suffixes()
        except OSError:
            left_out["not readable"] += 1
    return Listing(tuple(sorted(images)), tuple(sorted(tables)), dict(left_out), frozenset(nothing))


def told(left_out: Mapping[str, int]) -> str:
    """Return what was left out, in a sentence; "" if nothing was."""
    total = sum(left_out.values())
    if not total:
        return ""
    parts = ", ".join(f"{count:,} {why}" for why, count in sorted(left_out.items(), key=lambda one: -one[1])[:8])
    return f"{total:,} {'file was' if total == 1 else 'files were'} left out: {parts}"


def _files(folder: Path, follow: bool, left_out: Counter[str]) -> Iterator[Path]:
    """Every file but clutter. A linked folder is entered once, and never from within itself."""
    root = folder.resolve()
    linked: set[Path] = set()

    def inside(place: Path, above: frozenset[Path]) -> Iterator[Path]:
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:
            left_out["in folders that may not be read"] += 1
            return
        for entry in entries:
            path = Path(entry.path)
            if is_clutter(entry.name):
                if entry.is_file(follow_symlinks=False):
                    left_out["hidden or of a system"] += 1
                elif entry.is_dir(follow_symlinks=False):
                    left_out["hidden or of a system"] += _count(path)
                continue
            real = _followed(entry, path, root, follow, left_out)
            if real is None:
                continue
            if not real.is_dir():
                yield path
            elif real in above or (entry.is_symlink() and real in linked):
                left_out["links in a circle"] += 1
            else:
                linked.update({real} if entry.is_symlink() else ())
                yield from inside(path, above | {real})

    yield from inside(folder, frozenset({root}))


def _followed(entry: "os.DirEntry[str]", path: Path, root: Path, follow: bool, left_out: Counter[str]) -> Path | None:
    """Where an entry leads, if it may be followed."""
    try:
        real = path.resolve() if entry.is_symlink() else path
        if entry.is_symlink() and not real.exists():
            left_out["broken links"] += 1
        elif entry.is_symlink() and not follow and not real.is_relative_to(root):
            left_out["links out of the folder"] += 1
        elif real.is_dir() or real.is_file():  # no pipes and devices: to read one would wait for ever
            return real.resolve() if real.is_dir() else real
    except (OSError, RuntimeError):  # links in a circle
        left_out["broken links"] += 1
    return None


def _count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _begins_like_an_image(file: Path) -> bool:
    with file.open("rb") as stream:
        start = stream.read(16)
    return any(accepts(start) is True for accepts in _signatures())


@cache
def _signatures() -> tuple[Callable[[bytes], bool | str], ...]:
    Image.init()
    return tuple(accept for name in FORMATS if name in Image.OPEN and (accept := Image.OPEN[name][1]))
