"""One run of `kaggle_worker.py`: what it may see, how long it may take, and what its answer means."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xaihub.downloads import disk_trouble, refuse_pointer, refused_by_disk
from xaihub.errors import (
    AccessDeniedError,
    DownloadError,
    HubError,
    HubUnreachableError,
    RepoNotFoundError,
    UnsupportedModelError,
)
from xaihub.folders import file_digest
from xaihub.progress import Progress

__all__ = ["Task", "asking", "holds", "holds_whole"]

# All that a process may see which asks for a visitor: no credentials, and no home in which some could lie.
_HARMLESS = (
    "PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
    "no_proxy", "KAGGLE_API_ENVIRONMENT",
)  # fmt: skip


@contextmanager
def asking(handle: str, *, anonymous: bool, most_bytes: int, beside: Path) -> Iterator["Task"]:
    """A task with a folder of its own on the cache's disk, which is gone afterwards with whatever is left in it."""
    with tempfile.TemporaryDirectory(prefix=".kaggle-", dir=beside, ignore_cleanup_errors=True) as place:
        yield Task(handle, anonymous, most_bytes, Path(place))


class Task:
    """One run of `kaggle_worker.py`."""

    def __init__(self, handle: str, anonymous: bool, most_bytes: int, place: Path) -> None:
        self.handle, self.anonymous, self.place = handle, anonymous, place
        self.most_bytes = max(most_bytes, 2**20)  # of one file; the answer has to find room, too
        self.folder = place / "files"

    def run(
        self, progress: Progress, patience: float, *, total: int, files: Sequence[str] = (), **asked: Any
    ) -> dict[str, Any]:
        """The worker's answer.

        Args:
            patience: seconds without a byte more, after which it is stopped.
            total: bytes that are expected; of more than that it is stopped as well.
            files: to be fetched; none for the listing.
            asked: what to fetch `along` with the listing, unless it is `kept` already.
        """
        task, answered = self.place / "task.json", self.place / "answer.json"
        settings = {"handle": self.handle, "folder": str(self.folder), "most_bytes": self.most_bytes}
        task.write_text(json.dumps({**settings, "files": list(files), **asked}), "utf-8")
        self.folder.mkdir()
        command = [sys.executable, "-P", str(Path(__file__).with_name("kaggle_worker.py")), str(task), str(answered)]
        with subprocess.Popen(  # noqa: S603  our own script; the handle travels in a file, checked
            command, env=self._environment(), cwd=self.place, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            try:
                self._watch(process, progress, patience, total, files[-1] if files else "")
            finally:
                process.kill()
        try:
            answer = json.loads(answered.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DownloadError(f"kagglehub broke off while fetching kaggle/{self.handle}. Try again.") from error
        if "error" in answer:
            raise _explained(self.handle, answer, self.anonymous)
        return dict(answer)

    def keep(self, sizes: Mapping[str, int], folder: Path) -> None:
        """Moves what came to the folder where it is kept.

        Raises:
            DownloadError: a file has not the size that was stated.
        """
        with disk_trouble(f"kaggle/{self.handle}"):
            self._keep(sizes, folder)

    def _keep(self, sizes: Mapping[str, int], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for path, size in sizes.items():
            if not holds(self.folder / path, size):
                raise DownloadError(f"{path} of kaggle/{self.handle} did not arrive with its {size} bytes. Try again.")
            refuse_pointer(self.folder / path, f"{path} of kaggle/{self.handle}")
            _sum_of(folder / path).write_text(file_digest(self.folder / path), "utf-8")
            os.replace(self.folder / path, folder / path)

    def _watch(
        self, process: "subprocess.Popen[bytes]", progress: Progress, patience: float, total: int, last_file: str
    ) -> None:
        """Waits for the worker and says how far it is; stops waiting once nothing comes any more, or too much."""
        before, last = -1, time.monotonic()
        while True:
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                pass
            else:
                return
            done = _size(self.folder)
            if done != before:
                before, last = done, time.monotonic()
            if done > total + 2**20:
                raise DownloadError(
                    f"kaggle/{self.handle} sends more than the {total} bytes it states. It is not opened."
                )
            if time.monotonic() - last > patience:
                raise _unreachable(self.handle)
            if last_file:
                progress(min(1.0, done / max(total, 1)), f"Downloading {last_file}")

    def _environment(self) -> dict[str, str]:
        """Everything for a person at their own machine; for a visitor nothing in which credentials could be."""
        seen = {name: os.environ[name] for name in _HARMLESS if name in os.environ} if self.anonymous else os.environ
        home = {"HOME": str(self.place), "USERPROFILE": str(self.place)} if self.anonymous else {}
        return {**seen, **home, "PYTHONPATH": str(_kagglehub())}


def _size(folder: Path) -> int:
    """Bytes below a folder that somebody else is writing to."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # renamed just now
            total += path.stat().st_size if path.is_file() else 0
    return total


def _kagglehub() -> Path:
    """The folder of packages that has kagglehub.

    Raises:
        UnsupportedModelError: it is not installed.
    """
    found = importlib.util.find_spec("kagglehub")
    if found is None or found.origin is None:
        raise UnsupportedModelError(
            "Models of Kaggle are fetched with kagglehub, which is not installed here. Install it with"
            " pip install 'xaihub[kaggle]' (or pip install kagglehub), then try again; models of the Hub work without."
        )
    return Path(found.origin).parents[1]


def _explained(handle: str, answer: Mapping[str, Any], anonymous: bool) -> HubError:
    """The error that tells what the worker met."""
    status = answer.get("status")
    if answer.get("unreachable"):
        return _unreachable(handle)
    if status in (401, 403):
        remedy = (
            "Here only public models are read, without any account; run xaihub on your own machine for this one."
            if anonymous
            else "Accept its terms on its page, and give kagglehub your credentials (KAGGLE_API_TOKEN)."
        )
        return AccessDeniedError(
            f"Kaggle does not give kaggle/{handle} to {'visitors without an account' if anonymous else 'you'}: it is"
            f" private, asks for consent, or is not there. {remedy}"
        )
    if status == 404:
        return RepoNotFoundError(f"There is no model kaggle/{handle} on Kaggle. Look at its page for the exact handle.")
    if answer["error"] == "ValueError" and "ModelFramework" in str(answer.get("said")):
        return RepoNotFoundError(
            f"kaggle/{handle} names the framework {handle.split('/')[2]!r}, which Kaggle does not have. It is the part"
            " before the variation, such as 'transformers' or 'pyTorch'."
        )
    if status == 429:
        return HubUnreachableError("Kaggle is answering too many requests from here. Wait a minute and try again.")
    if status is not None:
        return HubUnreachableError(f"Kaggle failed while answering for kaggle/{handle} (status {status}). Try again.")
    if full := refused_by_disk(OSError(answer.get("errno") or 0, "")):
        return DownloadError(f"A file of kaggle/{handle} cannot be kept here: {full}")
    return DownloadError(f"A file of kaggle/{handle} did not arrive whole ({answer['error']}). Try again.")


def _unreachable(handle: str) -> HubUnreachableError:
    return HubUnreachableError(f"Kaggle does not answer, so kaggle/{handle} cannot be loaded now. Try again later.")


def holds(file: Path, size: int) -> bool:
    """Whether the file is there with so many bytes."""
    return file.is_file() and file.stat().st_size == size


def holds_whole(file: Path, size: int) -> bool:
    """Return whether a file that was kept is there, with the content that it came with."""
    kept = _sum_of(file)
    return holds(file, size) and kept.is_file() and kept.read_text("utf-8") == file_digest(file)


def _sum_of(file: Path) -> Path:
    """Where the hash of a kept file stands: Kaggle's listing has none."""
    return file.with_name(f".{file.name}.sha256")
