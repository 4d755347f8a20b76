"""A repository as it is known before any of its files is fetched."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xaihub.hub.refusals import RepoType

__all__ = ["Repo", "page"]


@dataclass(frozen=True)
class Repo:
    """Facts that the Hub states of a repository, before any of its files is fetched.

    Attributes:
        revision: the commit sha that the asked revision points to now.
        files: path -> size in bytes.
        library, task, licence: as its card and tags say, or None.
        asked: the branch, tag or commit that was asked for; None for the main branch.
        remembered: whether it is what was held when its files were fetched, since the Hub does not answer.
    """

    repo_id: str
    repo_type: RepoType
    revision: str
    files: Mapping[str, int]
    task: str | None = None
    library: str | None = None
    licence: str | None = None
    gated: bool = False
    private: bool = False
    tags: tuple[str, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)
    asked: str | None = None
    remembered: bool = False

    @property
    def url(self) -> str:
        return page(self.repo_id, self.repo_type)


def page(repo_id: str, repo_type: RepoType) -> str:
    """The address of a repository's page."""
    from huggingface_hub import constants

    prefix = {"model": "", "dataset": "datasets/", "space": "spaces/"}[repo_type]
    return f"{constants.ENDPOINT}/{prefix}{repo_id}"
