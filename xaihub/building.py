"""References for a classifier, made from labelled pictures in batches."""

import copy
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
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
from xaihub.hooks import recording
from xaihub.images import perceptual_hash, pixel_digest
from xaihub.passes import tap
from xaihub.progress import Progress, silent
from xaihub.references import Made, ReferenceSet

__all__ = ["build_references"]

_NO_PIXELS = torch.empty(0)  # a million rows are kept while they are collected, without what the network was given
_QUALITY = 92  # of the stored crops: their predictions are the originals', only their heatmaps are drawn again


@recording
def build_references(
    classifier: Classifier,
    dataset: LabelledPictures | str | Path,
    *,
    embedder: str = "target-layer",
    batch_size: int | None = None,
    limit: int | None = None,
    progress: Progress = silent,
    **source: Any,
) -> ReferenceSet:
    """References for a classifier from labelled pictures: a folder of class folders, a Hub dataset, or ones in memory.

    Args:
        batch_size: pictures at once; `Classifier.batch` if not given.
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
    size = classifier.batch if batch_size is None else batch_size
    if size < 1:
        raise DatasetError(f"A batch of {size} pictures embeds none. Give 1 or more.")
    columns = _Columns()
    with tap(_quick(classifier)) as run:
        for batch in _batches(classifier, rows, size, progress):
            passed = run(torch.stack([seen.pixels for seen in batch]))
            vectors = torch.nn.functional.normalize(embed(passed).cpu().float(), dim=1)
            columns.add(batch, vectors, passed.logits.detach().cpu().float())
    if not columns.rows:
        raise DatasetError(
            f"None of the {len(rows)} pictures of {rows.name} could be read. {next(iter(rows.skipped.values()), '')}"
        )
    progress(1.0, f"Embedded {len(columns.rows):,} pictures")
    return columns.sorted(classifier, _made(classifier, rows, embedder))


def _quick(classifier: Classifier) -> Classifier:
    """The same classifier with a copy of its network laid out channels last, where a processor is quicker for it.

    The same sums in another order: answers differ in the last digit (benchmarks/embedding.py has the figures).
    """
    kernels = [weight for weight in classifier.module.parameters() if weight.ndim == 4]
    if classifier.device.type != "cpu" or not kernels:
        return classifier
    with classifier.lock:
        module = copy.deepcopy(classifier.module)
    return replace(classifier, module=module.to(memory_format=torch.channels_last), lock=threading.RLock())


@dataclass(frozen=True)
class _Seen:
    """A row as the classifier sees it, made ready on another thread."""

    pixels: Tensor
    digest: str
    hashed: int
    stored: bytes
    key: str = ""
    label: str | None = None


@dataclass
class _Columns:
    """The rows of a reference set while they are collected."""

    rows: list[_Seen] = field(default_factory=list)
    embeddings: list[Tensor] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)

    def add(self, batch: list[_Seen], vectors: Tensor, logits: Tensor) -> None:
        self.rows += [replace(seen, pixels=_NO_PIXELS) for seen in batch]
        self.embeddings.append(vectors)
        self.logits.append(logits)

    def sorted(self, classifier: Classifier, made: Made) -> ReferenceSet:
        logits = torch.cat(self.logits)
        probabilities = classifier.probabilities(logits)
        best = probabilities.max(1)
        order = torch.argsort(best.indices, stable=True)
        rows = [self.rows[i] for i in order.tolist()]
        return ReferenceSet(
            made,
            classifier.labels,
            torch.cat(self.embeddings)[order],
            logits[order],
            best.indices[order].numpy().astype(np.int64),
            best.values[order].numpy().astype(np.float32),
            tuple(seen.label for seen in rows),
            tuple(seen.key for seen in rows),
            tuple(seen.digest for seen in rows),
            np.array([seen.hashed for seen in rows], dtype=np.uint64),
            tuple(seen.stored for seen in rows),
        )


def _batches(classifier: Classifier, rows: LabelledPictures, size: int, progress: Progress) -> Iterator[list[_Seen]]:
    def see(picture: Image.Image) -> _Seen:
        pixels = classifier.transform(picture)
        seen = classifier.transform.picture_of(pixels)
        return _Seen(pixels, pixel_digest(seen), perceptual_hash(seen), _encode(seen))

    batch: list[_Seen] = []
    for done, (key, label, seen) in enumerate(rows.prepared(see)):
        batch.append(replace(seen, key=key, label=label))
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
        classifier.fingerprint,
    )
