"""What loading a classifier would take: looked at first, then refused in words or planned."""

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xaihub import hub, kaggle
from xaihub.curated import CURATED_MODELS, STARTER
from xaihub.downloads import cache_folder
from xaihub.errors import (
    DamagedFileError,
    DownloadError,
    RepoNotFoundError,
    TooLargeError,
    UnsafeFileError,
    UnsupportedModelError,
)
from xaihub.families import (
    ADAPTER,
    FAMILIES,
    Family,
    family_of,
    from_torchvision,
    read_config,
    refuse_adapter,
    refuse_counts,
    refuse_foreign_shards,
    stored_headers,
    weight_files,
)
from xaihub.folders import file_digest, folder_named
from xaihub.registry import nearest_name
from xaihub.untrusted import most_bytes

__all__ = [
    "STARTER_FOLDER", "Limits", "Plan", "digest_of", "preflight", "refuse_files", "refuse_parameters", "refuse_size",
    "refuse_stored",
]  # fmt: skip

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
        revision: the commit sha; on Kaggle the version's number; for torchvision's own weights the hash in their file's
            name; for a folder a digest of its files.
        download: bytes to fetch, 0 when everything is local.
        parameters: as the weights' headers say; None where they can only be counted once they are here.
        most_parameters: how many are allowed, if they are counted only then.
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
    listing: kaggle.Listing | None = None
    most_parameters: int | None = None
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
        repo_id_or_folder: "microsoft/resnet-18", "timm/...", "torchvision/resnet50", "kaggle/OWNER/MODEL/FRAMEWORK/
            VARIATION", the starter, or a folder.
        token: False so that no token is used, also not this machine's own.
        limits: None for those of the environment.
        local: whether a folder on this machine may be named, and its credentials for Kaggle be used; never for a
            visitor.

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
    if kaggle.is_handle(name):
        return _plan_kaggle(*kaggle.clean_handle(name, revision), limits, anonymous=not local)
    return _plan_repo(hub.clean_repo_id(name), revision, token, limits, local=local)


def _plan_folder(folder: Path, name: str | None = None) -> Plan:
    where = name or str(folder)
    files = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    refuse_adapter(where, files, lambda file: read_config(folder, file))
    config = read_config(folder)
    found = family_of(config, where)
    weights = weight_files(files, where)
    refuse_foreign_shards(where, weights, lambda file: read_config(folder, file))
    refuse_stored(where, config, [folder / name for name in weights if name.endswith(".safetensors")])
    beside = [file for file in found.files if file in files]
    refuse_files(found, where, beside, lambda file: read_config(folder, file))
    along = [*beside, *found.along(files)]
    revision = digest_of(folder, [*weights, "config.json", *along])
    return Plan(
        where, found.name, revision, 0, None, "image-classification", _licence(folder),
        ("config.json", *along, *weights), folder=folder, config=config,
    )  # fmt: skip


def refuse_stored(where: str, config: Mapping[str, Any], weights: Sequence[Path]) -> int:
    """The parameters in files of weights on this machine, if they can be those of the config.

    Raises:
        DownloadError: a file is damaged.
        UnsupportedModelError: the config counts beyond what is stored.
    """
    headers = stored_headers(weights, where)
    refuse_counts(where, config, headers, sum(file.stat().st_size for file in weights))
    return sum(header.parameters for header in headers)


def _licence(folder: Path) -> str | None:
    """What the folder's card says, as the Hub would read it."""
    card = folder / "README.md"
    text = card.read_text("utf-8", errors="replace")[:10_000] if card.is_file() else ""
    stated = re.search(r"^license:\s*(\S+)\s*$", text, re.MULTILINE)
    return stated[1] if stated else None


def refuse_files(found: Family, where: str, files: list[str], read: Callable[[str], Mapping[str, Any]]) -> None:
    """Asks the family about each JSON file it reads beside the config; one that is no JSON it has to do without.

    Raises:
        UnsupportedModelError: the family refuses one.
        DownloadError: one is damaged, or beyond what such a file can be.
    """
    for file in files:
        try:
            settings = read(file)
        except (DamagedFileError, UnsafeFileError):
            raise
        except (DownloadError, UnsupportedModelError):
            continue
        if reason := found.refuses_file(settings):
            raise UnsupportedModelError(f"{where} {reason}")


def digest_of(folder: Path, names: list[str]) -> str:
    """40 hex digits that change with the files: what a commit sha is to a repository."""
    return hashlib.sha256("".join(file_digest(folder / name) for name in names).encode()).hexdigest()[:40]


