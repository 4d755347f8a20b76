"""Files of a repository that was looked at, from the local cache or fresh."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from xaihub.downloads import refuse_pointer, small_json
from xaihub.errors import DamagedFileError, DownloadError, HubUnreachableError
from xaihub.hub.checking import damaged_here, fault_of
from xaihub.hub.refusals import Token, explained
from xaihub.hub.remembering import remember
from xaihub.hub.repos import Repo
from xaihub.progress import Progress, checkpoint, silent

__all__ = ["card_as_read", "fetch", "open_remote", "own_file", "read_json", "refuse_large_files"]

MAX_CARD = 8 * 2**20  # the longest cards name the files of thousands of configurations
_BLOCK = 2**20  # bytes of a ranged request


def read_json(repo: Repo, path: str, *, token: Token = None) -> dict[str, Any]:
    """A small JSON file of the repository, at the revision that was looked at; {} when it has none.

    Raises:
        HubError: it did not arrive, is too large, or holds something else than a JSON object.
    """
    return small_json(path, repo.files, repo.repo_id, lambda: fetch(repo, [path], token=token))


def fetch(repo: Repo, paths: Sequence[str], *, token: Token = None, progress: Progress = silent) -> Path:
    """The folder in the local cache that now holds these files, exactly as at the revision looked at.

    A file that was damaged in the cache (its size or its hash is another) is fetched again, once.

    Raises:
        HubError: a file did not arrive whole.
        DamagedFileError: it is still damaged, or was published as a pointer.
        CancelledError: from `progress`; what had arrived is kept, and the next call goes on from there.
    """
    total = max(1, sum(repo.files.get(path, 0) for path in paths))
    before, folder = 0, Path()
    for path in paths:
        file = _whole(repo, path, token, _bar(partial(_report, progress, path, before, total)))
        before += repo.files.get(path, 0)
        folder = file.parents[path.count("/")]
    remember(repo)
    return folder


def _whole(repo: Repo, path: str, token: Token, bar: type) -> Path:
    """One file, as it was published."""
    size = repo.files.get(path)
    file = _downloaded(repo, path, token, bar)
    if fault := fault_of(file, size):
        try:
            file = _downloaded(repo, path, token, bar, anew=True)
        except HubUnreachableError as error:
            raise damaged_here(path, repo.repo_id, fault) from error
        if fault := fault_of(file, size):
            raise DamagedFileError(
                f"{path} of {repo.repo_id} was fetched twice, and is damaged both times ({fault}). Something between"
                " here and the Hub changes files, or its disk fails; try again later or from another network."
            )
    refuse_pointer(file, f"{path} of {repo.repo_id}")
    return file


def _downloaded(repo: Repo, path: str, token: Token, bar: type, *, anew: bool = False) -> Path:
    from huggingface_hub import hf_hub_download

    with explained(repo.repo_id, repo.revision, token, repo.repo_type):
        return Path(
            hf_hub_download(
                repo.repo_id,
                path,
                revision=repo.revision,
                repo_type=repo.repo_type,
                token=token,
                tqdm_class=bar,
                force_download=anew,
            )
        )


def card_as_read(repo: Repo, *, token: Token = None) -> dict[str, Any]:
    """The metadata of a dataset's card as the client libraries read it from README.md; the Hub may read it otherwise.

    Raises:
        HubError: it did not arrive.
        ValueError: it is no card.
    """
    from huggingface_hub import DatasetCard

    if "README.md" not in repo.files:
        return {}
    refuse_large_files(repo, {"README.md": MAX_CARD})
    text = (fetch(repo, ["README.md"], token=token) / "README.md").read_text("utf-8", errors="replace")
    return DatasetCard(text).data.to_dict()


def refuse_large_files(repo: Repo, limits: Mapping[str, int]) -> None:
    """Raise if a file that would be fetched and parsed whole has more bytes than such files may; none is fetched.

    Args:
        limits: path -> bytes.

    Raises:
        DownloadError: one has.
    """
    for path, limit in limits.items():
        if repo.files.get(path, 0) > limit:
            raise DownloadError(
                f"{path[:120]!r} of {repo.repo_id} has {repo.files[path] / 2**20:,.0f} MB; at most"
                f" {limit / 2**20:,.0f} MB of such a file are read, so nothing was fetched. Use another repository, or"
                " ask its author to shorten the file."
            )


def open_remote(repo: Repo, path: str, *, token: Token = None) -> BinaryIO:
    """A file of the repository of which only the parts that are read are fetched, at the revision looked at.

    Raises:
        HubError: it is not there, or the Hub does not answer.
    """
    from huggingface_hub import HfFileSystem

    # an instance of its own: shared ones keep listings that were asked for with another visitor's token
    files = HfFileSystem(token=token, skip_instance_cache=True)
    with explained(repo.repo_id, repo.revision, token, repo.repo_type):
        place = f"{repo.repo_type}s/{repo.repo_id}@{repo.revision}/{path}"
        stream: BinaryIO = files.open(place, "rb", block_size=_BLOCK)
        return stream


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
