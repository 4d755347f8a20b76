"""Records of what a repository held when its files were fetched, for when the Hub does not answer.

A note lies in the repository's own folder of the client's cache, and goes with it. It says who could read the files
then: without the Hub nobody can be asked, so a visitor gets only what was open to everybody.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from hashlib import sha256
from pathlib import Path

from xaihub.folders import replacing_file
from xaihub.hub.refusals import RepoType
from xaihub.hub.repos import Repo

__all__ = ["remember", "remembered"]

_MOST_FILES = 5_000  # of a note: datasets of single pictures have hundreds of thousands
_COMMIT = re.compile(r"[0-9a-f]{40}")


def remember(repo: Repo) -> None:
    """Writes the note of a repository whose files have just been fetched; where none can be kept, there is none."""
    if len(repo.files) > _MOST_FILES or repo.remembered:
        return
    kept = {**asdict(repo), "card": {}}
    text = json.dumps(kept, default=str)
    file = _note(repo.repo_id, repo.asked, repo.repo_type)
    with suppress(OSError):
        if not file.is_file() or file.read_text("utf-8") != text:
            with replacing_file(file) as draft:
                draft.write_text(text, "utf-8")


def remembered(repo_id: str, revision: str | None, repo_type: RepoType) -> Repo | None:
    """The repository as it was when its files were fetched here, or as its files lie in the cache; None without any.

    What other programs have fetched has no note: it counts as private.
    """
    file = _note(repo_id, revision, repo_type)
    try:
        kept = json.loads(file.read_text("utf-8"))
        known = {each.name for each in fields(Repo)}
        held = {name: value for name, value in kept.items() if name in known}
        return Repo(**{**held, "tags": tuple(held["tags"]), "remembered": True})
    except (OSError, ValueError, TypeError, LookupError):
        return _found(repo_id, revision, repo_type)


def _found(repo_id: str, revision: str | None, repo_type: RepoType) -> Repo | None:
    """The repository as its snapshot lies in the cache."""
    folder = _folder(repo_id, repo_type)
    commit = revision if revision and _COMMIT.fullmatch(revision) else _commit(folder, revision or "main")
    snapshot = folder / "snapshots" / (commit or "-")
    if commit is None or not snapshot.is_dir():
        return None
    files: Mapping[str, int] = {
        path.relative_to(snapshot).as_posix(): path.stat().st_size for path in snapshot.rglob("*") if path.is_file()
    }
    return Repo(repo_id, repo_type, commit, files, private=True, asked=revision, remembered=True)


def _commit(folder: Path, name: str) -> str | None:
    """The commit that a branch pointed to; names of branches come from whoever asks, so they are looked up by name."""
    refs = folder / "refs"
    found = {path.relative_to(refs).as_posix(): path for path in refs.rglob("*") if path.is_file()}
    commit = found[name].read_text("utf-8").strip() if name in found else ""
    return commit if _COMMIT.fullmatch(commit) else None


def _note(repo_id: str, revision: str | None, repo_type: RepoType) -> Path:
    return _folder(repo_id, repo_type) / f"xaihub-{sha256((revision or 'main').encode()).hexdigest()[:16]}.json"


def _folder(repo_id: str, repo_type: RepoType) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"{repo_type}s--{repo_id.replace('/', '--')}"
