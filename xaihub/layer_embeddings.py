"""What each of several layers makes of labelled pictures: their embeddings, from one pass for all layers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.passes import listening
from xaihub.progress import Progress, silent
from xaihub.references import ReferenceSet
from xaihub.target_layer import TargetLayer
from xaihub.tracing import to_maps

__all__ = ["LayerEmbeddings", "embed_layers", "means", "rows_of"]

BATCH = 8  # pictures: their early maps still fit the processor's cache, and Stop is heard soon


@dataclass(frozen=True, eq=False)
class LayerEmbeddings:
    """R reference pictures at several layers.

    Attributes:
        layers: first to last.
        vectors: of each layer, (R, K) float32, each row of length one: the mean of its maps over the places.
        references, rows: which pictures they are.
        logits: (R, C), what the classifier says of them.
    """

    layers: tuple[TargetLayer, ...]
    vectors: tuple[Tensor, ...]
    references: ReferenceSet
    rows: tuple[int, ...]
    logits: Tensor

    def __len__(self) -> int:
        return len(self.rows)


def embed_layers(
    classifier: Classifier,
    references: ReferenceSet,
    layers: Sequence[TargetLayer],
    *,
    limit: int | None = None,
    progress: Progress = silent,
) -> LayerEmbeddings:
    """The references at several layers: one forward pass of each picture, without a graph and without keeping its maps.

    References that another classifier made serve as well: only their pictures are used, which are that one's crops.

    Args:
        limit: how many pictures at most; they are taken evenly from the predicted classes.

    Raises:
        CancelledError: from `progress`; nothing is kept.
    """
    rows = rows_of(references, limit)
    made = references.made
    mine = (made.classifier, made.classifier_revision) == (classifier.repo_id, classifier.revision)
    prepare = classifier.transform.pixels_of if mine else classifier.transform
    found: list[list[Tensor]] = []
    with means(classifier, layers) as run:
        for done, batch in _batches(references, rows, prepare, classifier.at_once(BATCH)):
            progress(done / len(rows), f"Embedding picture {done + 1:,} of {len(rows):,} at {len(layers)} layers")
            found.append(run(batch))
    progress(1.0, f"Embedded {len(rows):,} pictures at {len(layers)} layers")
    *vectors, logits = (torch.cat(each) for each in zip(*found, strict=True))
    unit = tuple(torch.nn.functional.normalize(each, dim=1) for each in vectors)
    if mine:
        logits = references.logits[rows]  # what it said of the pictures before they were stored as JPEGs
    return LayerEmbeddings(tuple(layers), unit, references, tuple(rows), logits)


def rows_of(references: ReferenceSet, limit: int | None) -> list[int]:
    """At most so many rows; they lie sorted by predicted class, so even steps take from each."""
    count = len(references) if limit is None else min(limit, len(references))
    return [i * len(references) // count for i in range(count)]


@contextmanager
def means(classifier: Classifier, layers: Sequence[TargetLayer]) -> Iterator[Callable[[Tensor], list[Tensor]]]:
    """While open, gives `run(pixels)` -> the mean over places (N, K) of each layer, then the logits (N, C).

    Each mean is taken while the pass runs: eight layers cost no more memory than one, and nothing is copied.
    """
    views = {layer.name: layer.view for layer in layers}
    kept: dict[str, Tensor] = {}
    size = [(0, 0)]

    def keep(name: str, tensor: Tensor, _output: Any) -> None:
        kept[name] = to_maps(tensor, views[name], size[0]).float().mean((-2, -1)).cpu()  # the last call counts

    def run(pixels: Tensor) -> list[Tensor]:
        kept.clear()
        size[0] = (pixels.shape[2], pixels.shape[3])
        logits = forward(pixels)
        return [*(kept[layer.name] for layer in layers), logits.cpu()]

    with listening(classifier, layers, keep) as forward:
        yield run


def _batches(
    references: ReferenceSet, rows: Sequence[int], prepare: Callable[[Image.Image], Tensor], size: int
) -> Iterator[tuple[int, Tensor]]:
    """How many pictures came before, and the pixels (N, 3, H, W) of the next; a batch has pictures of one size."""
    done = 0
    for start in range(0, len(rows), size):
        pixels = [prepare(references.picture(row)) for row in rows[start : start + size]]
        for _, alike in groupby(pixels, key=lambda each: each.shape):
            batch = torch.stack(list(alike))
            yield done, batch
            done += len(batch)
