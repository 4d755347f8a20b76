"""Room on the disk: what was fetched for visitors goes again, longest unused first, and never what is in use.

Only what was fetched through a `Disk` is ever deleted: what lay in the cache before belongs to whoever put it there.
When each of these was used last is kept in files of our own, since few file systems note it.
"""

import hashlib
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from xaihub.errors import DownloadError
from xaihub.hub.looking import Repo
from xaihub.hub.refusals import RepoType

__all__ = ["Disk", "missing_bytes", "repo_folder"]

_ABANDONED = 600.0  # seconds after which the rest of a killed download is nobody's


def repo_folder(repo_type: RepoType, repo_id: str) -> Path:
    """Where the client keeps a repository's files."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"{repo_type}s--{repo_id.replace('/', '--')}"


def missing_bytes(repo: Repo, paths: Sequence[str]) -> int:
    """Bytes of these files that are not in the cache yet."""
    from huggingface_hub import try_to_load_from_cache

    known = {"revision": repo.revision, "repo_type": repo.repo_type}
    absent = [path for path in paths if not isinstance(try_to_load_from_cache(repo.repo_id, path, **known), str)]
    return sum(repo.files.get(path, 0) for path in absent)


class Disk:
    """Files that this host keeps of those it fetched, by the folder or file it lies in; safe from several threads.

    Args:
        record: a folder for our own notes.
        budget: bytes that may be kept; 0 for as many as there are.
        reserve: bytes of the disk that stay free.
        pinned: folders that never go.
    """

    def __init__(self, record: Path, budget: int = 0, reserve: int = 0, pinned: Iterable[Path] = ()) -> None:
        self.record, self.budget, self.reserve, self.pinned = record, budget, reserve, frozenset(pinned)
        self._in_use: Counter[Path] = Counter()
        self._promised: dict[Path, int] = {}  # what a folder will hold once its download has ended
        self._lock = threading.RLock()

    @contextmanager
    def fetching(self, path: Path) -> Iterator[None]:
        """While open, something may be fetched to there: it is ours to delete, unless some of it was there before."""
        absent = not path.exists()
        try:
            yield
        finally:
            if absent and path.exists():
                self.record.mkdir(parents=True, exist_ok=True)
                self._note(path).write_text(str(path), "utf-8")

    @contextmanager
    def using(self, path: Path, what: str, needed: int = 0) -> Iterator[None]:
        """While open, what lies there stays; there is room for so many more bytes of it.

        Raises:
            DownloadError: there is not, whatever is deleted; `what` begins the sentence.
        """
        with self._lock:
            self._in_use[path] += 1
            if needed:
                self._promised[path] = max(self._promised.get(path, 0), _size(path) + needed)
        try:
            if needed:
                self._make_room(path, what, needed)
            yield
        finally:
            with self._lock:
                self._in_use[path] -= 1
                if not self._in_use[path]:
                    del self._in_use[path]
                    self._promised.pop(path, None)
                if self._note(path).is_file():
                    os.utime(self._note(path))

    def kept(self) -> list[Path]:
        """Return what it fetched and still has, longest unused first."""
        notes = sorted(self.record.glob("*.used"), key=lambda note: note.stat().st_mtime_ns)
        paths = [(note, Path(note.read_text("utf-8"))) for note in notes]
        for note, path in paths:
            if not path.exists() and path not in self._in_use:
                note.unlink(missing_ok=True)
        return [path for _, path in paths if path.exists()]

    def _make_room(self, path: Path, what: str, needed: int) -> None:
        with self._lock:
            kept = [each for each in self.kept() if each != path]
            held = sum(map(_size, kept)) + sum(self._promised.values())
            free = _free(self.record) - sum(max(0, most - _size(each)) for each, most in self._promised.items())
            for each in kept:
                if not self._lacks(held, free):
                    return
                freed = _delete_rests(each) if each in self._in_use or each in self.pinned else _delete(each)
                held, free = held - freed, free + freed
            if self._lacks(held, free):
                raise DownloadError(self._no_room(what, needed, held, free + needed))

    def _lacks(self, held: int, free: int) -> bool:
        return bool(self.budget and held > self.budget) or free < self.reserve

    def _no_room(self, what: str, needed: int, held: int, free: int) -> str:
        if self.budget and held > self.budget:
            have = f"{self.budget / 1e6:,.0f} MB may be kept here and {(held - needed) / 1e6:,.0f} MB are in use"
        else:
            have = f"{free / 1e6:,.0f} MB are free, of which {self.reserve / 1e6:,.0f} MB stay free"
        return (
            f"{what} needs {needed / 1e6:,.0f} MB on the disk of this host; {have}. Try a smaller model, or this one"
            " once others have ended."
        )

    def _note(self, path: Path) -> Path:
        return self.record / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.used"


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder) / name
            try:
                total += 0 if file.is_symlink() else file.stat().st_size
            except OSError:  # gone meanwhile
                continue
    return total


def _free(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, which may not be there yet."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(there).free


def _delete(path: Path) -> int:
    """Deletes a repository by the client's own functions, or a folder or file of ours; gives the bytes that it had."""
    before = _size(path)
    if path.is_file():
        path.unlink()
    elif (path / "snapshots").is_dir():
        _delete_repository(path)
    shutil.rmtree(path, ignore_errors=True)  # what the client does not know, such as the rest of a killed download
    return before


def _delete_repository(path: Path) -> None:
    from huggingface_hub import scan_cache_dir

    found = scan_cache_dir(path.parent)
    mine = frozenset(repo for repo in found.repos if repo.repo_path == path)
    alone = replace(found, repos=mine)  # a repository that was duplicated on the Hub has the same commits
    revisions = [each.commit_hash for repo in mine for each in repo.revisions]
    if revisions:
        alone.delete_revisions(*revisions).execute()


def _delete_rests(path: Path) -> int:
    """Deletes what killed downloads left in a repository that stays; gives the bytes that they had."""
    freed = 0
    for rest in path.glob("blobs/*.incomplete"):
        if time.time() - rest.stat().st_mtime > _ABANDONED:
            freed += rest.stat().st_size
            rest.unlink(missing_ok=True)
    return freed
