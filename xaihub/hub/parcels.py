"""What of a folder is published: which files, that none is a pickle or a secret, and which of them are new."""

import hashlib
import mmap
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from xaihub.errors import HubError
from xaihub.folders import file_digest
from xaihub.hub.destination import Stored

__all__ = ["changed", "left_over", "planned"]

_LEFT_OUT = {".git", ".cache", "__pycache__", ".DS_Store"}
_PICKLES = frozenset(
    {".bin", ".ckpt", ".dill", ".h5", ".hdf5", ".joblib", ".model", ".msgpack", ".npy", ".npz", ".pickle", ".pkl"}
    | {".pt", ".pth"}
)
_OPEN = frozenset(  # numbers, pictures and text: nothing that runs when it is opened
    {".safetensors", ".parquet", ".json", ".jsonl", ".csv", ".md", ".txt", ".yaml", ".yml", ".toml"}
    | {".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg"}
    | {".py", ".ipynb", ".css", ".js", ".html", ".sh", ".typed"}
)
_NAMES = {"LICENSE", "NOTICE", ".gitattributes"}
_TOKEN = re.compile(rb"(?<![A-Za-z0-9_])hf_[A-Za-z0-9]{30,}")


def planned(folder: Path) -> list[tuple[str, int]]:
    """Path and size in bytes of every file that would be published, in the order of their paths.

    Raises:
        HubError: there is none; or one is a pickle, holds a token, is a link, or is of a kind that is not published.
    """
    files = [path for path in sorted(folder.rglob("*")) if not _LEFT_OUT & set(path.relative_to(folder).parts)]
    named = sorted((path.relative_to(folder).as_posix(), path) for path in files if not path.is_dir())
    if not named:
        raise HubError(f"There is nothing in {str(folder)!r} to publish.")
    for name, path in named:
        _refuse_kind(name, path)
        _refuse_token(name, path)
    return [(name, path.stat().st_size) for name, path in named]


def _refuse_kind(name: str, path: Path) -> None:
    suffix = path.suffix.lower()
    if path.is_symlink():
        raise HubError(f"{name} is a link: what it leads to may not be meant for others. Put the file itself there.")
    if suffix in _PICKLES:
        raise HubError(
            f"{name} can run code on the machine of whoever opens it, as pickles do. Save it as safetensors, JSON or"
            " parquet, or take it out of the folder."
        )
    if suffix not in _OPEN and path.name not in _NAMES:
        raise HubError(
            f"{name} is of a kind that is not published here. Weights go as safetensors, tables as parquet or JSON,"
            " and with them pictures, Markdown and code; take it out of the folder."
        )


def _refuse_token(name: str, path: Path) -> None:
    if path.stat().st_size == 0:  # which cannot be mapped
        return
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = _TOKEN.search(content)
        start = found[0][:5].decode() if found else ""
    if start:
        raise HubError(
            f"{name} holds what looks like a token of the Hub ({start}…). Whoever reads it could act in"
            " your name: take it out, and revoke it if others have seen it (huggingface.co/settings/tokens)."
        )


def changed(folder: Path, paths: Sequence[str], there: Mapping[str, Stored]) -> list[str]:
    """Those of the paths whose content the Hub does not have under that name."""
    return [path for path in paths if path not in there or not _same(folder / path, there[path])]


def _same(file: Path, stored: Stored) -> bool:
    if file.stat().st_size != stored.size:
        return False
    return stored.digest == (file_digest(file) if stored.large else _git_name(file.read_bytes()))


def _git_name(content: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def left_over(paths: Sequence[str], there: Mapping[str, Stored], owned: Sequence[str]) -> list[str]:
    """Files on the Hub that fit a pattern of ours, and that the folder no longer has.

    In "data/*.parquet" a star stays within its folder; in "xaihub/**" it does not.
    """
    ours = [path for path in there if any(_fits(path, pattern) for pattern in owned)]
    return sorted(set(ours) - set(paths) - {".gitattributes"})


def _fits(path: str, pattern: str) -> bool:
    deep = "**" in pattern or len(PurePosixPath(path).parts) == len(PurePosixPath(pattern).parts)
    return deep and fnmatchcase(path, pattern)
