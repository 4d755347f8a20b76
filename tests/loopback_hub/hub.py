"""LoopbackHub: the server as a Python object, and the rules of who may do what."""

import logging
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from . import files, repos, spaces  # noqa: F401, importing them registers their routes
from .server import Answer, Fault, HubError, Request, Seen, Server, dispatch
from .store import File, Repo, new_repo

logger = logging.getLogger(__name__)


Role = Literal["read", "write", "fineGrained"]


class Account(NamedTuple):
    """Who a token belongs to, and what it may do; a fine-grained one may write here, though on the Hub not each may."""

    name: str
    role: Role


class LoopbackHub:
    """A Hub on 127.0.0.1, from `start()` (or entering `with`) to `stop()` (or leaving it).

    The clients read `HF_ENDPOINT` when they are first imported, so set it to `endpoint` before that.

    Attributes:
        endpoint: "http://127.0.0.1:PORT", once started.
        requests: every request so far, as `Seen`; `requests.clear()` forgets them.
        faults: what is still to go wrong, see `fault()`.
        page_size: the most items in one page of any listing.
    """

    def __init__(self, port: int = 0) -> None:
        self.lock = threading.RLock()
        self.requests: list[Seen] = []
        self.faults: list[Fault] = []
        self.endpoint = ""
        self._port = port
        self._running = ExitStack()
        self.reset()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> Self:
        server = Server(self, self._port)
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        self._running.enter_context(server.running())
        return self

    def stop(self) -> None:
        self._running.close()

    # What there is

    def reset(self) -> None:
        """Forgets everything: accounts, repositories, requests and faults."""
        self.restore({"accounts": {}, "organisations": {}, "repos": {}})

    def snapshot(self) -> dict[str, Any]:
        """The accounts and repositories as they are now, for `restore()`."""
        with self.lock:
            return {
                "accounts": dict(self.accounts),
                "organisations": dict(self.organisations),
                "repos": {key: repo.copy() for key, repo in self.repos.items()},
            }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """The accounts and repositories of a snapshot, and no requests or faults."""
        with self.lock:
            self.accounts: dict[str, Account] = dict(snapshot["accounts"])
            self.organisations: dict[str, tuple[str, ...]] = dict(snapshot["organisations"])
            self.repos: dict[tuple[str, str], Repo] = {key: repo.copy() for key, repo in snapshot["repos"].items()}
            self.tickets: dict[str, tuple[Repo, str]] = {}
            self.page_size = 1000
            self.requests.clear()
            self.faults.clear()

    def add_user(self, name: str, *, token: str, role: Role = "write") -> None:
        """A user, or one more token of a user."""
        self.accounts[token] = Account(name, role)

    def add_organisation(self, name: str, *, members: Iterable[str]) -> None:
        """A namespace whose members may all read and write."""
        self.organisations[name] = tuple(members)

    def add_folder(self, repo_id: str, folder: str | Path, **settings: Any) -> str:
        """The sha of a new commit of every file in a folder; settings as for `add_files`."""
        root = Path(folder)
        paths = [path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file()]
        kept = [path for path in paths if not {".git", ".cache"} & set(path.parts)]
        return self.add_files(repo_id, {path.as_posix(): (root / path).read_bytes() for path in kept}, **settings)

    def add_files(
        self,
        repo_id: str,
        contents: Mapping[str, bytes | str],
        *,
        repo_type: str = "model",
        private: bool = False,
        gated: str | bool = False,
        sdk: str | None = None,
        pipeline_tag: str | None = None,
        library_name: str | None = None,
        tags: Iterable[str] = (),
    ) -> str:
        """The sha of a commit of these files on top of main, made without HTTP; no new commit if all is there.

        Args:
            repo_id: "user/name"; made if there is no such repository.
            contents: path in the repository to content.
            repo_type: "model", "dataset" or "space".
            private: hidden from all but its owners.
            gated: "auto", "manual" or True (manual): shown to all, given to those that `allow()` names.
            sdk: of a Space, over what the card says.
            pipeline_tag: the task, over what the card says.
            library_name: the library, over what the card says.
            tags: before those of the card.
        """
        with self.lock:
            if (repo_type, repo_id) not in self.repos:
                self.repos[repo_type, repo_id] = new_repo(repo_type, repo_id)
            repo = self.repo(repo_id, repo_type)
            repo.private, repo.gated = private, "manual" if gated is True else gated
            repo.pipeline_tag, repo.library_name, repo.tags = pipeline_tag, library_name, tuple(tags)
            repo.sdk = sdk or repo.sdk
            new = {path: repo.file(path, _encoded(content)) for path, content in contents.items()}
            if all(repo.head.files.get(path) == file for path, file in new.items()):
                return repo.head.sha
            merged: dict[str, File] = {**repo.head.files, **new}
            return repo.commit(merged, author=repo.author, title="Add files", branch="main").sha

    def allow(self, repo_id: str, user: str, *, repo_type: str = "model") -> None:
        """Lets a user have the files of a gated repository."""
        self.repo(repo_id, repo_type).allowed.add(user)

    def repo(self, repo_id: str, repo_type: str = "model") -> Repo:
        """The stored repository itself, to look into or to set its likes and downloads."""
        return self.repos[repo_type, repo_id]

    # What goes wrong

    def fault(self, **wanted: Any) -> Fault:
        """Makes the next requests that fit go wrong; the fields are those of `Fault`."""
        fault = Fault(**wanted)
        self.faults.append(fault)
        return fault

    def take_fault(self, request: Request) -> Fault | None:
        """The fault whose turn it is, counted down."""
        with self.lock:
            fault = next((fault for fault in self.faults if fault.fits(request)), None)
            if fault is not None and fault.spare > 0:
                fault.spare -= 1
                return None
            if fault is not None:
                fault.times -= 1
            return fault

    # Who may do what

    def answer(self, request: Request) -> Answer:
        """The answer to one request; one at a time, so that no endpoint has to think of threads."""
        with self.lock:
            try:
                request.account = self._account(request)
                return dispatch(self, request)
            except HubError as error:
                return error.answer()
            except Exception as error:
                logger.exception("%s %s", request.method, request.target)
                return HubError(500, repr(error).replace("\n", " ")).answer()

    def signed_in(self, request: Request) -> Account:
        if request.account is None:
            raise HubError(401, "Invalid username or password.")
        return request.account

    def may_read(self, account: Account | None, repo: Repo) -> bool:
        return not repo.private or self._owns(account, repo.author)

    def readable(self, request: Request, kind: str, name: str) -> Repo:
        """The repository, if its description and its list of files may be seen."""
        repo = self.repos.get((kind[:-1], name))
        if repo is None or not self.may_read(request.account, repo):
            raise HubError(401 if request.account is None else 404, "Repository not found", "RepoNotFound")
        return repo

    def downloadable(self, request: Request, kind: str, name: str) -> Repo:
        """The repository, if its files may be fetched as well."""
        repo = self.readable(request, kind, name)
        account = request.account
        if not repo.gated or self._owns(account, repo.author) or (account is not None and account.name in repo.allowed):
            return repo
        start = f"Access to {repo.kind} {name} is restricted"
        if account is None:
            raise HubError(401, f"{start}. You must have access to it and be authenticated to access it.", "GatedRepo")
        url = f"{self.endpoint}/{repo.url_path}"
        raise HubError(403, f"{start} and you are not in the authorized list. Visit {url} to ask for it.", "GatedRepo")

    def writable(self, request: Request, kind: str, name: str) -> Repo:
        """The repository, if it may be changed."""
        repo = self.readable(request, kind, name)
        self.check_write(self.signed_in(request), repo.author, "You don't have the rights to write to this repository")
        return repo

    def check_write(self, account: Account, namespace: str, refusal: str) -> None:
        if not self._owns(account, namespace):
            raise HubError(403, refusal)
        if account.role == "read":
            raise HubError(403, "You must use a write token to upload to a repository")

    def _account(self, request: Request) -> Account | None:
        if request.token is None:
            return None
        if request.token not in self.accounts:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.accounts[request.token]

    def _owns(self, account: Account | None, namespace: str) -> bool:
        return account is not None and (
            account.name == namespace or account.name in self.organisations.get(namespace, ())
        )


def _encoded(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content
