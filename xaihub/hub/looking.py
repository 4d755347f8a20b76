"""What a repository of the Hub holds, and which there are; nothing is downloaded."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xaihub.errors import RepoNotFoundError
from xaihub.hub.refusals import RepoType, Token, explained

__all__ = ["Repo", "clean_repo_id", "is_repo_id", "look", "page", "parameter_count", "search_models"]

_PART = r"\w(?:[\w.-]{0,94}\w)?"
_REPO_ID = re.compile(rf"{_PART}(?:/{_PART})?", re.ASCII)
_PAGE = re.compile(r"(https?://)?(www\.)?(huggingface\.co|hf\.co)/(datasets/|spaces/)?", re.IGNORECASE)
_SECONDS_TO_ANSWER = 10.0


@dataclass(frozen=True)
class Repo:
    """What the Hub says of a repository, before any of its files is fetched.

    Attributes:
        revision: the commit sha that the asked revision points to now.
        files: path -> size in bytes.
        library, task, licence: as its card and tags say, or None.
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

    @property
    def url(self) -> str:
        return page(self.repo_id, self.repo_type)


def page(repo_id: str, repo_type: RepoType) -> str:
    """The address of a repository's page."""
    from huggingface_hub import constants

    prefix = {"model": "", "dataset": "datasets/", "space": "spaces/"}[repo_type]
    return f"{constants.ENDPOINT}/{prefix}{repo_id}"


def clean_repo_id(text: str) -> str:
    """The repository id in what somebody typed or pasted, such as a page's address.

    Raises:
        RepoNotFoundError: it cannot be one: a path, another site's address, odd characters.
    """
    page = _PAGE.match(text.strip())
    repo_id = text.strip()[page.end() if page else 0 :]
    if page:
        repo_id = re.sub(r"([?#]|/(tree|blob|resolve|discussions|commits?)(/|$)).*$", "", repo_id).strip("/")
    if not is_repo_id(repo_id):
        a_path = re.match(r"[/~.\\]", text.strip()) or text.strip("/").count("/") > 1
        folder = " If a folder was meant: there is none, or none may be opened from here."
        raise RepoNotFoundError(
            f"{text[:120]!r} is not the id of a repository. An id looks like 'microsoft/resnet-18': an owner, a"
            f" slash, a name.{folder * bool(a_path and not page)}"
        )
    return repo_id


def is_repo_id(text: str) -> bool:
    """Whether a repository of the Hub could have this id."""
    return bool(_REPO_ID.fullmatch(text)) and "--" not in text and ".." not in text


def look(repo_id: str, *, revision: str | None = None, token: Token = None, repo_type: RepoType = "model") -> Repo:
    """What the repository holds at a revision, with sizes; nothing is downloaded.

    Raises:
        HubError: it does not exist, is not open to this token, or the Hub does not answer.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with explained(repo_id, revision, token, repo_type):
        info: Any = api.repo_info(
            repo_id, repo_type=repo_type, revision=revision, files_metadata=True, timeout=_SECONDS_TO_ANSWER
        )
        if info.gated:  # what it holds is shown to all; its files, which may be in the cache, are not
            api.auth_check(repo_id, repo_type=repo_type)
    card = info.card_data.to_dict() if getattr(info, "card_data", None) else {}
    tags = tuple(info.tags or ())
    licence = card.get("license") or next((tag.split(":", 1)[1] for tag in tags if tag.startswith("license:")), None)
    return Repo(
        repo_id,
        repo_type,
        info.sha,
        {file.rfilename: int(file.size or 0) for file in info.siblings or ()},
        getattr(info, "pipeline_tag", None),
        getattr(info, "library_name", None),
        str(licence) if licence else None,
        bool(info.gated),
        bool(info.private),
        tags,
        card,
    )


def parameter_count(repo: Repo, paths: Sequence[str], *, token: Token = None) -> int:
    """How many parameters these safetensors files hold, read from their headers alone."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with explained(repo.repo_id, repo.revision, token, repo.repo_type):
        headers = [
            api.parse_safetensors_file_metadata(
                repo.repo_id, path, revision=repo.revision, repo_type=repo.repo_type, token=token
            )
            for path in paths
        ]
    return sum(sum(header.parameter_count.values()) for header in headers)


def search_models(text: str, *, limit: int = 12, token: Token = False) -> list[str]:
    """Ids of the Hub's most downloaded image classifiers that match; empty when the Hub does not answer soon."""
    import huggingface_hub.utils as client
    from huggingface_hub import constants, errors

    asked: dict[str, str | int] = {
        "pipeline_tag": "image-classification",
        "search": text.strip(),
        "sort": "downloads",
        "limit": limit,
    }
    try:  # once: the client's own listing goes on trying for half a minute
        address, headers = f"{constants.ENDPOINT}/api/models", client.build_hf_headers(token=token)
        answer = client.get_session().get(address, params=asked, headers=headers, timeout=_SECONDS_TO_ANSWER / 2)
        return [str(model["id"]) for model in answer.raise_for_status().json()]
    except (errors.HTTPError, OSError, ValueError, KeyError, TypeError):
        return []
