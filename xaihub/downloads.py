"""Files from neither the Hub nor Kaggle, checked by their hash, and where they are kept; the JSON of all three."""

import json
import os
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

from xaihub.errors import DownloadError, HubUnreachableError
from xaihub.folders import file_digest, replacing_file
from xaihub.progress import Progress, checkpoint, silent

__all__ = ["LARGEST_JSON", "cache_folder", "fetch_checked", "json_object"]

LARGEST_JSON = 16 * 2**20  # bytes; a configuration has some thousands


def cache_folder() -> Path:
    """Where files that are not from the Hub are kept: XAIHUB_CACHE, or the user's cache folder."""
    return Path(os.environ.get("XAIHUB_CACHE") or Path.home() / ".cache" / "xaihub")


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
    with replacing_file(file) as draft:
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


def json_object(path: str, sizes: Mapping[str, int], owner: str, fetch: Callable[[], Path]) -> dict[str, Any]:
    """A stranger's small JSON file, fetched only if it is small; {} where there is none.

    Args:
        path: which file.
        sizes: path -> size in bytes, of all that there are.
        owner: whose it is, for the messages.
        fetch: brings it, and gives the folder that it then lies in.

    Raises:
        DownloadError: it is too large, or holds something else than a JSON object.
    """
    if path not in sizes:
        return {}
    if sizes[path] > LARGEST_JSON:
        raise DownloadError(f"{path} of {owner} has {sizes[path] / 2**20:.0f} MB; that is no configuration.")
    text = (fetch() / path).read_text("utf-8", errors="replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DownloadError(f"{path} of {owner} is not valid JSON ({error}). Tell its author.") from error
    if not isinstance(value, dict):
        raise DownloadError(f"{path} of {owner} holds a {type(value).__name__}, not a configuration.")
    return value
