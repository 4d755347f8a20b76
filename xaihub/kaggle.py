"""Models on Kaggle: what a version holds, and its files. kagglehub itself runs in a process of its own."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xaihub.downloads import small_json
from xaihub.errors import DownloadError, RepoNotFoundError
from xaihub.kaggle_task import asking, holds_whole
from xaihub.progress import Progress, silent
from xaihub.untrusted import most_bytes

__all__ = ["Listing", "clean_handle", "fetch", "is_handle", "look", "read_json"]

_PAGE = re.compile(r"(?:https?://)?(?:www\.)?kaggle\.com/models/", re.IGNORECASE)
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?"
_HANDLE = re.compile(rf"({_WORD}/{_WORD}/[A-Za-z][A-Za-z0-9_]{{0,40}}/{_WORD})(?:/([1-9]\d{{0,5}}))?", re.ASCII)
_FILE = re.compile(r"[\w-][\w.-]{0,120}", re.ASCII)  # only files that lie at the top are ever asked for
_SECONDS_TO_LOOK = 30.0
_SECONDS_OF_SILENCE = 60.0  # a download that does not grow for so long is given up


@dataclass(frozen=True)
class Listing:
    """What Kaggle says of one version of a model, before any of its files is fetched.

    Attributes:
        handle: "owner/model/framework/variation".
        files: path -> size in bytes.
        anonymous: whether it was asked, and is to be fetched, without any credentials of this machine.
    """

    handle: str
    version: int
    files: Mapping[str, int]
    licence: str | None = None
    anonymous: bool = True

    @property
    def repo_id(self) -> str:
        return f"kaggle/{self.handle}"

    def folder(self, cache: Path) -> Path:
        """Where its files are kept."""
        return cache / "kaggle" / self.handle / str(self.version)

    @property
    def versioned(self) -> str:
        return f"{self.handle}/{self.version}"


def is_handle(text: str) -> bool:
    """Whether somebody means Kaggle; "kaggle/NAME" alone is a repository of the Hub's user kaggle."""
    return bool(_PAGE.match(text)) or (text.startswith("kaggle/") and text.count("/") > 1)


def clean_handle(text: str, revision: str | None = None) -> tuple[str, int | None]:
    """The handle "owner/model/framework/variation" that somebody typed or pasted, and the version, if one was given.

    Raises:
        RepoNotFoundError: it cannot be one: too few parts, a path, odd characters, or two versions.
    """
    given = text.strip()
    page = _PAGE.match(given)
    inside = re.sub(r"[?#].*$", "", given[page.end() :]).strip("/") if page else given.removeprefix("kaggle/")
    inside = re.sub(r"/(frameworks|variations|versions)(?=/)", "", inside) if page else inside
    found = _HANDLE.fullmatch(inside)
    if not found or ".." in inside:
        raise RepoNotFoundError(
            f"{given[:120]!r} is not the handle of a model on Kaggle. One looks like"
            " 'kaggle/google/mobilenet-v2/transformers/base': owner, model, framework, variation, and if you like the"
            " version's number."
        )
    version = int(found[2]) if found[2] else None
    if revision is not None and (not revision.isdecimal() or version not in (None, int(revision))):
        raise RepoNotFoundError(
            f"{given} has no revision {revision[:40]!r}. On Kaggle a revision is the version's number, such as '1';"
            " leave it out for the latest."
        )
    return found[1], version if revision is None else int(revision)


def look(
    handle: str, *, version: int | None = None, anonymous: bool, cache: Path, along: Sequence[str] = ()
) -> Listing:
    """What a version of the model holds, with sizes; nothing large is downloaded.

    Args:
        handle: as `clean_handle` gives it.
        version: None for the latest.
        anonymous: no credentials of this machine are used: for visitors, always.
        cache: where files are kept.
        along: JSON files that are brought at once, where they are there: each question costs a process.

    Raises:
        HubError: it does not exist, is not open to whoever asks, or Kaggle does not answer.
        UnsupportedModelError: kagglehub is not installed.
    """
    asked = f"{handle}/{version}" if version else handle
    cache.mkdir(parents=True, exist_ok=True)
    most = [most_bytes(path) for path in along]
    with asking(asked, anonymous=anonymous, most_bytes=max(most, default=0), beside=cache) as task:
        kept = str(cache / "kaggle" / handle)
        answer = task.run(silent, _SECONDS_TO_LOOK, total=sum(most), along=list(along), kept=kept)
        listing = Listing(handle, int(answer["version"]), answer["files"], answer["licence"], anonymous)
        task.keep({path: listing.files[path] for path in answer["fetched"]}, listing.folder(cache))
    return listing


def read_json(listing: Listing, path: str, cache: Path) -> dict[str, Any]:
    """A small JSON file of the model; {} when it has none.

    Raises:
        HubError: it did not arrive, is too large, or holds something else than a JSON object.
    """
    return small_json(path, listing.files, listing.repo_id, lambda: fetch(listing, [path], cache))


def fetch(listing: Listing, paths: Sequence[str], cache: Path, *, progress: Progress = silent) -> Path:
    """The folder below `cache` that now holds these files; each appears there whole or not at all.

    Raises:
        HubError: a file did not arrive whole.
        CancelledError: from `progress`; what had arrived whole before is kept.
    """
    folder = listing.folder(cache)
    wanted = [path for path in paths if not holds_whole(folder / path, listing.files[path])]
    if odd := [path for path in wanted if not _FILE.fullmatch(path)]:
        raise DownloadError(f"{listing.repo_id} has a file called {odd[0][:120]!r}, which is not fetched here.")
    if not wanted:
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    sizes = [listing.files[path] for path in wanted]
    with asking(listing.versioned, anonymous=listing.anonymous, most_bytes=max(sizes), beside=cache) as task:
        task.run(progress, _SECONDS_OF_SILENCE, total=sum(sizes), files=wanted)
        task.keep({path: listing.files[path] for path in wanted}, folder)
    return folder
