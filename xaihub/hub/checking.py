"""Checks that a file of the client's cache is what was published: its size, its hash, and no pointer in its place."""

import hashlib
import os
import re
from pathlib import Path

from xaihub.errors import DamagedFileError

__all__ = ["damaged_here", "fault_of"]

_AT_ONCE = 2**20  # bytes
_known: set[tuple[str, int, int]] = set()  # (blob, size, time of change) of what was found right in this process


def fault_of(file: Path, size: int | None) -> str:
    """Return what is wrong with a fetched file, in words; "" if it is what was published.

    The client calls what it keeps by its hash: sha256 of a large file, git's own sha1 of a small one. That is read here
    once in each process, since a disk, or a copy that broke off, may have changed it after the client looked.

    Args:
        size: in bytes, as the Hub states it, if it does.
    """
    held = file.stat()
    if size is not None and held.st_size != size:
        return f"it has {held.st_size:,} of {size:,} bytes"
    blob = os.readlink(file) if file.is_symlink() else ""  # where links are not allowed, there is no name to compare
    name, mark = Path(blob).name, (blob, held.st_size, held.st_mtime_ns)
    if mark in _known or not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", name):
        return ""
    if _hash(file, held.st_size, git=len(name) == 40) != name:
        return "its hash is not the published one"
    _known.add(mark)
    return ""


def _hash(file: Path, size: int, *, git: bool) -> str:
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if git else hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_AT_ONCE):
            digest.update(chunk)
    return digest.hexdigest()


def damaged_here(path: str, repo_id: str, fault: str) -> DamagedFileError:
    """The error of a file that is damaged in the cache while the Hub does not answer."""
    return DamagedFileError(
        f"{path} of {repo_id} is damaged in this machine's cache ({fault}), and the Hub does not answer to bring it"
        " again. Try again when there is a network."
    )
