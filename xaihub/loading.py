"""From a repository's id, or a folder, to a Classifier: looked at first, refused or planned, then fetched."""

import hashlib
import os
import re
import threading
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError

from xaihub import hub
from xaihub.classifier import Classifier
from xaihub.curated import CURATED_MODELS, STARTER
from xaihub.errors import (
    DownloadError,
    HubUnreachableError,
    RepoNotFoundError,
    TooLargeError,
    UnsupportedModelError,
)
from xaihub.families import FAMILIES, Family, family_of, from_torchvision, read_config, weight_files
from xaihub.folders import file_digest, folder_named
from xaihub.progress import Progress, silent
from xaihub.registry import nearest_name

__all__ = ["STARTER_FOLDER", "Limits", "Plan", "cache_folder", "fetch_checked", "load_classifier", "preflight"]

STARTER_FOLDER = Path(__file__).parent / "starter"


@dataclass(frozen=True)
class Limits:
    """What a host is willing to fetch and run.

    Attributes:
        parameters: a forward pass of 150 M takes about a second on two cores.
        size: of the files to download, in bytes.
    """

    parameters: int = 150_000_000
    size: int = 700 * 2**20

    @classmethod
    def from_environment(cls) -> "Limits":
        """The limits that XAIHUB_MAX_PARAMETERS (millions) and XAIHUB_MAX_MEGABYTES state, else the defaults."""
        return cls(
            int(float(os.environ.get("XAIHUB_MAX_PARAMETERS", cls.parameters / 1e6)) * 1e6),
            int(float(os.environ.get("XAIHUB_MAX_MEGABYTES", cls.size / 2**20)) * 2**20),
        )


@dataclass(frozen=True)
class Plan:
    """What loading a classifier would do; nothing large has been fetched.

    Attributes:
        repo_id: as given, cleaned.
        family: the library that loads it.
        revision: the commit sha; for torchvision's own weights the hash in their file's name.
        download: bytes to fetch, 0 when everything is local.
        parameters: as the weights' headers say.
        files: what will be fetched.
    """

    repo_id: str
    family: str
    revision: str | None
    download: int
    parameters: int | None
    task: str | None = None
    licence: str | None = None
    files: tuple[str, ...] = ()
    folder: Path | None = None
    repo: hub.Repo | None = None
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def in_words(self) -> str:
        size = f"{self.parameters / 1e6:.1f} M parameters, " if self.parameters else ""
        return f"{self.repo_id}: {self.family}, {size}{self.download / 2**20:.0f} MB to fetch"


def preflight(
    repo_id_or_folder: str | Path,
    *,
    revision: str | None = None,
    token: hub.Token = None,
    limits: Limits | None = None,
    local: bool = True,
) -> Plan:
    """The plan for loading a classifier, or a refusal that says why; only small JSON files are read.

    Args:
        repo_id_or_folder: "microsoft/resnet-18", "timm/...", "torchvision/resnet50", the starter, or a folder.
        token: False so that no token is used, also not this machine's own.
        limits: None for those of the environment.
        local: whether a folder on this machine may be named; never for a visitor.

    Raises:
        HubError: the repository cannot be read.
        UnsupportedModelError: it is not a classifier that can be explained here, and what would be.
    """
    limits = limits or Limits.from_environment()
    name = str(repo_id_or_folder).strip()
    if name == STARTER:
        return _plan_folder(STARTER_FOLDER / "classifier", name=STARTER)
    if local and (folder := folder_named(name)):
        return _plan_folder(folder)
    if name.startswith("torchvision/"):
        return _plan_torchvision(name, limits)
    return _plan_repo(hub.clean_repo_id(name), revision, token, limits)


