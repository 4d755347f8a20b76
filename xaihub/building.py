"""References for a classifier, made from labelled pictures in batches."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.datasets import LabelledPictures, open_dataset
from xaihub.embedders import EMBEDDERS
from xaihub.errors import DatasetError
from xaihub.images import perceptual_hash, pixel_digest
from xaihub.passes import tap
from xaihub.progress import Progress, silent
from xaihub.references import Made, ReferenceSet

__all__ = ["build_references"]

_QUALITY = 92  # of the stored crops: their predictions are the originals', only their heatmaps are drawn again


def build_references(
    classifier: Classifier,
    dataset: LabelledPictures | str | Path,
    *,
    embedder: str = "target-layer",
    batch_size: int = 32,
    limit: int | None = None,
    progress: Progress = silent,
    **source: Any,
) -> ReferenceSet:
    """References for a classifier from labelled pictures: a folder of class folders, a Hub dataset, or ones in memory.

    Args:
        limit: how many pictures to take at most, drawn evenly from the classes.
        source: further arguments of `open_dataset` (`config`, `split`, `revision`, `token`, `seed`).

    Raises:
        DatasetError: it has no pictures that can be read.
        TargetLayerError: the classifier has no layer to embed with.
        CancelledError: from `progress`; nothing is kept.
    """
    rows = (
        dataset
        if isinstance(dataset, LabelledPictures)
        else open_dataset(dataset, limit=limit, progress=progress, **source)
    )
    embed = EMBEDDERS[embedder].embed
    columns = _Columns()
    with tap(classifier) as run:
        for batch in _batches(classifier, rows, batch_size, progress):
            passed = run(torch.stack([pixels for pixels, *_ in batch]))
            vectors = torch.nn.functional.normalize(embed(passed).cpu().float(), dim=1)
            columns.add(batch, vectors, passed.logits.detach().cpu().float(), classifier)
    if not columns.keys:
        raise DatasetError(
            f"None of the {len(rows)} pictures of {rows.name} could be read. {next(iter(rows.skipped.values()), '')}"
        )
    progress(1.0, f"Embedded {len(columns.keys):,} pictures")
    return columns.sorted(classifier, _made(classifier, rows, embedder))


@dataclass
class _Columns:
    """The rows of a reference set while they are collected."""

    keys: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)
    embeddings: list[Tensor] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)

    def add(
        self, batch: list[tuple[Tensor, str, str | None]], vectors: Tensor, logits: Tensor, classifier: Classifier
    ) -> None:
        for pixels, key, label in batch:
            seen = classifier.transform.picture_of(pixels)
            self.keys.append(key)
            self.labels.append(label)
            self.digests.append(pixel_digest(seen))
            self.hashes.append(perceptual_hash(seen))
            self.pictures.append(_encode(seen))
        self.embeddings.append(vectors)
        self.logits.append(logits)

    def sorted(self, classifier: Classifier, made: Made) -> ReferenceSet:
        logits = torch.cat(self.logits)
        probabilities = classifier.probabilities(logits)
        best = probabilities.max(1)
        order = torch.argsort(best.indices, stable=True)
        places = order.tolist()
        return ReferenceSet(
            made,
            classifier.labels,
            torch.cat(self.embeddings)[order],
            logits[order],
            best.indices[order].numpy().astype(np.int64),
            best.values[order].numpy().astype(np.float32),
            tuple(self.labels[i] for i in places),
            tuple(self.keys[i] for i in places),
            tuple(self.digests[i] for i in places),
            np.array([self.hashes[i] for i in places], dtype=np.uint64),
            tuple(self.pictures[i] for i in places),
        )


def _batches(
    classifier: Classifier, rows: LabelledPictures, size: int, progress: Progress
) -> Iterator[list[tuple[Tensor, str, str | None]]]:
    batch: list[tuple[Tensor, str, str | None]] = []
    for done, row in enumerate(rows):
        batch.append((classifier.transform(row.picture), row.key, row.label))
        if len(batch) == size:
            progress(done / max(1, len(rows)), f"Embedding picture {done + 1:,} of {len(rows):,}")
            yield batch
            batch = []
    if batch:
        yield batch


def _encode(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    return stream.getvalue()


def _made(classifier: Classifier, rows: LabelledPictures, embedder: str) -> Made:
    return Made(
        classifier.repo_id,
        classifier.revision,
        classifier.target_layer.name if classifier.target_layer else "",
        embedder,
        classifier.transform.description,
        rows.name,
        rows.revision,
        rows.config,
        rows.split,
        rows.note,
        len(rows.skipped),
        {name: version(name) for name in ("torch", "numpy", "pillow")},
    )
