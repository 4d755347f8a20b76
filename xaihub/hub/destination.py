"""Where something is to be published: whether this token may, and what is there already."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xaihub.errors import AccessDeniedError, HubError, RepoNotFoundError
from xaihub.hub.looking import clean_repo_id
from xaihub.hub.refusals import RepoType, Token, sending
from xaihub.hub.repos import page

__all__ = ["SDK", "Present", "Stored", "check_destination", "found_at", "may_write", "present_at"]

SDK = "gradio"
_SECONDS_TO_ANSWER = 30.0


@dataclass(frozen=True)
class Stored:
    """A file as the Hub has it: its size, and the hash by which the Hub knows it.

    Attributes:
        digest: sha256 of the content if `large`, else git's name of it.
        large: whether it lies in the storage of large files, and not in git.
    """

    size: int
    digest: str
    large: bool


@dataclass(frozen=True)
class Present:
    """A repository that is there already: its last commit and its files."""

    commit: str
    private: bool
    sdk: str | None
    files: Mapping[str, Stored]


def check_destination(repo_id: str, repo_type: RepoType, token: Token = None, *, public: bool | None = None) -> None:
    """Nothing, if this token may publish there; asked before any long work.

    Args:
        repo_id: "owner/name".
        public: whether it is to be for everyone to see; None leaves that question for `publish`.

    Raises:
        AccessDeniedError: no token, an unknown one, one that only reads, or somebody else's namespace.
        HubError: what is there is of another type, or open to others than was asked for.
    """
    found_at(repo_id, repo_type, token, public)


def found_at(repo_id: str, repo_type: RepoType, token: Token, public: bool | None) -> Present | None:
    """What is there already, or None; raises as `check_destination`."""
    if "/" not in clean_repo_id(repo_id):
        raise RepoNotFoundError(f"{repo_id!r} says no owner. Give OWNER/NAME, such as 'alice/{repo_id}'.")
    _check_account(repo_id, repo_type, token)
    present = present_at(repo_id, repo_type, token)
    if present is None:
        _refuse_name_of_another_type(repo_id, repo_type, token)
        return None
    if repo_type == "space" and present.sdk != SDK:
        raise HubError(
            f"The Space {repo_id} is made with {present.sdk or 'another SDK'}, and this one needs {SDK}. Give another"
            " name, or delete that Space first."
        )
    if public is not None:
        _refuse_other_visibility(repo_id, repo_type, is_public=not present.private, public=public)
    return present


def _check_account(repo_id: str, repo_type: RepoType, token: Token) -> None:
    from huggingface_hub import HfApi, get_token

    if token is False or not (token if isinstance(token, str) else get_token()):
        raise AccessDeniedError(
            f"Publishing to {repo_id} needs a token that may write. Set HF_TOKEN or run `hf auth login`, or give a"
            " folder instead."
        )
    account = _account(HfApi(token=token), repo_id, repo_type, token)
    if _role(account) == "read":
        raise AccessDeniedError(
            f"The token of {account['name']} may only read, so {repo_id} cannot be published with it. Make one that"
            " may write (huggingface.co/settings/tokens) and set it as HF_TOKEN, or give a folder instead."
        )
    open_ones = [account["name"], *(org["name"] for org in account.get("orgs") or () if _may_write(org))]
    owner, _, name = repo_id.partition("/")
    if owner not in open_ones:
        would_work = ", ".join(f"{other}/{name}" for other in open_ones[:8])
        raise AccessDeniedError(
            f"{account['name']} may not publish under {owner!r}: it is neither that account nor an organisation it"
            f" writes for. What would work: {would_work}."
        )


def _account(api: Any, repo_id: str, repo_type: RepoType, token: Token) -> dict[str, Any]:
    import huggingface_hub.errors as theirs

    with sending(repo_id, token, repo_type):
        try:
            return api.whoami()
        except theirs.HfHubHTTPError as error:
            if error.response.status_code != 401:
                raise
            raise AccessDeniedError(
                "The Hub does not know this token. Set HF_TOKEN to a valid one or run `hf auth login`, or give a"
                " folder instead."
            ) from None


def _role(account: Mapping[str, Any]) -> str | None:
    return ((account.get("auth") or {}).get("accessToken") or {}).get("role")


def may_write(token: str) -> bool:
    """Whether this token is known to the Hub as one that may write everywhere its owner may.

    Raises:
        HubError: the Hub does not know it, or does not answer.
    """
    from huggingface_hub import HfApi

    return _role(_account(HfApi(token=token), "anything", "model", token)) == "write"


def _may_write(organisation: Mapping[str, Any]) -> bool:
    return organisation.get("roleInOrg") not in ("read", "no_access")


def present_at(repo_id: str, repo_type: RepoType, token: Token) -> Present | None:
    """What is there now, asked without looking at whose token it is.

    Raises:
        HubError: the Hub does not answer.
    """
    from huggingface_hub import HfApi

    try:
        with sending(repo_id, token, repo_type):
            info: Any = HfApi(token=token).repo_info(
                repo_id, repo_type=repo_type, files_metadata=True, timeout=_SECONDS_TO_ANSWER
            )
    except RepoNotFoundError:
        return None
    files = {file.rfilename: _stored(file) for file in info.siblings or ()}
    return Present(info.sha, bool(info.private), getattr(info, "sdk", None), files)


def _refuse_name_of_another_type(repo_id: str, repo_type: RepoType, token: Token) -> None:
    others: tuple[RepoType, ...] = ("model", "dataset", "space")
    for other in others:
        if other != repo_type and present_at(repo_id, other, token) is not None:
            raise HubError(
                f"{repo_id} is the name of a {other} already, and this is a {repo_type}: the two would be mistaken"
                f" for each other. Give another name, such as {repo_id}-{repo_type}."
            )


def _refuse_other_visibility(repo_id: str, repo_type: RepoType, *, is_public: bool, public: bool) -> None:
    """Publishing never changes who may see a repository, and never shows to everyone what was not meant for them."""
    if is_public and not public:
        raise HubError(
            f"The {repo_type} {repo_id} is public, so this would be for everyone to see. Say --public if that is"
            " meant, or give another name."
        )
    if public and not is_public:
        raise HubError(
            f"The {repo_type} {repo_id} is private, and publishing does not change who may see it. Leave --public"
            f" out, or make it public first: {page(repo_id, repo_type)}/settings."
        )


def _stored(file: Any) -> Stored:
    large = file.lfs is not None
    return Stored(int(file.size or 0), file.lfs.sha256 if large else file.blob_id or "", large)
