"""Which pipeline is meant, at which revision, of which files: what is known before anything large is fetched."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from xaihub import hub
from xaihub.folders import file_digest, folder_named
from xaihub.generation.plan import INDEX, Plan, plan

__all__ = ["Found", "GenerationSettings", "device_of", "find"]


@dataclass(frozen=True)
class GenerationSettings:
    """How pictures are made.

    Attributes:
        pipeline: id on the Hub, or a folder.
        count: of pictures; their seeds are `first_seed` and those that follow.
        scheduler: one of SCHEDULERS; if not given, the pipeline's own, but DDIM instead of DDPM, which needs a
            thousand steps.
        steps: of denoising.
        batch: pictures made at once; if not given, 1 on a processor and 16 on a GPU.
        device: "cpu", "cuda", ...; if not given, a GPU where there is one.
        size: pixels, for pipelines that can be asked; else their own.
        max_hours: if the estimate is longer, the work is not begun.
    """

    pipeline: str = "google/ddpm-cat-256"
    revision: str | None = None
    count: int = 200
    first_seed: int = 0
    scheduler: str | None = None
    steps: int = 50
    batch: int | None = None
    dtype: str = "float32"
    device: str | None = None
    prompt: str | None = None
    size: int | None = None
    max_hours: float = 12.0


@dataclass(frozen=True)
class Found:
    """A pipeline that was found and may be loaded; nothing large was fetched yet.

    Attributes:
        name: its id, or its folder's name.
        revision: the commit, or the digest of the folder's files.
    """

    name: str
    revision: str
    licence: str | None
    plan: Plan
    repo: hub.Repo | None
    folder: Path | None


def find(settings: GenerationSettings, *, token: hub.Token) -> Found:
    """The pipeline as it stands now: which revision, which files.

    Raises:
        HubError: it cannot be had.
        UnsupportedModelError: it is refused; the message says what would work.
    """
    if folder := folder_named(settings.pipeline):
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in _files(folder)}
        planned = plan(folder.resolve().name, files, _index(folder))
        return Found(folder.resolve().name, _digest(folder, planned), None, planned, None, folder)
    repo = hub.look(hub.clean_repo_id(settings.pipeline), revision=settings.revision, token=token)
    planned = plan(repo.repo_id, repo.files, hub.read_json(repo, INDEX, token=token))
    return Found(repo.repo_id, repo.revision, repo.licence, planned, repo, None)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def _index(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads((folder / INDEX).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _digest(folder: Path, planned: Plan) -> str:
    """What stands for a commit where there is none: a digest of the files that are read."""
    lines = [f"{path} {file_digest(folder / path)}" for path in sorted(planned.paths)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:40]


def device_of(settings: GenerationSettings) -> str:
    """Where pictures are made: as asked, or a GPU where there is one."""
    return settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
