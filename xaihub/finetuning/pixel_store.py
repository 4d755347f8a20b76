"""Labelled pictures as the bytes a network sees, in memory as far as they fit, else read again for each batch."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xaihub.datasets import LabelledPictures
from xaihub.duplicates import groups
from xaihub.errors import DatasetError
from xaihub.images import perceptual_hash
from xaihub.preprocessing import Transform
from xaihub.progress import Progress, silent
from xaihub.same_content import same_content, sketches, small

__all__ = ["PixelStore", "network_inputs", "read_pixels"]

_UNLABELLED = "It has no label."


@dataclass(frozen=True, eq=False)
class PixelStore:
    """N pictures that could be read and have a label, by their places.

    Attributes:
        rows: the sources of exactly these pictures.
        labels: the names of the classes, in the order of their indices.
        truth: (N,), indices into `labels`.
        hashes: (N,), perceptual ones; small: (N, 16, 16, 3), what near copies are found by.
        fingerprint: 64 hex digits that change with any pixel, label or order.
        lost: key -> why a picture is not among them.
    """

    rows: LabelledPictures
    transform: Transform
    labels: tuple[str, ...]
    truth: Tensor
    hashes: NDArray[np.uint64]
    small: NDArray[np.uint8]
    fingerprint: str
    lost: dict[str, str]
    held: Tensor | None = None

    def __len__(self) -> int:
        return len(self.truth)

    @cached_property
    def content_groups(self) -> list[list[int]]:
        """The places 0 to N - 1, those of the same content together; most stand alone."""
        return groups(len(self), same_content(self.small))

    @cached_property
    def sketches(self) -> NDArray[np.uint64]:
        """(N, 4), of each image's content."""
        return sketches(self.small)

    def __getitem__(self, chosen: Tensor) -> Tensor:
        """(n, C, H, W) bytes: the levels 0 to 255 of each channel before normalisation."""
        if self.held is not None:
            return self.held[chosen]
        wanted = replace(self.rows, sources=[self.rows.sources[i] for i in chosen.tolist()], skipped={})
        read = [levels for _, _, levels in wanted.prepared(lambda picture: _levels(self.transform, picture))]
        if wanted.skipped:
            raise DatasetError(
                f"A picture of {self.rows.name} can no longer be read: {next(iter(wanted.skipped.items()))}"
            )
        return torch.stack(read)

    def batches(self, size: int) -> Iterator[Tensor]:
        """All of them in order, (n, C, H, W) bytes."""
        return (self[chosen] for chosen in torch.arange(len(self)).split(size))


def network_inputs(levels: Tensor, transform: Transform) -> Tensor:
    """(n, C, H, W) normalised as the transform does, of levels in [0, 1] or bytes."""
    levels = levels / 255 if levels.dtype == torch.uint8 else levels
    return levels * transform.span.to(levels.device)[:, None, None] + transform.low.to(levels.device)[:, None, None]


def read_pixels(
    rows: LabelledPictures,
    transform: Transform,
    labels: Sequence[str],
    *,
    budget: int = 2 * 2**30,
    progress: Progress = silent,
) -> PixelStore:
    """Every picture read once; broken ones and ones without a label are left out and counted.

    Args:
        labels: the classes, in the order of their indices.
        budget: bytes of memory for pixels; where they would need more, they are read again when they are asked for.

    Raises:
        DatasetError: nothing is left, there are other labels or none, or the network would see several sizes.
    """
    held: list[Tensor] = []
    sources, names, hashes, shrunk = [], [], [], []
    lost: dict[str, str] = {}
    digest, fits = hashlib.sha256(repr(tuple(labels)).encode()), True
    by_key = {source[0]: source for source in rows.sources}
    for key, label, (levels, hashed, seen) in rows.prepared(lambda picture: _seen(transform, picture)):
        if label is None:
            lost[key] = _UNLABELLED
            continue
        if label not in labels:
            raise DatasetError(_unknown(rows, label, labels))
        if held and levels.shape != held[0].shape:
            raise _uneven(rows, held[0], levels)
        digest.update(label.encode() + levels.numpy().tobytes())
        fits = fits and levels.nbytes * len(rows) <= budget
        if fits or not held:
            held.append(levels)
        sources.append(by_key[key])
        names.append(label)
        hashes.append(hashed)
        shrunk.append(seen)
        progress(len(names) / max(1, len(rows)), f"Reading picture {len(names):,} of {len(rows):,}")
    lost |= rows.skipped
    if not names:
        raise _empty(rows, lost)
    truth = torch.tensor([labels.index(name) for name in names])
    return PixelStore(
        replace(rows, sources=sources, skipped={}), transform, tuple(labels), truth, np.array(hashes, dtype=np.uint64),
        np.stack(shrunk), digest.hexdigest(), lost, torch.stack(held) if fits else None,
    )  # fmt: skip


def _seen(transform: Transform, picture: Image.Image) -> tuple[Tensor, int, NDArray[np.uint8]]:
    return _levels(transform, picture), perceptual_hash(picture), small(picture)


def _levels(transform: Transform, picture: Image.Image) -> Tensor:
    """(C, H, W) bytes: what the network would be given, normalisation undone. Most resize in eight bits anyway."""
    levels = (transform(picture) - transform.low[:, None, None]) / transform.span[:, None, None]
    return (levels * 255).round().clamp(0, 255).to(torch.uint8)


def _unknown(rows: LabelledPictures, label: str, labels: Sequence[str]) -> str:
    split = f" (split {rows.split})" if rows.split else ""
    known = ", ".join(map(repr, labels[:10])) + (", ..." if len(labels) > 10 else "")
    return (
        f"{rows.name}{split} has pictures of the class {label!r}, but those to learn from are of {known}. Every split"
        " needs the same classes."
    )


def _uneven(rows: LabelledPictures, one: Tensor, other: Tensor) -> DatasetError:
    sizes = " and ".join(f"{size[2]} x {size[1]}" for size in (one.shape, other.shape))
    return DatasetError(
        f"This backbone's preprocessing makes pixels of several sizes of the pictures of {rows.name} ({sizes}), and a"
        " batch needs one. Crop the pictures to squares first (scripts/build_dataset.py does), or use another backbone."
    )


def _empty(rows: LabelledPictures, lost: dict[str, str]) -> DatasetError:
    if any(why == _UNLABELLED for why in lost.values()):
        return DatasetError(
            f"{rows.name} has no labels, so there is nothing to learn or to measure. Use a split or a column with"
            " labels, or put the pictures into class folders."
        )
    why = next(iter(lost.values()), "")
    return DatasetError(f"None of the {len(rows)} pictures of {rows.name} could be read. {why}".strip())
