"""Files of a repository that was looked at, from the local cache or fresh."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from xaihub.downloads import json_object
from xaihub.errors import DownloadError
from xaihub.hub.looking import Repo
from xaihub.hub.refusals import Token, explained
from xaihub.progress import Progress, checkpoint, silent

__all__ = ["card_as_read", "fetch", "own_file", "read_json"]


def read_json(repo: Repo, path: str, *, token: Token = None) -> dict[str, Any]:
    """A small JSON file of the repository, at the revision that was looked at; {} when it has none.

    Raises:
        HubError: it did not arrive, is too large, or holds something else than a JSON object.
    """
    return json_object(path, repo.files, repo.repo_id, lambda: fetch(repo, [path], token=token))


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
        with explained(repo.repo_id, repo.revision, token, repo.repo_type):
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


def _bar(report: Callable[[int], None]) -> type:
    """What the client believes to be a progress bar: it hands on how many bytes have come."""

    class Bar:
        def __init__(self, *_args: Any, initial: int = 0, total: int | None = None, **_kwargs: Any) -> None:
            self.n, self.total = initial or 0, total

        def update(self, step: float | None = 1) -> None:
            self.n += int(step or 0)
            checkpoint()
            report(self.n)

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_exc: object) -> None:
            return None

        def __getattr__(self, _name: str) -> Callable[..., None]:
            return lambda *_args, **_kwargs: None  # close, refresh and whatever else a bar can do

    return Bar
