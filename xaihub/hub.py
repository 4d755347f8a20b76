"""The Hugging Face Hub: what a repository holds, and its files. The only importer of huggingface_hub."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from xaihub.errors import (
    AccessDeniedError,
    DownloadError,
    HubError,
    HubUnreachableError,
    RepoNotFoundError,
    XaihubError,
)
from xaihub.progress import Progress, silent

__all__ = [
    "Repo",
    "Token",
    "card_as_read",
    "clean_repo_id",
    "fetch",
    "look",
    "own_file",
    "parameter_count",
    "push_folder",
    "read_json",
    "search_models",
]

Token = str | bool | None  # a token; False for none at all; None for what this machine is logged in with
RepoType = Literal["model", "dataset", "space"]

_PART = r"\w(?:[\w.-]{0,94}\w)?"
_REPO_ID = re.compile(rf"{_PART}(?:/{_PART})?", re.ASCII)
_PAGE = re.compile(r"(https?://)?(www\.)?(huggingface\.co|hf\.co)/(datasets/|spaces/)?", re.IGNORECASE)
_LARGEST_JSON = 16 * 2**20
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
        from huggingface_hub import constants

        prefix = {"model": "", "dataset": "datasets/", "space": "spaces/"}[self.repo_type]
        return f"{constants.ENDPOINT}/{prefix}{self.repo_id}"


def clean_repo_id(text: str) -> str:
    """The repository id in what somebody typed or pasted, such as a page's address.

    Raises:
        RepoNotFoundError: it cannot be one: a path, another site's address, odd characters.
    """
    page = _PAGE.match(text.strip())
    repo_id = text.strip()[page.end() if page else 0 :]
    if page:
        repo_id = re.sub(r"([?#]|/(tree|blob|resolve|discussions|commits?)(/|$)).*$", "", repo_id).strip("/")
    if not _REPO_ID.fullmatch(repo_id) or "--" in repo_id or ".." in repo_id:
        raise RepoNotFoundError(
            f"{text[:120]!r} is not the id of a repository. An id looks like 'microsoft/resnet-18': an owner, a"
            " slash, a name."
        )
    return repo_id


def look(repo_id: str, *, revision: str | None = None, token: Token = None, repo_type: RepoType = "model") -> Repo:
    """What the repository holds at a revision, with sizes; nothing is downloaded.

    Raises:
        HubError: it does not exist, is not open to this token, or the Hub does not answer.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with _explained(repo_id, revision, token, repo_type):
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


def read_json(repo: Repo, path: str, *, token: Token = None) -> dict[str, Any]:
    """A small JSON file of the repository, at the revision that was looked at; {} when it has none.

    Raises:
        HubError: it did not arrive, is too large, or holds something else than a JSON object.
    """
    if path not in repo.files:
        return {}
    if repo.files[path] > _LARGEST_JSON:
        raise DownloadError(
            f"{path} of {repo.repo_id} has {repo.files[path] / 2**20:.0f} MB; that is no configuration."
        )
    text = (fetch(repo, [path], token=token) / path).read_text("utf-8", errors="replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DownloadError(f"{path} of {repo.repo_id} is not valid JSON ({error}). Tell its author.") from error
    if not isinstance(value, dict):
        raise DownloadError(f"{path} of {repo.repo_id} holds a {type(value).__name__}, not a configuration.")
    return value


def fetch(repo: Repo, paths: Sequence[str], *, token: Token = None, progress: Progress = silent) -> Path:
    """The folder in the local cache that now holds these files, exactly as at the revision looked at.

    Raises:
        HubError: a file did not arrive whole.
        CancelledError: from `progress`; what had arrived is kept, and the next call goes on from there.
    """
    from huggingface_hub import hf_hub_download

    total = max(1, sum(repo.files.get(path, 0) for path in paths))
    before, folder = 0, Path()
    for path in paths:
        bar = _bar(partial(_report, progress, path, before, total))
        with _explained(repo.repo_id, repo.revision, token, repo.repo_type):
            file = hf_hub_download(
                repo.repo_id, path, revision=repo.revision, repo_type=repo.repo_type, token=token, tqdm_class=bar
            )
        before += repo.files.get(path, 0)
        size = Path(file).stat().st_size
        if path in repo.files and size != repo.files[path]:
            raise DownloadError(f"{path} of {repo.repo_id} arrived with {size} of {repo.files[path]} bytes. Try again.")
        folder = Path(file).parents[path.count("/")]
    return folder


def card_as_read(repo: Repo, *, token: Token = None) -> dict[str, Any]:
    """The metadata of a dataset's card as the client libraries read it from README.md; the Hub may read it otherwise.

    Raises:
        HubError: it did not arrive.
        ValueError: it is no card.
    """
    from huggingface_hub import DatasetCard

    if "README.md" not in repo.files:
        return {}
    text = (fetch(repo, ["README.md"], token=token) / "README.md").read_text("utf-8", errors="replace")
    return DatasetCard(text).data.to_dict()


def own_file(repo: Repo, path: str, *, token: Token = None) -> Path | None:
    """The local copy of one of the repository's own files, given as the datasets library names it, or None.

    A row of a hostile dataset can name any file of this machine; only the repository's own are given.
    """
    from huggingface_hub import constants

    remote = f"hf://{repo.repo_type}s/{repo.repo_id}@{repo.revision}/"
    if path.startswith(remote):
        inside = path.removeprefix(remote)
        return fetch(repo, [inside], token=token) / inside if inside in repo.files else None
    cached = Path(constants.HF_HUB_CACHE) / f"{repo.repo_type}s--{repo.repo_id.replace('/', '--')}"
    extracted = Path(constants.HF_HOME) / "datasets" / "downloads"
    try:
        file = Path(path).resolve()
    except (OSError, ValueError):  # a zero byte, or links in a circle
        return None
    inside_own = any(file.is_relative_to(root.resolve()) for root in (cached, extracted))
    return file if inside_own and file.is_file() else None


def _report(progress: Progress, path: str, before: int, total: int, done: int) -> None:
    progress(min(1.0, (before + done) / total), f"Downloading {path}")


def parameter_count(repo: Repo, paths: Sequence[str], *, token: Token = None) -> int:
    """How many parameters these safetensors files hold, read from their headers alone."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with _explained(repo.repo_id, repo.revision, token, repo.repo_type):
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


def push_folder(
    folder: Path, repo_id: str, *, repo_type: RepoType, token: Token = None, private: bool = True, message: str
) -> str:
    """The address of the repository that now holds the folder's files, in one commit.

    Raises:
        HubError: no right to write there, or the Hub does not answer.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with _explained(repo_id, None, token, repo_type):
        url = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, repo_type=repo_type, commit_message=message)
    return str(url)


