"""One merge of all shards: rows sorted by predicted class, and within a class by their id."""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xaihub.progress import Progress, silent
from xaihub.shards.packed import Gathered
from xaihub.shards.work import Embedded

__all__ = ["Merged", "merged"]

_READERS: Mapping[str, Callable[[bytes], Any]] = {"digest": bytes.hex, "picture": bytes}  # others are texts
Places: TypeAlias = Sequence[NDArray[np.int64]]  # of each shard: where its rows go


@dataclass(frozen=True, eq=False)
class Merged:
    """R rows, sorted; see `Embedded` for what each is.

    Attributes:
        rows: (R,) ids.
        columns: as in `Embedded`, read when they are asked for.
        skipped: key -> why a row is missing.
    """

    rows: NDArray[np.int64]
    columns: dict[str, Gathered]
    hashes: NDArray[np.uint64]
    logits: Tensor
    predicted: NDArray[np.int64]
    probability: NDArray[np.float32]
    vectors: dict[str, Tensor]
    lengths: dict[str, Tensor]
    skipped: dict[str, str]


def merged(parts: Sequence[Embedded], folder: Path | None = None, progress: Progress = silent) -> Merged:
    """All rows of the parts, of which at least one must have any.

    Each shard is read in order, and its rows are put where they belong in one mapped file for each embedder. Texts and
    pictures stay in the shards until they are asked for; these may be removed meanwhile, their bytes stay.

    Args:
        parts: in the order of their rows; they are gone through several times.
        folder: where there is room for the vectors, in files without a name that end with their use; in memory if None.
    """
    held = [part for part in parts if len(part)]  # each is mapped, not read
    counts = [len(part) for part in held]
    predicted = np.concatenate([part.predicted for part in held])
    order = np.argsort(predicted, kind="stable")
    place_of = np.empty(len(order), np.int64)
    place_of[order] = np.arange(len(order))
    places = np.split(place_of, np.cumsum(counts)[:-1])
    part = np.repeat(np.arange(len(held), dtype=np.int32), counts)[order]
    within = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])[order]
    columns = {
        name: Gathered([each.columns[name] for each in held], part, within, _READERS.get(name, bytes.decode))
        for name in held[0].columns
    }
    vectors, lengths = {}, {}
    for i, name in enumerate(held[0].vectors):
        progress(i / len(held[0].vectors), f"Sorting {len(order):,} rows by what was predicted ({name})")
        # read once more, since what was read of a mapped file counts as memory until the mapping ends
        vectors[name] = _scattered((each.vectors[name] for each in parts if len(each)), places, folder)
        lengths[name] = torch.cat([each.lengths[name] for each in held])[torch.from_numpy(order)]
    return Merged(
        np.concatenate([each.rows for each in held])[order],
        columns,
        np.concatenate([each.hashes for each in held])[order],
        _scattered((each.logits for each in parts if len(each)), places, folder),
        predicted[order],
        np.concatenate([each.probability for each in held])[order],
        vectors,
        lengths,
        {key: why for each in parts for key, why in each.skipped.items()},
    )


def _scattered(parts: Iterable[Tensor], places: Places, folder: Path | None) -> Tensor:
    """(R, K), the rows of all parts at their places."""
    out: NDArray[Any] | None = None
    for part, rows in zip(parts, places, strict=True):
        if out is None:
            out = _room((sum(map(len, places)), part.shape[1]), part.numpy().dtype, folder)
        out[rows] = part.numpy()
    return torch.from_numpy(out)


def _room(shape: tuple[int, int], kind: np.dtype[Any], folder: Path | None) -> NDArray[Any]:
    if folder is None:
        return np.empty(shape, kind)
    with tempfile.TemporaryFile(dir=folder) as file:  # the mapping outlives it
        return np.asarray(np.memmap(file, kind, "w+", shape=shape))