def _plan_repo(repo_id: str, revision: str | None, token: hub.Token, limits: Limits, *, local: bool) -> Plan:
    try:
        repo = hub.look(repo_id, revision=revision, token=token, local=local)
    except RepoNotFoundError as error:
        near = nearest_name(repo_id, list(CURATED_MODELS)) if revision is None else ""
        raise RepoNotFoundError(f"{error}{near}") from error

    def read(name: str) -> Mapping[str, Any]:
        return hub.read_json(repo, name, token=token)

    found, config, files = _plan_files(repo_id, repo.files, read, repo.task)
    size = refuse_size(repo_id, repo.files, files, limits)
    tensors = [name for name in files if name.endswith(".safetensors")]
    headers = hub.tensor_headers(repo, tensors, token=token)
    parameters = sum(header.parameters for header in headers)
    refuse_parameters(repo_id, parameters, limits.parameters)
    refuse_counts(repo_id, config, headers, sum(repo.files[name] for name in tensors))
    return Plan(
        repo_id,
        found.name,
        repo.revision,
        size,
        parameters,
        repo.task,
        repo.licence,
        files,
        repo=repo,
        config=config,
    )


def _plan_kaggle(handle: str, version: int | None, limits: Limits, *, anonymous: bool) -> Plan:
    along = dict.fromkeys(["config.json", ADAPTER, *(name for family in FAMILIES.values() for name in family.files)])
    listing = kaggle.look(handle, version=version, anonymous=anonymous, cache=cache_folder(), along=list(along))

    def read(name: str) -> Mapping[str, Any]:
        return kaggle.read_json(listing, name, cache_folder())

    found, config, files = _plan_files(listing.repo_id, listing.files, read)
    size = refuse_size(listing.repo_id, listing.files, files, limits)
    return Plan(
        listing.repo_id,
        found.name,
        str(listing.version),
        size,
        None,
        "image-classification",
        listing.licence,
        files,
        listing=listing,
        most_parameters=limits.parameters,
        config=config,
    )


def _plan_files(
    where: str, held: Mapping[str, int], read: Callable[[str], Mapping[str, Any]], task: str | None = None
) -> tuple[Family, Mapping[str, Any], tuple[str, ...]]:
    """The family of what a repository holds, its config, and the files to fetch; or a refusal."""
    refuse_adapter(where, held, read)
    if "config.json" not in held:
        weight_files(held, where)  # says what is there instead of weights that could be opened
        what = f"a model for {task}" if task else "a repository"
        raise UnsupportedModelError(f"{where} is {what} without a config.json, so nothing says how to build it.")
    config = read("config.json")
    found = family_of(config, where)
    weights = weight_files(held, where)
    refuse_foreign_shards(where, weights, read)
    beside = [name for name in found.files if name in held]
    refuse_files(found, where, beside, read)
    return found, config, ("config.json", *beside, *found.along(held), *weights)


def refuse_size(where: str, held: Mapping[str, int], files: tuple[str, ...], limits: Limits) -> int:
    """The bytes of the files to fetch, if this host takes so many.

    Raises:
        TooLargeError: it does not.
        UnsafeFileError: one is far larger than a file of its kind can be.
    """
    for name in files:
        if name.endswith(".json") and held[name] > most_bytes(name):
            raise UnsafeFileError(
                f"{name} of {where} has {held[name] / 2**20:,.1f} MB; such a file has at most"
                f" {most_bytes(name) / 2**20:g} MB here, so the repository is not opened."
            )
    size = sum(held[name] for name in files)
    if size > limits.size:
        raise TooLargeError(
            f"{where} has {size / 2**20:,.0f} MB of weights; this host takes at most"
            f" {limits.size / 2**20:,.0f} MB. Try a smaller"
            " model of the same kind, or run xaihub on your own machine with XAIHUB_MAX_MEGABYTES raised."
        )
    return size


def refuse_parameters(where: str, parameters: int, most: int) -> None:
    """Nothing, if so many are allowed.

    Raises:
        TooLargeError: they are not.
    """
    if parameters > most:
        raise TooLargeError(
            f"{where} has {parameters / 1e6:,.0f} M parameters; this host runs at most {most / 1e6:,.0f} M. Try a"
            " smaller model of the same kind, or run xaihub on your own machine with XAIHUB_MAX_PARAMETERS raised."
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
