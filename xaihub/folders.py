"""A folder, or a file, that is written whole or not at all."""

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["file_digest", "folder_named", "refuse_taken", "replacing", "replacing_file"]


def refuse_taken(folder: Path, mark: str) -> None:
    """Nothing, unless the folder holds something else than an earlier result, which has the file `mark`.

    Raises:
        FileExistsError: it does.
    """
    if folder.exists() and not (folder / mark).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{str(folder)!r} exists and holds something else (no {mark}). Name another folder.")


@contextmanager
def replacing(folder: Path, mark: str) -> Iterator[Path]:
    """A draft folder to write into; when the block ends well it takes the place of `folder` at once.

    A folder that is there already is replaced only if it is empty or holds the file `mark`.

    Raises:
        FileExistsError: the folder holds something else.
    """
    refuse_taken(folder, mark)
    place = folder.resolve()  # "." and links have no place beside them to write the draft
    place.parent.mkdir(parents=True, exist_ok=True)
    _tidy(place)
    draft = Path(tempfile.mkdtemp(prefix=f".{place.name}-{os.getpid()}-", dir=place.parent))
    try:
        draft.chmod(0o755)  # mkdtemp's own mode would hide the result from other users
        yield draft
        _take_place(draft, place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def replacing_file(file: Path) -> Iterator[Path]:
    """A draft to write; when the block ends well it takes the file's place at once, which no other run sees half."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        yield draft
        os.replace(draft, file)
    finally:
        draft.unlink(missing_ok=True)


def _tidy(place: Path) -> None:
    """Drafts of processes that were killed are removed; a result that one of them had set aside is put back."""
    for left in sorted(place.parent.glob(f".{place.name}-*-*")):
        owner = left.name.removeprefix(f".{place.name}-").split("-")[0]
        if not owner.isdigit() or _runs(int(owner)):
            continue
        if left.name.endswith("-old") and not place.exists():
            os.replace(left, place)
        shutil.rmtree(left, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _take_place(draft: Path, place: Path) -> None:
    """The old folder steps aside and is deleted once the new one stands: a failure leaves one of them whole."""
    old = draft.with_name(f"{draft.name}-old")
    if place.exists():
        os.replace(place, old)
    try:
        os.replace(draft, place)
    except OSError:
        if old.exists():
            os.replace(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def file_digest(file: Path) -> str:
    """sha256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_named(text: str) -> Path | None:
    """The folder that somebody means, if there is one; nobody means the current one by saying nothing."""
    try:
        folder = Path(text).expanduser()
        return folder if text.strip() and folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long for a path, the home of nobody, or a zero byte
        return None
