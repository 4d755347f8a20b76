"""What the Hub says of a repository, worked out from its card, its config.json and its safetensors headers."""

import json
import re
from collections.abc import Iterable
from datetime import datetime
from math import prod
from typing import Any

import yaml

from .store import Commit, File, Repo, git_oid

# What a listing shows unless more is asked for; the rest of `describe` comes with full=True or expand=.
LISTED = {
    "model": "_id id modelId likes trendingScore private downloads tags pipeline_tag library_name createdAt",
    "dataset": "_id id author disabled gated lastModified likes trendingScore private sha downloads tags createdAt",
    "space": "_id id likes trendingScore private sdk tags createdAt",
}
FULL = "author gated lastModified sha siblings disabled"
FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(?:(.*?)\r?\n)?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


def front_matter(text: str) -> dict[str, Any]:
    """The metadata at the head of a card, {} without any; ValueError with the sentence the Hub would show."""
    match = FRONT_MATTER.match(text)
    if match is None:
        return {}
    try:
        card = yaml.safe_load(match.group(1) or "") or {}
    except yaml.YAMLError as error:
        raise ValueError(f"The metadata is not YAML: {error}") from error
    if not isinstance(card, dict):
        raise ValueError("The metadata must be names with values.")  # noqa: TRY004, one error for a bad card
    for name in ("tags", "datasets"):
        if not all(isinstance(value, str) for value in _listed(card.get(name))):
            raise ValueError(f'"{name}" must be an array of strings')
    return card


def describe(repo: Repo, commit: Commit) -> dict[str, Any]:
    """Everything known of a repository at a commit, under the names of the Hub's JSON."""
    info: dict[str, Any] = {
        "_id": git_oid("repo", f"{repo.kind}/{repo.name}".encode())[:24],
        "id": repo.name,
        "author": repo.author,
        "sha": commit.sha,
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "createdAt": timestamp(repo.created),
        "lastModified": timestamp(repo.last_modified),
        "downloads": repo.downloads,
        "downloadsAllTime": repo.downloads,
        "likes": repo.likes,
        "trendingScore": 0,
        "usedStorage": sum(len(file.content) for file in commit.files.values()),
        "siblings": siblings(commit),
    }
    card = _card(commit)
    if card:
        info["cardData"] = card
    if repo.kind == "model":
        info |= _model(repo, commit, card)
    if repo.kind == "space":
        info |= {"sdk": repo.sdk or card.get("sdk"), "models": _listed(card.get("models"))}
    return info | {"tags": _tags(repo, card, info)}


def listed(info: dict[str, Any], kind: str, *, full: bool, also: Iterable[str] = ()) -> dict[str, Any]:
    """The part of a description that a listing shows."""
    names = [*LISTED[kind].split(), *(FULL.split() if full else ()), *also]
    return {name: info[name] for name in names if name in info}


def siblings(commit: Commit, *, blobs: bool = False) -> list[dict[str, Any]]:
    """The files by name, with their sizes and hashes when asked for."""
    return [
        {"rfilename": path} | (_blob(commit.files[path]) if blobs else {})  # as the Hub: names alone unless asked
        for path in sorted(commit.files)
    ]


def _blob(file: File) -> dict[str, Any]:
    size = len(file.content)
    blob: dict[str, Any] = {"size": size, "blobId": file.oid}
    if file.lfs:
        blob["lfs"] = {"sha256": file.sha256, "size": size, "pointerSize": len(file.pointer)}
    return blob


def timestamp(moment: datetime) -> str:
    """As the Hub writes a time: UTC, milliseconds, Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _card(commit: Commit) -> dict[str, Any]:
    try:
        return front_matter((commit.read("README.md") or b"").decode(errors="replace"))
    except ValueError:
        return {}


def _model(repo: Repo, commit: Commit, card: dict[str, Any]) -> dict[str, Any]:
    """What only models have; the task and the library are guessed from config.json as the Hub guesses them."""
    config = _config(commit)
    architecture = next(iter(config.get("architectures") or [""]))
    guessed_task = "image-classification" if architecture.endswith("ForImageClassification") else None
    guessed_library = "timm" if "pretrained_cfg" in config else "transformers" if "model_type" in config else None
    found: dict[str, Any] = {
        "modelId": repo.name,
        "pipeline_tag": repo.pipeline_tag or card.get("pipeline_tag") or guessed_task,
        "library_name": repo.library_name or card.get("library_name") or guessed_library,
        "config": {name: config[name] for name in ("architectures", "model_type", "auto_map") if name in config},
        "safetensors": _parameters(commit),
        "model-index": card.get("model-index"),
        "spaces": [],
    }
    return {name: value for name, value in found.items() if value or name == "spaces"}


def _config(commit: Commit) -> dict[str, Any]:
    try:
        config = json.loads(commit.read("config.json") or b"{}")
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _parameters(commit: Commit) -> dict[str, Any] | None:
    """How many numbers of each type the safetensors files hold, None without such files."""
    counts: dict[str, int] = {}
    for path, file in commit.files.items():
        if not re.fullmatch(r"model[^/]*\.safetensors", path):
            continue
        try:
            header = json.loads(file.content[8 : 8 + int.from_bytes(file.content[:8], "little")])
            tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
            for tensor in tensors:
                counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + prod(tensor["shape"])
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            continue  # a test may well store nonsense under this name
    return {"parameters": counts, "total": sum(counts.values())} if counts else None


def _tags(repo: Repo, card: dict[str, Any], info: dict[str, Any]) -> list[str]:
    """The card's own tags and those the Hub adds, each once; `filter=` searches these."""
    config = info.get("config", {})
    tags = [*repo.tags, info.get("library_name"), config.get("model_type"), *_listed(card.get("tags"))]
    tags += ["safetensors"] if "safetensors" in info else []
    tags += [info.get("pipeline_tag"), repo.sdk]
    if repo.kind == "dataset":
        names = ("task_categories", "task_ids", "size_categories", "language")
        tags += [f"{name}:{value}" for name in names for value in _listed(card.get(name))]
    else:
        tags += _listed(card.get("language"))
    for tag, name in (("dataset", "datasets"), ("base_model", "base_model"), ("license", "license")):
        tags += [f"{tag}:{value}" for value in _listed(card.get(name))]
    return list(dict.fromkeys(tag for tag in [*tags, "region:us"] if tag))


def _listed(value: Any) -> list[Any]:
    """A list as it is, one value as a list of it: cards may write either."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
