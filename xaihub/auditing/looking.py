"""Every picture of a dataset looked at once: its nuisances, its hash, and what a classifier says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xaihub.auditing.nuisances import NUISANCES
from xaihub.auditing.sight import look
from xaihub.classifier import Classifier
from xaihub.datasets import Get, LabelledPictures
from xaihub.duplicates import groups
from xaihub.errors import DatasetError
from xaihub.progress import Progress, silent
from xaihub.same_content import EDGE, same_content, small

__all__ = ["Hashed", "Looked", "hashed", "look_through"]


@dataclass(frozen=True, eq=False)
class Hashed:
    """By what pictures are compared: M of them.

    Attributes:
        small: (M, 16, 16, 3).
    """

    keys: tuple[str, ...]
    labels: tuple[str | None, ...]
    small: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Looked:
    """N labelled pictures.

    Attributes:
        features: by nuisance, (N, F).
        kinds: by nuisance, a word for each picture, where it has words.
        together: the places of pictures that are near copies of each other; most groups have one.
        logits: (N, C) of the classifier, if there is one.
        unlabelled: how many pictures had no label and were passed over.
    """

    keys: tuple[str, ...]
    labels: tuple[str, ...]
    features: Mapping[str, NDArray[np.float64]]
    kinds: Mapping[str, tuple[str, ...]]
    compared: Hashed
    together: Sequence[Sequence[int]]
    logits: Tensor | None
    unlabelled: int

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def names(self) -> tuple[str, ...]:
        """The labels that occur, in the order of the alphabet."""
        return tuple(sorted(set(self.labels)))

    @property
    def truth(self) -> NDArray[np.int64]:
        """(N,), places in `names`."""
        place = {name: i for i, name in enumerate(self.names)}
        return np.array([place[label] for label in self.labels], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _One:
    features: list[tuple[float, ...]]
    kinds: list[str]
    small: NDArray[np.uint8]
    pixels: Tensor | None


def look_through(
    pictures: LabelledPictures, classifier: Classifier | None = None, progress: Progress = silent
) -> Looked:
    """Each labelled picture, decoded once; no more than a batch of their pixels is held at any time.

    Broken pictures are named in `pictures.skipped`.

    Raises:
        DatasetError: fewer than two labels have pictures that can be read.
        CancelledError: from `progress`.
    """
    keys, labels, ones, unlabelled = list[str](), list[str](), list[_One](), 0
    batch, logits = list[Tensor](), list[Tensor]()

    def flush() -> None:
        if classifier is not None and batch:
            logits.extend(_asked(classifier, batch))
            batch.clear()

    for done, (key, label, one) in enumerate(pictures.worked(lambda get: _one(get, classifier))):
        progress(done / max(1, len(pictures)), f"Looked at {done + 1:,} of {len(pictures):,} pictures")
        if label is None:
            unlabelled += 1
            continue
        keys.append(key)
        labels.append(label)
        if one.pixels is not None:
            batch.append(one.pixels)
        ones.append(_without_pixels(one))
        if classifier is not None and len(batch) >= classifier.batch:
            flush()
    flush()
    if len(set(labels)) < 2:
        raise DatasetError(_too_few(pictures, labels))
    compared = Hashed(tuple(keys), tuple(labels), _column([one.small for one in ones]))
    return Looked(
        tuple(keys),
        tuple(labels),
        {name: _numbers([one.features[i] for one in ones]) for i, name in enumerate(NUISANCES)},
        {name: tuple(one.kinds[i] for one in ones) for i, (name, entry) in enumerate(NUISANCES.items()) if entry.kind},
        compared,
        groups(len(keys), same_content(compared.small)),
        torch.cat(logits) if logits else None,
        unlabelled,
    )


def hashed(pictures: LabelledPictures, progress: Progress = silent) -> Hashed:
    """What another split's pictures are compared by."""
    keys, labels, found = list[str](), list[str | None](), list[NDArray[np.uint8]]()
    for done, (key, label, one) in enumerate(pictures.prepared(small)):
        progress(done / max(1, len(pictures)), f"Comparing with the split {pictures.split or pictures.name}")
        keys.append(key)
        labels.append(label)
        found.append(one)
    return Hashed(tuple(keys), tuple(labels), _column(found))


def _one(get: Get, classifier: Classifier | None) -> _One:
    given: bytes | Path | Image.Image = get()
    sight = look(given)
    features = [tuple(map(float, entry.measure(sight))) for entry in NUISANCES.values()]
    kinds = [entry.kind(sight) if entry.kind else "" for entry in NUISANCES.values()]
    pixels = classifier.transform(sight.picture) if classifier is not None else None
    return _One(features, kinds, small(sight.picture), pixels)


def _without_pixels(one: _One) -> _One:
    return _One(one.features, one.kinds, one.small, None)


def _asked(classifier: Classifier, batch: list[Tensor]) -> list[Tensor]:
    """(n, C) each; picture by picture where preprocessing keeps each picture's own shape."""
    if len({tuple(pixels.shape) for pixels in batch}) == 1:
        return [classifier.logits(torch.stack(batch)).cpu()]
    return [classifier.logits(pixels[None]).cpu() for pixels in batch]


def _numbers(rows: list[tuple[float, ...]]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64).reshape(len(rows), -1)


def _column(found: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.stack(found) if found else np.zeros((0, EDGE, EDGE, 3), np.uint8)


def _too_few(pictures: LabelledPictures, labels: Sequence[str]) -> str:
    if pictures.skipped and not labels:
        why = next(iter(pictures.skipped.values()))
        return f"None of the {len(pictures)} pictures of {pictures.name} could be read. {why}"
    there = f"all of its pictures that can be read are {labels[0]!r}" if labels else "its pictures have no labels"
    return f"{pictures.name} cannot be audited: {there}. An audit compares the pictures of two labels or more."
