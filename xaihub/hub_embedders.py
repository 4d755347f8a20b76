"""Embedders from the Hub: another network's eye for what looks alike, and its ear for words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xaihub import hub
from xaihub.costs import PassLimits
from xaihub.embedders import EMBEDDERS, Batch, Embedder, Targets
from xaihub.errors import UnknownNameError
from xaihub.families import (
    FAMILIES,
    read_config,
    refuse_adapter,
    refuse_counts,
    refuse_foreign_shards,
    staged,
    weight_files,
)
from xaihub.families.backbones import TOKENIZERS, beside_weights, load_tower, reads_words, refuse_backbone
from xaihub.families.towers import Tower
from xaihub.folders import folder_named
from xaihub.loading import fetch_planned
from xaihub.planning import Limits, Plan, digest_of, refuse_files, refuse_parameters, refuse_size, refuse_stored
from xaihub.progress import Progress, silent
from xaihub.registry import nearest_name
from xaihub.spaces import Kind

__all__ = ["HubEmbedder", "load_embedder", "plan_embedder"]

Read = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class HubEmbedder:
    """Sees pictures as a network from the Hub does; the classifier has no say.

    Attributes:
        name: the repository's id, or the folder's name.
        revision: the commit sha; of a folder a digest of its files.
    """

    name: str
    revision: str | None
    tower: Tower = field(repr=False)
    kind: Kind = "looks"
    leaks: bool = False
    weighted: bool = False

    @property
    def alike(self) -> str:
        return f"they look alike to {self.tower.kind} ({self.name}), whatever the classifier thinks"

    @property
    def reads_words(self) -> bool:
        """Whether `embed_words` can be asked: it was loaded for words."""
        return self.tower.tokenizer is not None

    def embed(self, batch: Batch) -> Tensor:
        """(N, K) of the batch's pictures, prepared as this network wants them; float32, on the CPU."""
        return self.tower.see(batch.pictures)

    def weigh(self, batch: Batch, targets: Targets) -> None:
        """None: each dimension counts alike."""

    def embed_words(self, texts: Sequence[str]) -> Tensor:
        """(N, K) of N texts, in the space of the pictures and each of length one; see `Tower.read`.

        Cosines of words and pictures are small even where they fit (0.2 to 0.35 for CLIP): compare them with each
        other only, never with those of two pictures.

        Raises:
            XaihubError: a text is empty or too long.
            TypeError: it was not loaded for words.
        """
        return self.tower.read([texts] if isinstance(texts, str) else texts)


def load_embedder(
    name: str | Plan,
    *,
    token: hub.Token = None,
    local: bool = True,
    words: bool = False,
    device: str | torch.device | None = None,
    limits: Limits | None = None,
    progress: Progress = silent,
) -> Embedder:
    """An embedder by its name: one of `EMBEDDERS`, or a network on the Hub.

    Args:
        name: "contribution", "facebook/dinov2-small", "owner/name@revision", a folder, or the plan that
            `plan_embedder` made with the same `words`.
        local: whether a folder on this machine may be named; never for a visitor.
        words: also the half that reads, for `embed_words`; otherwise it is neither loaded nor kept in memory.
        device: where the network runs, such as the classifier's; the vectors come back to the CPU.

    Raises:
        UnknownNameError: it is neither.
        HubError: the files cannot be had.
        UnsupportedModelError: it does not describe pictures, or not here, and what would.
    """
    plan, limits = name, limits or Limits.from_environment()
    if not isinstance(plan, Plan):
        plan = str(plan).strip()
        if plan in EMBEDDERS:
            return EMBEDDERS[plan]
        progress(0.0, f"Looking at {plan[:120]}")
        plan = plan_embedder(plan, token=token, local=local, words=words, limits=limits)
    folder = fetch_planned(plan, token=token, progress=progress)
    progress(1.0, f"Loading {plan.repo_id}")
    costs = None if local else PassLimits.from_environment()
    with staged(folder, plan.files, plan.config, FAMILIES[plan.family], plan.repo_id) as (stage, config):
        tower = load_tower(stage, config, plan.repo_id, words=words, device=device, limits=costs)
    if plan.folder is None:
        refuse_parameters(plan.repo_id, tower.parameters, limits.parameters)
    # where a folder lies is nobody's business: references that name it may be published
    return HubEmbedder(plan.folder.resolve().name if plan.folder else plan.repo_id, plan.revision, tower)


def plan_embedder(
    name: str, *, token: hub.Token = None, local: bool = True, words: bool = False, limits: Limits | None = None
) -> Plan:
    """The plan for loading a network from the Hub as an embedder, or a refusal; only small JSON files are read.

    Raises:
        as `load_embedder`.
    """
    if local and (folder := folder_named(name)):
        return _plan_folder(folder, words)
    if "/" not in name:
        known = ", ".join(EMBEDDERS)
        raise UnknownNameError(
            f"There is no embedder called {name[:120]!r}.{nearest_name(name, EMBEDDERS)} Known: {known}, and the id of"
            " any network on the Hub that describes pictures, such as 'facebook/dinov2-small'."
        )
    repo_id, _, revision = name.partition("@")
    return _plan_repo(
        hub.clean_repo_id(repo_id), revision or None, token, words, limits or Limits.from_environment(), local
    )


def _plan_folder(folder: Path, words: bool) -> Plan:
    held = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    config, files = _files(str(folder), held, lambda file: read_config(folder, file), words)
    refuse_stored(str(folder), config, [folder / file for file in files if file.endswith(".safetensors")])
    seeing = [file for file in files if file not in TOKENIZERS]  # the same pictures' vectors with and without words
    revision = digest_of(folder, seeing)
    return Plan(str(folder), "transformers", revision, 0, None, files=files, folder=folder, config=config)


def _plan_repo(repo_id: str, revision: str | None, token: hub.Token, words: bool, limits: Limits, local: bool) -> Plan:
    repo = hub.look(repo_id, revision=revision, token=token, local=local)
    config, files = _files(repo_id, repo.files, lambda file: hub.read_json(repo, file, token=token), words)
    size = refuse_size(repo_id, repo.files, files, limits)
    tensors, parameters = [file for file in files if file.endswith(".safetensors")], None
    headers = hub.tensor_headers(repo, tensors, token=token)
    refuse_counts(repo_id, config, headers, sum(repo.files[file] for file in tensors))
    if not reads_words(config):  # else a half of them never sees a picture; those that do are counted once loaded
        parameters = sum(header.parameters for header in headers)
        refuse_parameters(repo_id, parameters, limits.parameters)
    return Plan(
        repo_id, "transformers", repo.revision, size, parameters, repo.task, repo.licence, files, repo=repo,
        config=config,
    )  # fmt: skip


def _files(where: str, held: Mapping[str, int], read: Read, words: bool) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The config of what a repository holds and the files to fetch; or a refusal."""
    refuse_adapter(where, held, read)
    config = read("config.json") if "config.json" in held else {}
    refuse_backbone(config, where, words=words)
    weights = weight_files(held, where)
    refuse_foreign_shards(where, weights, read)
    beside = beside_weights(held, where, words=words)
    settings = [file for file in FAMILIES["transformers"].files if file in held]
    refuse_files(FAMILIES["transformers"], where, settings, read)
    return config, ("config.json", *beside, *weights)
