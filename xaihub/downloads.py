"""Files from neither the Hub nor Kaggle, checked by their hash, and where they are kept; the JSON of all three."""

import errno
import os
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

from xaihub.errors import DamagedFileError, DownloadError, HubUnreachableError, UnsafeFileError, shorten
from xaihub.folders import file_digest, replacing_file
from xaihub.progress import Progress, checkpoint, silent
from xaihub.untrusted import BoundsError, DamagedError, damage, json_object, most_bytes

__all__ = [
    "REPAIR", "cache_folder", "checked_json", "disk_trouble", "fetch_checked", "refuse_pointer", "refused_by_disk",
    "small_json",
]  # fmt: skip

REPAIR = (
    "In a folder that git made, `git lfs pull` brings the files themselves; a copy that was damaged has to be made"
    " again; on the Hub its author has to upload the file itself."
)


def cache_folder() -> Path:
    """Where files that are not from the Hub are kept: XAIHUB_CACHE, or the user's cache folder."""
    return Path(os.environ.get("XAIHUB_CACHE") or Path.home() / ".cache" / "xaihub")


def refused_by_disk(error: BaseException | None) -> str:
    """Return what the disk, or its owner, refuses, in words; "" if neither an error nor its cause says so."""
    while error is not None:
        number = getattr(error, "errno", None) if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return (
                "the disk is full. Free some space, or name a folder on another disk (HF_HOME for models of the Hub,"
                " XAIHUB_CACHE for the rest), and try again."
            )
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            return (
                "this program may not read or write its folder of downloads. Give it the right to, or name another"
                " folder (HF_HOME for models of the Hub, XAIHUB_CACHE for the rest), and try again."
            )
        error = error.__cause__ or error.__context__
    return ""


def refuse_pointer(file: Path, name: str) -> None:
    """Raise if a file was published as a git-LFS pointer.

    Raises:
        DamagedFileError: it was, and what its author has to do.
    """
    with file.open("rb") as stream:
        trouble = damage(stream.read(64), file.stat().st_size)
    if "pointer" in trouble:
        raise DamagedFileError(f"{name} {trouble}. {REPAIR}")


@contextmanager
def disk_trouble(whose: str) -> Iterator[None]:
    """Around what reads or writes files here: a full disk or a missing right becomes a sentence.

    Raises:
        DownloadError: the disk refuses.
    """
    try:
        yield
    except OSError as error:
        if said := refused_by_disk(error):
            raise DownloadError(f"Files of {whose} cannot be kept or read here: {said}") from error
        raise


def fetch_checked(url: str, folder: Path, *, progress: Progress = silent) -> Path:
    """The file of an address whose name ends in the first digits of its sha256, checked, from the cache or fresh.

    Raises:
        HubUnreachableError: nobody answers there.
        DownloadError: what came has another hash.
    """
    name = url.rsplit("/", 1)[-1]
    expected = name.rsplit("-", 1)[-1].split(".")[0]
    file = folder / name
    if file.is_file() and _starts_with(file, expected):
        return file
    with disk_trouble(name), replacing_file(file) as draft:
        try:
            _download(url, draft, progress)
        except (URLError, ConnectionError, TimeoutError) as error:
            raise HubUnreachableError(
                f"The server of torchvision's weights does not answer, so {name} cannot be had now."
            ) from error
        if not _starts_with(draft, expected):
            raise DownloadError(f"{name} did not arrive whole: its sha256 does not begin with {expected}. Try again.")
    return file


def _download(url: str, file: Path, progress: Progress) -> None:
    with urllib.request.urlopen(url, timeout=20) as answer, file.open("wb") as out:  # noqa: S310  torchvision's own
        total, done = int(answer.headers.get("Content-Length") or 0), 0
        while chunk := answer.read(2**20):
            out.write(chunk)
            done += len(chunk)
            checkpoint()
            progress(min(1.0, done / total) if total else 0.0, f"Downloading {url.rsplit('/', 1)[-1]}")


def _starts_with(file: Path, digits: str) -> bool:
    return file_digest(file).startswith(digits)


def small_json(path: str, sizes: Mapping[str, int], owner: str, fetch: Callable[[], Path]) -> dict[str, Any]:
    """A stranger's small JSON file, fetched only if it is small; {} where there is none.

    Args:
        path: which file.
        sizes: path -> size in bytes, of all that there are.
        owner: whose it is, for the messages.
        fetch: brings it, and gives the folder that it then lies in.

    Raises:
        DownloadError: it holds something else than a JSON object.
        UnsafeFileError: it is beyond what such a file can be.
    """
    if path not in sizes:
        return {}
    if sizes[path] > most_bytes(path):
        raise UnsafeFileError(
            f"{path} of {owner} has {sizes[path] / 2**20:,.0f} MB; that is no configuration. Such a file has at most"
            f" {most_bytes(path) / 2**20:g} MB here."
        )
    return checked_json(fetch() / path, f"{path} of {owner}")


def checked_json(file: Path, where: str) -> dict[str, Any]:
    """The object in a JSON file on this machine.

    Raises:
        DownloadError: it is no JSON object, or damaged.
        UnsafeFileError: it is beyond what such a file can be.
    """
    try:
        with disk_trouble(where), file.open("rb") as stream:
            return json_object(stream.read(most_bytes(file.name) + 1), file.name)
    except BoundsError as error:
        raise UnsafeFileError(f"{where} {error}, so it is not read. Tell its author.") from error
    except DamagedError as error:
        raise DamagedFileError(f"{where} {error}. {REPAIR}") from error
    except ValueError as error:
        raise DownloadError(f"{where} {shorten(error)}. Tell its author.") from error
