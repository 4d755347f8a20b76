"""A folder that grows, kept in a dataset of the Hub: what is new is committed every few minutes."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

from xaihub.errors import HubError
from xaihub.hub.destination import check_destination
from xaihub.hub.refusals import Token, sending

__all__ = ["Keeper"]

logger = logging.getLogger(__name__)

EVERY = 5.0  # minutes; the Hub advises against more frequent commits


class Keeper:
    """Commits what is new in a folder to a dataset of the host's own: every few minutes, and when the app ends.

    A Hub that refuses or does not answer costs no file: it stays in the folder and is sent later.

    Args:
        folder: what is kept; its files are put in place whole, and are only added or replaced.
        repo_id: "owner/name" of the dataset. It is made, private, if it is not there.
        token: that may write there; None for what this machine is logged in with.
        every: minutes between two commits.
    """

    def __init__(self, folder: Path, repo_id: str, *, token: Token = None, every: float = EVERY) -> None:
        self.folder, self.repo_id, self.token, self.every = folder, repo_id, token, every
        self._scheduler: Any = None
        self._asked = -float("inf")  # when the Hub was asked last whether it lets us
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Begins in a thread of its own, once; whoever wrote a file does not wait for the Hub."""
        if self._scheduler is None and time.monotonic() > self._asked + 60 * self.every:
            self._asked = time.monotonic()
            threading.Thread(target=self._begin, daemon=True, name="keeper").start()

    def push(self) -> None:
        """Commits what is new now, and waits until it is there.

        Raises:
            HubError: the Hub refuses it, or does not answer.
        """
        with sending(self.repo_id, self.token, "dataset"):
            self._started().trigger().result()

    def stop(self) -> None:
        """No more commits."""
        if self._scheduler is not None:
            self._scheduler.stop()

    def _begin(self) -> None:
        try:
            self._started()
        except HubError as error:
            logger.warning("What is in %s is not sent to %s for now: %s", self.folder, self.repo_id, error)

    def _started(self) -> Any:
        with self._lock:
            if self._scheduler is None:
                check_destination(self.repo_id, "dataset", self.token)
                with sending(self.repo_id, self.token, "dataset"):
                    self._scheduler = _scheduler(self)
            return self._scheduler


def _scheduler(keeper: Keeper) -> Any:
    """The client's scheduler, which sends files as they were when it looked.

    The client's own opens them while it sends: a file that was replaced meanwhile would arrive cut off.
    """
    from huggingface_hub import CommitOperationAdd, CommitScheduler

    class Whole(CommitScheduler):
        def push_to_hub(self) -> Any:
            found = [file for file in sorted(self.folder_path.rglob("[!.]*")) if file.is_file()]
            times = {file: file.stat().st_mtime_ns for file in found}
            new = {file: file.read_bytes() for file in found if self.last_uploaded.get(file) != times[file]}
            if not new:
                return None
            paths = {file: file.relative_to(self.folder_path).as_posix() for file in new}
            made = self.api.create_commit(
                self.repo_id,
                [CommitOperationAdd(paths[file], data) for file, data in new.items()],
                commit_message=f"{len(new)} new or changed",
                repo_type=self.repo_type,
            )
            self.last_uploaded.update({file: times[file] for file in new})
            return made

    token = keeper.token if isinstance(keeper.token, str) else None
    return Whole(
        repo_id=keeper.repo_id,
        folder_path=keeper.folder,
        every=keeper.every,
        repo_type="dataset",
        private=True,
        token=token,
    )
