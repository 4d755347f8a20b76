"""The host's disk, as the desk uses it: room for what visitors' questions need, by plan or by dataset."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from xaihub.downloads import cache_folder
from xaihub.errors import XaihubError
from xaihub.ui.settings import Settings

if TYPE_CHECKING:
    from xaihub.hub import Disk, Repo, RepoType
    from xaihub.loading import Plan

__all__ = ["HostDisk"]


class HostDisk:
    """Files fetched for visitors, within the host's limits; those of what the host itself configured never go."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def disk(self) -> "Disk":
        from xaihub import hub

        own = [hub.repo_folder(kind, name) for kind, name in sorted(self.settings.own)]
        limits = self.settings.disk_megabytes * 10**6, self.settings.reserve_megabytes * 10**6
        return hub.Disk(cache_folder() / "last-used", *limits, pinned=own)

    @contextmanager
    def looking(self, repo_type: "RepoType", name: str) -> Iterator[None]:
        """While open, a repository is looked at: what is then fetched of one that was not here may go again."""
        from xaihub import hub

        try:
            path = hub.repo_folder(repo_type, hub.clean_repo_id(name))
        except XaihubError:  # not of the Hub: it is refused in words where it is looked at
            yield
            return
        with self.disk.fetching(path):
            yield

    @contextmanager
    def room(self, plan: "Plan") -> Iterator[None]:
        """While open, there is room for the planned files, and they stay.

        Raises:
            DownloadError: there is none.
        """
        from xaihub import hub

        path, needed = _place(plan), plan.download
        if path is None:
            yield
            return
        if plan.repo is not None:
            needed = hub.missing_bytes(plan.repo, plan.files)
        elif path.is_file():
            needed = 0
        with self.disk.fetching(path), self.disk.using(path, plan.repo_id, needed):
            yield

    def room_for(self, repo: "Repo") -> AbstractContextManager[None]:
        """The same of all files of a repository."""
        from xaihub import hub

        path = hub.repo_folder(repo.repo_type, repo.repo_id)
        return self.disk.using(path, repo.repo_id, hub.missing_bytes(repo, list(repo.files)))

    def touch(self, plan: "Plan") -> None:
        """Return what was planned is used now, from memory."""
        path = _place(plan)
        if path is not None:
            with self.disk.using(path, plan.repo_id):
                pass


def _place(plan: "Plan") -> Path | None:
    """Where the planned files are kept; None of those that come with the package."""
    from xaihub import hub

    if plan.repo is not None:
        return hub.repo_folder(plan.repo.repo_type, plan.repo.repo_id)
    if plan.listing is not None:
        return plan.listing.folder(cache_folder())
    if plan.repo_id.startswith("torchvision/"):
        return cache_folder() / "torchvision" / plan.files[0].rsplit("/", 1)[-1]
    return None
