"""Contents of a repository's safetensors files, from their headers alone."""

from collections.abc import Sequence
from pathlib import Path

from xaihub.downloads import REPAIR
from xaihub.errors import DamagedFileError, DownloadError, HubUnreachableError
from xaihub.hub.checking import damaged_here
from xaihub.hub.looking import SECONDS_TO_ANSWER
from xaihub.hub.refusals import Token, explained
from xaihub.hub.repos import Repo
from xaihub.tensor_headers import Header, header_length, parsed_header, read_header
from xaihub.untrusted import damage

__all__ = ["tensor_headers"]

_FIRST = 100_000  # bytes: most headers are shorter, and one question is cheaper than two


def tensor_headers(repo: Repo, paths: Sequence[str], *, token: Token = None) -> list[Header]:
    """The header of each file, of the local copy where there is one, else fetched without the rest of the file.

    Raises:
        HubError: it cannot be had, or is no header of a file of that size.
    """
    return [_header(repo, path, token) for path in paths]


def _header(repo: Repo, path: str, token: Token) -> Header:
    from huggingface_hub import try_to_load_from_cache

    held = try_to_load_from_cache(repo.repo_id, path, revision=repo.revision, repo_type=repo.repo_type)
    if not isinstance(held, str):
        return _fetched(repo, path, token)
    try:
        return read_header(Path(held))
    except (OSError, ValueError) as error:  # damaged since it was fetched: `fetch` will mend it
        try:
            return _fetched(repo, path, token)
        except HubUnreachableError:
            raise damaged_here(path, repo.repo_id, str(error)) from error


def _fetched(repo: Repo, path: str, token: Token) -> Header:
    """The header as the Hub sends it."""
    size = repo.files[path]
    start = _read(repo, path, 0, min(size, _FIRST), token)
    try:
        length = header_length(start, size)
        rest = b"" if length + 8 <= len(start) else _read(repo, path, len(start), length + 8, token)
        text = (start + rest)[8 : length + 8]
        return parsed_header(text, size)
    except ValueError as error:
        if damage(start, size):
            raise DamagedFileError(f"{path} of {repo.repo_id} {error}. {REPAIR}") from error
        raise DownloadError(
            f"{path} of {repo.repo_id} did not arrive whole ({error}). Try again; if it stays so, tell its author."
        ) from error


def _read(repo: Repo, path: str, start: int, stop: int, token: Token) -> bytes:
    """The bytes from `start` up to `stop` of a file."""
    import huggingface_hub.utils as client
    from huggingface_hub import hf_hub_url

    if start >= stop:
        return b""
    with explained(repo.repo_id, repo.revision, token, repo.repo_type):
        address = hf_hub_url(repo.repo_id, path, revision=repo.revision, repo_type=repo.repo_type)
        headers = {**client.build_hf_headers(token=token), "range": f"bytes={start}-{stop - 1}"}
        answer = client.get_session().get(address, headers=headers, timeout=SECONDS_TO_ANSWER)
        client.hf_raise_for_status(answer)
        return bytes(answer.content[: stop - start])
