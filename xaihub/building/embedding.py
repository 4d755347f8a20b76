"""A run of labelled pictures through the classifier and all embedders: opened once, passed once."""

import copy
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xaihub.building.assembling import address_of
from xaihub.classifier import Classifier
from xaihub.datasets import LabelledPictures
from xaihub.embedders import Batch, Embedder
from xaihub.images import perceptual_hash, pixel_digest
from xaihub.passes import Pass, tap
from xaihub.progress import Progress
from xaihub.shards import Embedded, Packed

__all__ = ["Lens", "encode", "open_lens"]

_QUALITY = 92  # of the stored crops: their predictions are the originals', only their heatmaps are drawn again

_NOT_FINITE = "What the classifier or an embedder makes of it is not finite: nothing can be compared with that."


@contextmanager
def open_lens(classifier: Classifier, embedders: Sequence[Embedder], batch: int) -> Iterator["Lens"]:
    """What looks at pictures, while the classifier is tapped."""
    with tap(_quick(classifier)) as run:
        yield Lens(classifier, embedders, batch, run)


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
    image: Image.Image
    digest: bytes
    hashed: int
    stored: bytes


@dataclass
class _Collected:
    """What the batches of a run gave so far."""

    rows: list[int] = field(default_factory=list)
    seen: list[tuple[bytes, int, bytes]] = field(default_factory=list)  # digest, perceptual hash, encoded
    logits: list[Tensor] = field(default_factory=list)
    vectors: list[list[Tensor]] = field(default_factory=list)  # of each embedder; none until the first batch


@dataclass(frozen=True, eq=False)
class Lens:
    """A tapped classifier and the embedders beside it."""

    classifier: Classifier
    embedders: Sequence[Embedder]
    batch: int
    run: Callable[[Tensor], Pass]

    def see(self, rows: LabelledPictures, span: slice, progress: Progress) -> Embedded:
        """What the rows of a span became; the same whichever other spans were seen before."""
        held = _Collected(vectors=[[] for _ in self.embedders])
        sources = rows.sources[span]
        # called by number, since a dataset may call two rows the same
        numbered = [(str(span.start + i), label, get) for i, (_, label, get) in enumerate(sources)]
        some = replace(rows, sources=numbered, skipped={})
        for batch in _batches(some.prepared(self._prepared), self.batch):
            done = batch[-1][0] + 1
            progress((done - len(batch)) / len(rows), f"Embedding picture {done:,} of {len(rows):,}")
            # some transforms keep a picture's proportions, and one pass has pictures of one size
            for _, alike in groupby(batch, key=lambda each: each[1].pixels.shape):
                some.skipped.update(self._add(held, list(alike)))
        skipped = {rows.sources[int(number)][0]: why for number, why in some.skipped.items()}
        return self._embedded(rows, held, skipped)

    def _prepared(self, picture: Image.Image) -> _Seen:
        pixels = self.classifier.transform(picture)
        image = self.classifier.transform.picture_of(pixels)
        return _Seen(pixels, image, bytes.fromhex(pixel_digest(image)), perceptual_hash(image), encode(image))

    def _add(self, held: _Collected, batch: Sequence[tuple[int, _Seen]]) -> dict[str, str]:
        """Row -> why it is left out, of those whose answers are no numbers."""
        passed = self.run(torch.stack([seen.pixels for _, seen in batch]))
        given = Batch([seen.image for _, seen in batch], passed, self.classifier.activation)
        found = [passed.logits, *(embedder.embed(given) for embedder in self.embedders)]
        logits, *vectors = (each.detach().float().cpu() for each in found)
        fine = logits.isfinite().all(1)
        for each in vectors:
            fine &= each.norm(dim=1).isfinite()  # no length, no direction
        kept = [pair for pair, whole in zip(batch, fine.tolist(), strict=True) if whole]
        for mine, each in zip(held.vectors, vectors, strict=True):
            mine.append(each[fine])
        held.rows += [row for row, _ in kept]
        held.seen += [(seen.digest, seen.hashed, seen.stored) for _, seen in kept]
        held.logits.append(logits[fine])
        return {str(row): _NOT_FINITE for (row, _), whole in zip(batch, fine.tolist(), strict=True) if not whole}

    def _embedded(self, rows: LabelledPictures, held: _Collected, skipped: dict[str, str]) -> Embedded:
        address = address_of(rows)
        keys = [rows.sources[row][0] for row in held.rows]
        columns: dict[str, Sequence[Any]] = {
            "key": keys,
            "label": [rows.sources[row][1] for row in held.rows],
            "source": [address(key) for key in keys],
            "digest": [digest for digest, _, _ in held.seen],
            "picture": [stored for _, _, stored in held.seen],
        }
        logits = torch.cat(held.logits) if held.logits else torch.empty(0, len(self.classifier.labels))
        best = self.classifier.probabilities(logits).max(1)
        embeddings = [torch.cat(vectors) if vectors else torch.empty(0, 0) for vectors in held.vectors]
        names = [embedder.name for embedder in self.embedders]
        return Embedded(
            np.array(held.rows, dtype=np.int64),
            {name: Packed.of(values) for name, values in columns.items()},
            np.array([hashed for _, hashed, _ in held.seen], dtype=np.uint64),
            logits,
            best.indices.numpy().astype(np.int64),
            best.values.numpy().astype(np.float32),
            {name: _unit(vectors) for name, vectors in zip(names, embeddings, strict=True)},
            {name: vectors.norm(dim=1) for name, vectors in zip(names, embeddings, strict=True)},
            skipped,
        )


def _unit(vectors: Tensor) -> Tensor:
    """(N, K) in half precision: searches rank what they find again in full, and cosines differ by 1e-3 at most."""
    return torch.nn.functional.normalize(vectors, dim=1).half()


def _batches(rows: Iterator[tuple[str, str | None, _Seen]], size: int) -> Iterator[list[tuple[int, _Seen]]]:
    batch: list[tuple[int, _Seen]] = []
    for number, _, seen in rows:
        batch.append((int(number), seen))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def encode(image: Image.Image) -> bytes:
    """A crop as it is stored."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    return stream.getvalue()