def load_classifier(
    repo_id_or_folder: str | Path | Plan,
    *,
    revision: str | None = None,
    token: hub.Token = None,
    device: str | None = None,
    target_layer: str | None = None,
    limits: Limits | None = None,
    local: bool = True,
    progress: Progress = silent,
) -> Classifier:
    """A classifier of the Hub, of torchvision or of a folder, in float32 and eval mode, with its target layer proved.

    Args:
        repo_id_or_folder: see `preflight`, or the plan that it made.
        target_layer: a module's name; None to let it be chosen.
        progress: is told how far the download is, and may stop it.

    Raises:
        HubError: the files cannot be had.
        UnsupportedModelError: it is not a classifier that can be explained here, and what would be.
        TargetLayerError: there is no layer of the name given.
    """
    plan = repo_id_or_folder
    if not isinstance(plan, Plan):
        progress(0.0, f"Looking at {plan}")
        plan = preflight(plan, revision=revision, token=token, limits=limits, local=local)
    details = {
        "repo_id": plan.repo_id,
        "revision": plan.revision,
        "device": device,
        "target_layer": target_layer,
        "facts": {"licence": plan.licence, "task": plan.task},
    }
    if plan.repo_id.startswith("torchvision/"):
        return _load_published(plan, details, progress)
    if plan.folder is not None:
        folder = plan.folder
    else:
        assert plan.repo is not None  # noqa: S101  either a folder or a repository, by construction
        folder = hub.fetch(plan.repo, plan.files, token=token, progress=progress)
    progress(1.0, "Choosing the target layer")
    return FAMILIES[plan.family].load(folder, plan.config, details)


def _plan_folder(folder: Path, name: str | None = None) -> Plan:
    config = read_config(folder)
    files = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    where = name or str(folder)
    found = family_of(config, where)
    weights = weight_files(files, where)
    beside = [file for file in found.files if file in files]
    _refuse_files(found, where, beside, lambda file: read_config(folder, file))
    revision = _digest(folder, [*weights, "config.json", *beside])
    licence = _licence(folder)
    return Plan(where, found.name, revision, 0, None, "image-classification", licence, folder=folder, config=config)


def _licence(folder: Path) -> str | None:
    """What the folder's card says, as the Hub would read it."""
    card = folder / "README.md"
    text = card.read_text("utf-8", errors="replace")[:10_000] if card.is_file() else ""
    stated = re.search(r"^license:\s*(\S+)\s*$", text, re.MULTILINE)
    return stated[1] if stated else None


def _refuse_files(found: Family, where: str, files: list[str], read: Callable[[str], Mapping[str, Any]]) -> None:
    """Asks the family about each JSON file it reads beside the config; one that is no JSON it has to do without."""
    for file in files:
        try:
            settings = read(file)
        except (DownloadError, UnsupportedModelError):
            continue
        if reason := found.refuses_file(settings):
            raise UnsupportedModelError(f"{where} {reason}")


def _digest(folder: Path, names: list[str]) -> str:
    """40 hex digits that change with the files: what a commit sha is to a repository."""
    return hashlib.sha256("".join(file_digest(folder / name) for name in names).encode()).hexdigest()[:40]


