"""A folder becomes a repository of the Hub, in one commit that changes only what differs."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xaihub.errors import HubError, HubUnreachableError
from xaihub.hub.cardfiles import check_card
from xaihub.hub.destination import SDK, Present, found_at, present_at
from xaihub.hub.parcels import changed, left_over, planned
from xaihub.hub.refusals import RepoType, Token, sending
from xaihub.hub.repos import page
from xaihub.hub.spaces import SpaceSettings, configure
from xaihub.progress import Progress, part, silent

__all__ = ["publish"]

_BYTES_AT_ONCE, _FILES_AT_ONCE = 64 * 2**20, 100  # after so much, progress is reported


def publish(
    folder: Path,
    repo_id: str,
    *,
    repo_type: RepoType,
    token: Token = None,
    public: bool = False,
    message: str,
    owned: Sequence[str] = (),
    space: SpaceSettings | None = None,
    progress: Progress = silent,
) -> str:
    """The address of the repository that now holds the folder's files.

    One commit, of what differs alone; none if nothing does. Whatever ends it before that commit leaves what the
    repository showed as it was, and the next run goes on: large files that have arrived are not sent again.

    Args:
        folder: with README.md, its card.
        public: for everyone to see. A repository that is there already keeps its visibility, and is refused if it
            has another one than this.
        owned: patterns of files that the repository may hold from earlier runs, such as "data/*.parquet": those that
            the folder no longer has are deleted. Nothing else is.
        space: variables and secrets, of a Space alone.
        progress: told of every stage; a CancelledError from it ends the run.

    Raises:
        AccessDeniedError: this token may not publish there.
        HubError: a file or the card is refused, the repository is of another kind, or the Hub does not answer.
    """
    paths = [path for path, _ in planned(folder)]
    if "README.md" not in paths:
        raise HubError(f"{str(folder)!r} has no README.md. Without a card nobody knows what {repo_id} is; write one.")
    progress(0.0, f"Checking {repo_id}")
    there = found_at(repo_id, repo_type, token, public)
    check_card((folder / "README.md").read_text("utf-8", errors="replace"), repo_id, repo_type, token)
    shipment = _Shipment(folder, repo_id, repo_type, token, tuple(paths), tuple(owned))
    if there is None:
        there = shipment.create(private=not public)
    if space is not None:
        configure(repo_id, space, token)
    with _without_bars():
        shipment.bring(there, message, part(progress, 0.02, 0.98))
    progress(1.0, f"Published {repo_id}")
    return page(repo_id, repo_type)


@dataclass(frozen=True)
class _Shipment:
    """A folder on its way to a repository."""

    folder: Path
    repo_id: str
    repo_type: RepoType
    token: Token
    paths: tuple[str, ...]
    owned: tuple[str, ...]

    def create(self, *, private: bool) -> Present:
        sdk = SDK if self.repo_type == "space" else None
        with self._sending():
            self._api().create_repo(
                self.repo_id, repo_type=self.repo_type, private=private, space_sdk=sdk, exist_ok=True
            )
        made = present_at(self.repo_id, self.repo_type, self.token)
        if made is None:
            raise HubError(f"The Hub made {self.repo_id} and does not find it yet. Run the same again in a minute.")
        return made

    def bring(self, there: Present, message: str, progress: Progress) -> None:
        """Uploads what differs and commits it, on top of the commit that it was compared with."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        new, gone = self._differing(there)
        if not new and not gone:
            return
        additions = [CommitOperationAdd(path, self.folder / path) for path in new]
        self._upload(additions, progress)
        progress(0.95, f"Publishing: {len(new)} new or changed, {len(gone)} to delete")
        try:
            with self._sending():
                self._api().create_commit(
                    self.repo_id,
                    [*additions, *(CommitOperationDelete(path) for path in gone)],
                    commit_message=message,
                    repo_type=self.repo_type,
                    parent_commit=there.commit,
                )
        except HubUnreachableError as error:
            self._unless_it_arrived(error)

    def _differing(self, there: Present) -> tuple[list[str], list[str]]:
        """What has to be added, and what deleted."""
        return changed(self.folder, self.paths, there.files), left_over(self.paths, there.files, self.owned)

    def _upload(self, additions: Sequence[Any], progress: Progress) -> None:
        """Sends the content of large files; it shows nowhere until the commit names it."""
        sizes = [addition.upload_info.size for addition in additions]
        total, done, start = sum(sizes) or 1, 0, 0
        for end in _ends(sizes):
            progress(0.9 * done / total, f"Uploading {additions[start].path_in_repo} ({end} of {len(additions)} files)")
            with self._sending():
                self._api().preupload_lfs_files(
                    self.repo_id,
                    additions[start:end],
                    repo_type=self.repo_type,
                    gitignore_content="# nothing",  # else files that a .gitignore there names are left out in silence
                )
            done, start = done + sum(sizes[start:end]), end

    def _unless_it_arrived(self, error: HubUnreachableError) -> None:
        """Nothing if the commit was made and only the Hub's answer was lost; else the error."""
        try:
            there = present_at(self.repo_id, self.repo_type, self.token)
        except HubError:
            raise HubUnreachableError(
                f"The line to the Hub broke at the last step: it is not known whether {self.repo_id} was published,"
                " but it is as it was or complete. Run the same again: what has arrived is not sent twice."
            ) from error
        if there is None or any(self._differing(there)):
            raise error

    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(token=self.token)

    def _sending(self) -> Any:
        return sending(self.repo_id, self.token, self.repo_type)


def _ends(sizes: Sequence[int]) -> Iterator[int]:
    """Where to cut the list of files so that each part is some files or some megabytes."""
    held, count = 0, 0
    for index, size in enumerate(sizes):
        if count and (held + size > _BYTES_AT_ONCE or count == _FILES_AT_ONCE):
            yield index
            held, count = 0, 0
        held, count = held + size, count + 1
    if count:
        yield len(sizes)


@contextmanager
def _without_bars() -> Iterator[None]:
    """The client's own bars stay away from ours, and so does its doubt about tables in a model or a Space."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    hidden = are_progress_bars_disabled()
    if not hidden:
        disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
            yield
    finally:
        if not hidden:
            enable_progress_bars()