def _bar(report: Callable[[int], None]) -> type:
    """What the client believes to be a progress bar: it hands on how many bytes have come."""

    class Bar:
        def __init__(self, *_args: Any, initial: int = 0, total: int | None = None, **_kwargs: Any) -> None:
            self.n, self.total = initial or 0, total

        def update(self, step: float | None = 1) -> None:
            self.n += int(step or 0)
            report(self.n)

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_exc: object) -> None:
            return None

        def __getattr__(self, _name: str) -> Callable[..., None]:
            return lambda *_args, **_kwargs: None  # close, refresh and whatever else a bar can do

    return Bar


@contextmanager
def _explained(repo_id: str, revision: str | None, token: Token, repo_type: str) -> Iterator[None]:
    """Turns the client's exceptions into sentences about this repository."""
    import huggingface_hub.errors as theirs

    if isinstance(token, str) and not re.fullmatch(r"[!-~]+", token):  # such a header cannot be sent
        raise _bad_token()
    try:
        yield
    except XaihubError:
        raise
    except theirs.GatedRepoError as error:
        raise AccessDeniedError(
            f"{repo_id} is gated: its authors ask people to accept their terms. Open its page on the Hub, accept them,"
            f" and sign in here{' with the account that did' if token else ''}."
        ) from error
    except theirs.RevisionNotFoundError as error:
        raise RepoNotFoundError(
            f"{repo_id} has no revision {revision!r}. Leave the revision out, or give a commit."
        ) from error
    except theirs.RepositoryNotFoundError as error:
        if _status(error) == 401 and "credentials" in str(error).lower():
            raise _bad_token() from error
        raise RepoNotFoundError(
            f"There is no {repo_type} {repo_id!r} on the Hub, or it is private and not open to"
            f" {'your token' if token else 'visitors without a token'}."
        ) from error
    except theirs.RemoteEntryNotFoundError as error:
        raise DownloadError(f"A file of {repo_id} is gone from the Hub. Try again.") from error
    except theirs.HfHubHTTPError as error:
        raise _http_error(repo_id, error) from error
    except (theirs.LocalEntryNotFoundError, theirs.HTTPError, ConnectionError, TimeoutError) as error:
        raise _unreachable(repo_id) from error
    except theirs.HFValidationError as error:
        raise RepoNotFoundError(
            f"{repo_id!r} is not the id of a repository. An id looks like 'microsoft/resnet-18'."
        ) from error
    except (OSError, theirs.SafetensorsParsingError) as error:
        raise DownloadError(f"A file of {repo_id} did not arrive whole ({_first_line(error)}). Try again.") from error


def _http_error(repo_id: str, error: Exception) -> HubError:
    status = _status(error)
    if status == 401:
        return _bad_token()
    if status == 403:
        return AccessDeniedError(f"The Hub does not let this token do that with {repo_id}: {_first_line(error)}")
    if status == 429:
        return HubUnreachableError("The Hub is answering too many requests from here. Wait a minute and try again.")
    return HubUnreachableError(
        f"The Hub failed while answering for {repo_id} (status {status}). Try again in a minute."
    )


def _bad_token() -> AccessDeniedError:
    return AccessDeniedError("The Hub does not know this token. Sign in again, or use the app without a token.")


def _unreachable(repo_id: str) -> HubUnreachableError:
    return HubUnreachableError(
        f"The Hugging Face Hub does not answer, so {repo_id} cannot be loaded now. Check the network and try again;"
        " the built-in starter works without it."
    )


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
