"""A piece of work that is done in shards, each of which is written whole or not at all."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xaihub.errors import ReferencesError
from xaihub.folders import replacing_file
from xaihub.reference_files.tensors import mapped_tensors, pieces, write_tensors
from xaihub.shards.packed import Packed

__all__ = ["SHARD_ROWS", "Embedded", "Work", "key_of"]

SHARD_ROWS = 2048  # a minute or two on a processor: what a kill may cost, and 100 MB of crops in memory
_FORMAT = 1
_TEXTS = ("key", "label", "source", "digest", "picture")


@dataclass(frozen=True, eq=False)
class Embedded:
    """What N rows became, in the order of their ids.

    Attributes:
        rows: (N,) ids: their places among all rows that were asked for. Rows that could not be read are missing.
        columns: "key", "label", "source" (texts), "digest" (32 bytes) and "picture" (encoded), N each.
        hashes: (N,) uint64.
        logits: (N, C) float32, with `predicted` (N,) and `probability` (N,) of the classifier's own activation.
        vectors: embedder -> (N, K) float16, of length one.
        lengths: embedder -> (N,) float32, how long they were.
        skipped: key -> why a row could not be read.
    """

    rows: NDArray[np.int64]
    columns: Mapping[str, Packed]
    hashes: NDArray[np.uint64]
    logits: Tensor
    predicted: NDArray[np.int64]
    probability: NDArray[np.float32]
    vectors: Mapping[str, Tensor]
    lengths: Mapping[str, Tensor]
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)


def key_of(facts: Any) -> str:
    """24 hex digits that change with anything that would change the result."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Work(Sequence[Embedded]):
    """The shards of one piece of work; as a sequence, it reads them.

    A shard is one safetensors file: two files could not be put in place at once. Pictures and texts lie in it packed,
    so that a merge reads single rows, which a parquet file gives only by the group.

    Attributes:
        folder: this work's own.
        key: what the work is (`key_of`); shards of other work are foreign.
        rows: how many there are in all.
        size: how many there are in a shard; the last may have fewer.
    """

    folder: Path
    key: str
    rows: int
    size: int = SHARD_ROWS

    def __len__(self) -> int:
        return (self.rows + self.size - 1) // self.size

    def __getitem__(self, number: Any) -> Any:
        """A shard whose bytes `has` has checked.

        Raises:
            ReferencesError: it is missing or torn.
        """
        if not 0 <= number < len(self):
            raise IndexError(number)
        found = self._read(number)
        if found is None:
            raise ReferencesError(f"{self.file(number).name} is missing from {self.folder}, or torn. Build it again.")
        return found[0]

    def span(self, number: int) -> slice:
        """The ids of a shard's rows."""
        return slice(number * self.size, min((number + 1) * self.size, self.rows))

    def file(self, number: int) -> Path:
        return self.folder / f"shard-{number:05d}-of-{len(self):05d}.safetensors"

    def missing(self, numbers: Iterable[int] | None = None) -> list[int]:
        """Which of these shards (of all, if none are named) are not there whole."""
        return [number for number in (range(len(self)) if numbers is None else numbers) if not self.has(number)]

    def has(self, number: int) -> bool:
        """Whether a shard is there, is of this work, and has the bytes that were written."""
        found = self._read(number)
        return found is not None and found[1] == _digest(mapped_tensors(self.file(number)))

    def write(self, number: int, embedded: Embedded) -> None:
        """Puts a shard in its place at once; writing it again changes nothing."""
        tensors = _tensors(embedded)
        facts = {
            "format": _FORMAT, "work": self.key, "shard": [number, len(self)], "sha256": _digest(tensors),
            "embedders": list(embedded.vectors), "skipped": dict(embedded.skipped),
        }  # fmt: skip
        with replacing_file(self.file(number)) as draft:
            write_tensors(draft, tensors, {"facts": json.dumps(facts)})

    def forget(self) -> None:
        """Removes all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, number: int) -> tuple[Embedded, str] | None:
        """A shard and the digest that it should have; None if it is missing, torn, or of other work."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.file(number), "pt") as held:
                facts = json.loads(held.metadata()["facts"])
            known = facts["format"], facts["work"], facts["shard"]
            if known != (_FORMAT, self.key, [number, len(self)]):
                return None
            return _embedded(mapped_tensors(self.file(number)), facts), facts["sha256"]
        except (OSError, SafetensorError, ValueError, LookupError, TypeError):
            return None


def _tensors(embedded: Embedded) -> dict[str, Tensor]:
    tensors = {
        "rows": torch.from_numpy(embedded.rows),
        "hashes": torch.from_numpy(embedded.hashes.view(np.int64)),
        "logits": embedded.logits,
        "predicted": torch.from_numpy(embedded.predicted),
        "probability": torch.from_numpy(embedded.probability),
    }
    for name in _TEXTS:
        tensors |= {f"{name}.data": embedded.columns[name].data, f"{name}.spans": embedded.columns[name].spans}
    for place, name in enumerate(embedded.vectors):
        tensors |= {f"vectors.{place}": embedded.vectors[name], f"lengths.{place}": embedded.lengths[name]}
    return tensors


def _embedded(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Embedded:
    names = facts["embedders"]
    return Embedded(
        tensors["rows"].numpy(),
        {name: Packed(tensors[f"{name}.data"], tensors[f"{name}.spans"]) for name in _TEXTS},
        tensors["hashes"].numpy().view(np.uint64),
        tensors["logits"],
        tensors["predicted"].numpy(),
        tensors["probability"].numpy(),
        {name: tensors[f"vectors.{place}"] for place, name in enumerate(names)},
        {name: tensors[f"lengths.{place}"] for place, name in enumerate(names)},
        facts["skipped"],
    )


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype}\n".encode())
        for piece in pieces(tensors[name]):
            digest.update(piece)
    return digest.hexdigest()