def _plan_repo(repo_id: str, revision: str | None, token: hub.Token, limits: Limits) -> Plan:
    try:
        repo = hub.look(repo_id, revision=revision, token=token)
    except RepoNotFoundError as error:
        near = nearest_name(repo_id, list(CURATED_MODELS)) if revision is None else ""
        raise RepoNotFoundError(f"{error}{near}") from error
    if "config.json" not in repo.files:
        weight_files(repo.files, repo_id)  # says what is there instead of weights that could be opened
        what = f"a model for {repo.task}" if repo.task else "a repository"
        raise UnsupportedModelError(f"{repo_id} is {what} without a config.json, so nothing says how to build it.")
    config = hub.read_json(repo, "config.json", token=token)
    found = family_of(config, repo_id)
    weights = weight_files(repo.files, repo_id)
    beside = [name for name in found.files if name in repo.files]
    _refuse_files(found, repo_id, beside, lambda name: hub.read_json(repo, name, token=token))
    files = ["config.json", *beside, *weights]
    size = sum(repo.files[name] for name in files)
    if size > limits.size:
        raise TooLargeError(
            f"{repo_id} has {size / 2**20:,.0f} MB of weights; this host takes at most"
            f" {limits.size / 2**20:,.0f} MB. Try a smaller"
            " model of the same kind, or run xaihub on your own machine with XAIHUB_MAX_MEGABYTES raised."
        )
    tensors = [name for name in weights if name.endswith(".safetensors")]
    parameters = hub.parameter_count(repo, tensors, token=token)
    if parameters > limits.parameters:
        raise TooLargeError(
            f"{repo_id} has {parameters / 1e6:,.0f} M parameters; this host runs at most"
            f" {limits.parameters / 1e6:,.0f} M. Try a"
            " smaller model of the same kind, or run xaihub on your own machine with XAIHUB_MAX_PARAMETERS raised."
        )
    return Plan(
        repo_id,
        found.name,
        repo.revision,
        size,
        parameters,
        repo.task,
        repo.licence,
        tuple(files),
        repo=repo,
        config=config,
    )


def _plan_torchvision(name: str, limits: Limits) -> Plan:
    url, weights = from_torchvision.torchvision_published(name.removeprefix("torchvision/"))
    parameters, size = int(weights.meta["num_params"]), int(weights.meta["_file_size"] * 1e6)
    if parameters > limits.parameters or size > limits.size:
        raise TooLargeError(
            f"{name} has {parameters / 1e6:,.0f} M parameters in {size / 2**20:,.0f} MB; this host takes at most"
            f" {limits.parameters / 1e6:,.0f} M and {limits.size / 2**20:,.0f} MB."
        )
    revision = url.rsplit("-", 1)[-1].removesuffix(".pth")
    return Plan(name, "torchvision", revision, size, parameters, "image-classification", "bsd-3-clause", (url,))


def _load_published(plan: Plan, details: dict[str, Any], progress: Progress) -> Classifier:
    name = plan.repo_id.removeprefix("torchvision/")
    _, weights = from_torchvision.torchvision_published(name)
    file = fetch_checked(plan.files[0], cache_folder() / "torchvision", progress=progress)
    return from_torchvision.load_torchvision_published(name, weights, file, details)


def cache_folder() -> Path:
    """Where files that are not from the Hub are kept: XAIHUB_CACHE, or the user's cache folder."""
    return Path(os.environ.get("XAIHUB_CACHE") or Path.home() / ".cache" / "xaihub")


def fetch_checked(url: str, folder: Path, *, progress: Progress = silent) -> Path:
    """The file of an address whose name ends in the first digits of its sha256, checked, from the cache or fresh.

    Raises:
        HubUnreachableError: nobody answers there.
        DownloadError: what came has another hash.
    """
    name = url.rsplit("/", 1)[-1]
    expected = name.rsplit("-", 1)[-1].split(".")[0]
    file = folder / name
    if file.is_file() and _starts_with(file, expected):
        return file
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{name}.{os.getpid()}.{threading.get_ident()}"
    try:
        with urllib.request.urlopen(url, timeout=20) as answer, draft.open("wb") as out:  # noqa: S310  torchvision's own
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while chunk := answer.read(2**20):
                out.write(chunk)
                done += len(chunk)
                progress(min(1.0, done / total) if total else 0.0, f"Downloading {name}")
        if not _starts_with(draft, expected):
            raise DownloadError(f"{name} did not arrive whole: its sha256 does not begin with {expected}. Try again.")
        os.replace(draft, file)
    except (URLError, ConnectionError, TimeoutError) as error:
        raise HubUnreachableError(
            f"The server of torchvision's weights does not answer, so {name} cannot be had now."
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return file


def _starts_with(file: Path, digits: str) -> bool:
    return file_digest(file).startswith(digits)
