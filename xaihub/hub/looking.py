"""What a repository of the Hub holds, and which there are; nothing is downloaded."""

import re
from typing import Any

from xaihub.errors import HubUnreachableError, RepoNotFoundError
from xaihub.hub.refusals import RepoType, Token, explained
from xaihub.hub.remembering import remembered
from xaihub.hub.repos import Repo

__all__ = ["SECONDS_TO_ANSWER", "clean_repo_id", "is_repo_id", "look", "search_models"]

_PART = r"\w(?:[\w.-]{0,94}\w)?"
_REPO_ID = re.compile(rf"{_PART}(?:/{_PART})?", re.ASCII)
_PAGE = re.compile(r"(https?://)?(www\.)?(huggingface\.co|hf\.co)/(datasets/|spaces/)?", re.IGNORECASE)
SECONDS_TO_ANSWER = 10.0


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
        folder = " If a folder was meant: there is none of this path, and no page opens one."
        raise RepoNotFoundError(
            f"{text[:120]!r} is not the id of a repository. An id looks like 'microsoft/resnet-18': an owner, a"
            f" slash, a name.{folder * bool(a_path and not page)}"
        )
    return repo_id


def is_repo_id(text: str) -> bool:
    """Whether a repository of the Hub could have this id."""
    return bool(_REPO_ID.fullmatch(text)) and "--" not in text and ".." not in text


def look(
    repo_id: str,
    *,
    revision: str | None = None,
    token: Token = None,
    repo_type: RepoType = "model",
    local: bool = False,
) -> Repo:
    """What the repository holds at a revision, with sizes; nothing is downloaded.

    While the Hub does not answer, it is what was held when its files were fetched to this machine.

    Args:
        local: whether somebody at this machine asks, who may read its cache. A visitor with a token, or with none
            (False), gets from there only what was open to everybody, since nobody can be asked what they may read.

    Raises:
        HubError: it does not exist, is not open to this token, or the Hub does not answer.
    """
    try:
        return _looked(repo_id, revision, token, repo_type)
    except HubUnreachableError:
        held = remembered(repo_id, revision, repo_type)
        if held is None or not (local or token is None or not (held.private or held.gated)):
            raise
        return held


def _looked(repo_id: str, revision: str | None, token: Token, repo_type: RepoType) -> Repo:
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with explained(repo_id, revision, token, repo_type):
        info: Any = api.repo_info(
            repo_id, repo_type=repo_type, revision=revision, files_metadata=True, timeout=SECONDS_TO_ANSWER
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
        revision,
    )


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
        answer = client.get_session().get(address, params=asked, headers=headers, timeout=SECONDS_TO_ANSWER / 2)
        return [str(model["id"]) for model in answer.raise_for_status().json()]
    except (errors.HTTPError, OSError, ValueError, KeyError, TypeError):
        return []
