"""Pictures as a classifier's target layer sees them: what prototypes are cut from, and what their health is told by."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xaihub.building.assembling import address_of
from xaihub.building.embedding import encode
from xaihub.classifier import Classifier
from xaihub.datasets import Get, LabelledPictures
from xaihub.datasets.pictures import draw, drawn
from xaihub.duplicates import groups
from xaihub.errors import DatasetError, UnsupportedModelError
from xaihub.hooks import evaluating
from xaihub.images import open_picture, pixel_digest
from xaihub.passes import Pass, tap, target_layer_of
from xaihub.preprocessing import Transform
from xaihub.progress import Progress, silent
from xaihub.prototypes import Reading
from xaihub.references import ReferenceSet
from xaihub.same_content import same_content, small
from xaihub.target_layer import TargetLayer

__all__ = ["INSIDE", "Looked", "black_box_of", "look", "most_pictures", "read", "renamed"]

INSIDE = "black_box."  # what the names of a black box's layers begin with, inside the network made from it

MOST_BYTES = 2**30  # of maps that are held at once


@dataclass(frozen=True, eq=False)
class Looked:
    """N pictures, with what one pass of a classifier made of each.

    Attributes:
        classifier: the one that looked; of a prototype head the black box below it.
        maps: (N, K, h, w) float32 of its target layer, on the CPU. `logits`: (N, C).
        keys: (N,) which row of the dataset each is; `addresses` (N,) where that row is shown, or None.
        labels: (N,) the dataset's own, or None.
        digests: (N,) sha256 of the pixels it saw; `copies` (N,) equal for pictures that are near copies of each other.
        directions: (C, K), what each logit takes of the mean map; None where no linear head reads just that.
        facts: of the dataset, and of how pictures were chosen.
    """

    classifier: Classifier
    maps: Tensor = field(repr=False)
    logits: Tensor = field(repr=False)
    keys: tuple[str, ...] = field(repr=False)
    addresses: tuple[str | None, ...] = field(repr=False)
    labels: tuple[str | None, ...] = field(repr=False)
    digests: tuple[str, ...] = field(repr=False)
    copies: tuple[int, ...] = field(repr=False)
    directions: Tensor | None = field(repr=False)
    facts: Mapping[str, Any]
    _gets: tuple[Get, ...] = field(repr=False)
    _prepare: Callable[[Image.Image], Tensor] = field(repr=False)
    _crops: bool = field(default=False, repr=False)  # whether they are what a classifier saw already

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def predicted(self) -> tuple[str, ...]:
        """(N,), what the classifier calls each."""
        return tuple(self.classifier.labels[index] for index in self.logits.argmax(1).tolist())

    def pixels(self, rows: Sequence[int]) -> Tensor:
        """(n, 3, H, W) of some of them, opened again."""
        return torch.stack([self._prepare(open_picture(self._gets[row]())) for row in rows])

    def crop(self, row: int) -> Image.Image:
        """What the classifier saw of one, opened again."""
        return self.classifier.transform.picture_of(self.pixels([row])[0])

    def stored(self, row: int) -> bytes:
        """The same, encoded: as the references keep it, where it came from them."""
        given = self._gets[row]()
        if isinstance(given, bytes) and self._crops and pixel_digest(open_picture(given)) == self.digests[row]:
            return given
        return encode(self.crop(row))


def look(
    classifier: Classifier,
    pictures: ReferenceSet | LabelledPictures,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Looked:
    """The pictures through the classifier, once. At most as many as fit 1 GB of maps, drawn evenly from the classes.

    Args:
        pictures: references give the crops that they keep; the classes they are drawn from are the predicted ones. Of
            other pictures these are the dataset's labels, since nobody has asked the classifier yet.

    Raises:
        TargetLayerError: the classifier has no layer that shows where.
        ReferencesError: the pictures are not kept with the references.
        DatasetError: there are none that can be read.
        UnsupportedModelError: pictures keep their proportions, so that their maps have no cells in common.
        CancelledError: from `progress`.
    """
    classifier = black_box_of(classifier)
    rows, prepare = _rows_of(classifier, pictures)
    chosen = draw(rows.sources, most_pictures(target_layer_of(classifier)), seed)
    held = _Held(len(chosen))
    some = replace(rows, sources=chosen, skipped={})
    with tap(classifier) as run:
        for batch in _batches(some, partial(_prepared, classifier, prepare), classifier.batch):
            progress(held.seen / len(chosen), f"Reading the maps of picture {held.seen + 1:,} of {len(chosen):,}")
            held.add(batch, run)
    if not held.rows:
        why = next(iter(some.skipped.values()), "It holds no pictures.")
        raise DatasetError(f"No picture of {rows.name} could be read, so there is nothing to take a patch from. {why}")
    return held.looked(classifier, pictures, replace(some, note=drawn(len(chosen), len(rows)) or rows.note), prepare)


def most_pictures(layer: TargetLayer) -> int:
    """How many pictures' maps of a layer are held at once."""
    return max(1, MOST_BYTES // (4 * layer.view.channels * layer.grid[0] * layer.grid[1]))


def _rows_of(
    classifier: Classifier, pictures: ReferenceSet | LabelledPictures
) -> tuple[LabelledPictures, Callable[[Image.Image], Tensor]]:
    """The pictures by their numbers, under the classes they are drawn from, and how one becomes pixels."""
    if isinstance(pictures, LabelledPictures):
        # called by number, since a dataset may call two rows the same
        sources = [(str(i), label, get) for i, (_, label, get) in enumerate(pictures.sources)]
        return replace(pictures, sources=sources), classifier.transform
    made, names = pictures.made, pictures.class_names
    found = [(str(i), names[c], partial(_kept, pictures, i)) for i, c in enumerate(pictures.predicted.tolist())]
    rows = LabelledPictures(
        made.dataset, found, names, made.dataset_revision, made.dataset_config, made.dataset_split, made.chosen,
        public=made.public,
    )  # fmt: skip
    return rows, partial(_of_crop, classifier.transform, classifier.input_size)


def _of_crop(transform: Transform, size: tuple[int, int], picture: Image.Image) -> Tensor:
    """The pixels of what references keep: a crop already, unless another classifier with another input made it."""
    return transform.pixels_of(picture) if picture.size == size[::-1] else transform(picture)


def _kept(references: ReferenceSet, row: int) -> bytes | Image.Image:
    data = references.pictures[row]
    return references.picture(row) if data is None else data  # the first says why there is none


class _Seen(NamedTuple):
    """A picture made ready on another thread."""

    pixels: Tensor
    digest: str
    small: np.ndarray


def _prepared(classifier: Classifier, prepare: Callable[[Image.Image], Tensor], picture: Image.Image) -> _Seen:
    pixels = prepare(picture)
    image = classifier.transform.picture_of(pixels)
    return _Seen(pixels, pixel_digest(image), small(image))


def _batches(
    rows: LabelledPictures, prepare: Callable[[Image.Image], _Seen], size: int
) -> Iterator[list[tuple[int, _Seen]]]:
    numbered = ((int(number), seen) for number, _, seen in rows.prepared(prepare))
    while batch := list(islice(numbered, size)):
        yield batch


class _Held:
    """What the batches gave so far; the maps lie in one tensor from the beginning, since they fill the memory."""

    def __init__(self, count: int) -> None:
        self.count, self.seen = count, 0
        self.rows: list[int] = []
        self.pictures: list[_Seen] = []
        self.maps = torch.empty(0)
        self.logits: list[Tensor] = []
        self.directions: Tensor | None = None

    def add(self, batch: Sequence[tuple[int, _Seen]], run: Callable[[Tensor], Pass]) -> None:
        passed = run(_stacked([seen.pixels for _, seen in batch]))
        maps, logits = passed.activations.cpu(), passed.logits.detach().float().cpu()
        if not self.seen:
            self.maps = torch.empty(self.count, *maps.shape[1:])
            self.directions = _directions(passed)
        elif maps.shape[1:] != self.maps.shape[1:]:
            raise _unlike(maps.shape, self.maps.shape)
        self.seen += len(batch)
        fine = logits.isfinite().all(1) & maps.flatten(1).isfinite().all(1)
        self.maps[len(self.rows) : len(self.rows) + int(fine.sum())] = maps[fine]
        self.logits.append(logits[fine])
        for (row, seen), whole in zip(batch, fine.tolist(), strict=True):
            if whole:
                self.rows.append(row)
                self.pictures.append(seen._replace(pixels=torch.empty(0)))

    def looked(
        self,
        classifier: Classifier,
        pictures: ReferenceSet | LabelledPictures,
        rows: LabelledPictures,
        prepare: Callable[[Image.Image], Tensor],
    ) -> Looked:
        key, address, label = _columns(pictures)
        gets = {int(number): get for number, _, get in rows.sources}
        facts = {
            "dataset": rows.name, "revision": rows.revision, "config": rows.config, "split": rows.split,
            "public": rows.public, "pictures": len(self.rows), "of": len(pictures),
            "skipped": len(rows.sources) - len(self.rows), "chosen": rows.note or None,
        }  # fmt: skip
        return Looked(
            classifier,
            self.maps[: len(self.rows)],
            torch.cat(self.logits),
            tuple(key(row) for row in self.rows),
            tuple(address(row) for row in self.rows),
            tuple(label(row) for row in self.rows),
            tuple(seen.digest for seen in self.pictures),
            _copies(self.pictures),
            self.directions,
            facts,
            tuple(gets[row] for row in self.rows),
            prepare,
            isinstance(pictures, ReferenceSet),
        )


def _columns(pictures: ReferenceSet | LabelledPictures) -> tuple[Callable[[int], Any], ...]:
    """Row -> its key, its address and its label."""
    if isinstance(pictures, ReferenceSet):
        sources = pictures.sources or (None,) * len(pictures)
        return pictures.keys.__getitem__, sources.__getitem__, pictures.labels.__getitem__
    rows, address = pictures.sources, address_of(pictures)
    return lambda row: rows[row][0], lambda row: address(rows[row][0]), lambda row: rows[row][1]


def _copies(pictures: Sequence[_Seen]) -> tuple[int, ...]:
    """(N,), the group of each: pictures of equal pixels, and near copies."""
    pairs = same_content(np.stack([each.small for each in pictures]))
    first: dict[str, int] = {}
    equal = [(first.setdefault(each.digest, place), place) for place, each in enumerate(pictures)]
    group = np.empty(len(pictures), dtype=np.int64)
    for number, places in enumerate(groups(len(pictures), [*equal, *pairs.tolist()])):
        group[places] = number
    return tuple(group.tolist())


def _directions(passed: Pass) -> Tensor | None:
    """(C, K), the rows of the linear head, if what it reads is the mean of the maps."""
    read, mean = passed.penultimate, passed.embedding
    if read is None or read.shape != mean.shape:
        return None
    if not torch.allclose(read, mean, rtol=1e-3, atol=1e-3 * float(mean.abs().max())):
        return None
    count, classes = passed.logits.shape
    rows = [passed.head_gradients(passed.score([index] * count)) for index in range(classes)]
    return torch.stack([row[0].cpu() for row in rows if row is not None])


def _stacked(pixels: Sequence[Tensor]) -> Tensor:
    for each in pixels:
        if each.shape != pixels[0].shape:
            raise _unlike(each.shape, pixels[0].shape)
    return torch.stack(list(pixels))


def _unlike(one: Sequence[int], other: Sequence[int]) -> UnsupportedModelError:
    sizes = " and ".join(f"{size[-2]} x {size[-1]}" for size in (one, other))
    return UnsupportedModelError(
        f"This classifier keeps the proportions of pictures, so that they have different sizes ({sizes}), while"
        " prototypes compare pictures cell by cell. Crop all pictures to one shape first."
    )


def black_box_of(classifier: Classifier) -> Classifier:
    """The classifier that a prototype head was put on; of any other, itself.

    A network that was trained together with its prototypes has no black box inside that anybody would know.
    """
    made = classifier.prototypes
    if made is None or made.kind != "head":
        return classifier
    labels, layer = made.black_box_labels, classifier.target_layer
    return replace(
        classifier, module=made.network.black_box, prototypes=None, labels=labels, repo_id=made.black_box,
        target_layer=renamed(layer, lambda name: name.removeprefix(INSIDE)) if layer else None, revision=None,
        reading=made.black_box_reading, activation=made.black_box_reading.activation,
    )  # fmt: skip


@torch.no_grad()
def read(classifier: Classifier, pixels: Tensor) -> Reading:
    """All that one pass of a classifier by prototypes tells of pixels (N, 3, H, W), out of the graph.

    Raises:
        UnsupportedModelError: it does not answer by prototypes.
    """
    if classifier.prototypes is None:
        raise UnsupportedModelError(f"{classifier.repo_id} has no prototypes. Make some with `fit_prototypes`.")
    with evaluating(classifier.module, classifier.lock):
        return classifier.prototypes.network.read(pixels.to(classifier.device, copy=True))  # it may change it in place


def renamed(layer: TargetLayer, name: Callable[[str], str]) -> TargetLayer:
    """The same layer, its parts and its alternatives, under other names."""
    parts = tuple(renamed(part, name) for part in layer.parts)
    others = tuple(renamed(other, name) for other in layer.alternatives)
    called = " + ".join(part.name for part in parts) or name(layer.name)
    return replace(layer, name=called, parts=parts, alternatives=others)
