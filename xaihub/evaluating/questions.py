"""What is asked about: pictures as the classifier sees them, the class explained, and what is to be found there."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.datasets import LabelledPictures, is_dataset_folder, open_flat_folder
from xaihub.datasets.class_folders import is_flat_folder
from xaihub.datasets.pictures import same
from xaihub.datasets.splits import Source
from xaihub.errors import DatasetError
from xaihub.folders import folder_named
from xaihub.images import PictureLike
from xaihub.progress import Progress, silent
from xaihub.records import Box

__all__ = [
    "Batch", "Images", "Mask", "Target", "batches", "boxes_on_crop", "mask_on_crop", "named_pictures", "opened",
]  # fmt: skip

Images: TypeAlias = LabelledPictures | Sequence[PictureLike] | str | Path
"""Labelled pictures, or paths, bytes, PIL images, arrays in a list; or a folder or a dataset's id."""

Target: TypeAlias = str | int | Sequence[str | int] | None
"""A class, or several of which the most probable one is explained, or None for the predicted one."""

Mask: TypeAlias = NDArray[np.bool_] | Sequence[Box] | None
"""Where it is on the original picture: (height, width) of it, or boxes in its pixels."""

BATCH = 16  # pictures whose maps are in memory at once, and what a kill may cost


class _Seen(NamedTuple):
    pixels: Tensor
    crop: Box
    size: tuple[int, int]
    digest: str


@dataclass(frozen=True, eq=False)
class Batch:
    """N questions whose pixels have one shape.

    Attributes:
        numbers: (N,) places among all that were given. `keys`: (N,) the pictures' names.
        pixels: (N, 3, H, W).
        digests: (N,) of the pixels; equal where two questions are about one photograph.
        wanted: (N,) the class indices of which the most probable is explained; none for the predicted class.
        masks: (N, H, W) bool, where the thing is; None where nobody said.
    """

    numbers: tuple[int, ...]
    keys: tuple[str, ...]
    pixels: Tensor
    digests: tuple[str, ...]
    wanted: tuple[tuple[int, ...], ...]
    masks: Tensor | None

    def __len__(self) -> int:
        return len(self.numbers)


def named_pictures(images: Images, progress: Progress = silent) -> LabelledPictures:
    """The pictures of a dataset as they are; others under the name of their file, or their number.

    Raises:
        DatasetError: these are no pictures.
        HubError: there is no such dataset.
    """
    if isinstance(images, LabelledPictures):
        return images
    if isinstance(images, (str, Path)):
        return opened(Source(_place(images)), progress)
    if not isinstance(images, Sequence) or isinstance(images, (bytes, bytearray)):
        raise DatasetError(
            f"Pictures cannot be taken from a single {type(images).__name__}. Give a list of pictures, a folder, a"
            " dataset's id, or what `open_dataset` returns."
        )
    sources = [(_name(image, i), None, partial(same, image)) for i, image in enumerate(images)]
    return LabelledPictures("the list given", sources, ())


def opened(source: Source, progress: Progress = silent) -> LabelledPictures:
    """The pictures of a folder or a dataset, of the split that something is measured on; labels are not needed.

    A folder none of whose folders holds pictures is taken as it is. Any other is read as `open_dataset` reads it.

    Raises:
        DatasetError, HubError: there are none, or they cannot be read.
    """
    folder = folder_named(str(source.data))
    if folder is None or is_dataset_folder(folder) or not is_flat_folder(folder, source.layout, source.label_column):
        return source.open(source.to_measure(), progress)
    if source.split is not None:
        raise DatasetError(
            f"{str(folder)!r} has no split {source.split!r}. It is a folder of pictures, which has none. Name no split."
        )
    return open_flat_folder(folder, limit=source.limit)


def _place(images: str | Path) -> str:
    """A folder or what may be a dataset's id."""
    text = str(images)
    if os.path.isfile(Path(text).expanduser()):
        raise DatasetError(f"{text!r} is one file. Give a list, such as [{text!r}], or a folder of pictures.")
    if isinstance(images, Path) and folder_named(text) is None:
        raise DatasetError(f"There is no folder {text!r}. Name a folder of pictures, or give a list of them.")
    return text


def batches(
    classifier: Classifier,
    pictures: LabelledPictures,
    *,
    targets: Sequence[Target] | None = None,
    masks: Sequence[Mask] | None = None,
    size: int = BATCH,
) -> Iterator[Batch]:
    """The questions in order, at most `size` at once; pictures are opened ahead on other threads, broken ones left out.

    Raises:
        ValueError: there are not as many targets or masks as pictures.
        UnknownNameError: a target is no class.
    """
    for what, given in (("targets", targets), ("masks", masks)):
        if given is not None and len(given) != len(pictures):
            raise ValueError(f"{len(pictures)} pictures need as many {what}, but {len(given)} were given.")
    wanted = [_indices(classifier, targets[i] if targets else None) for i in range(len(pictures))]
    # asked for by number, since a dataset may call two rows the same
    numbered = replace(
        pictures, sources=[(str(i), None, get) for i, (_, _, get) in enumerate(pictures.sources)], skipped={}
    )
    held: list[tuple[int, _Seen]] = []

    def made() -> Batch:
        numbers, seen = zip(*held, strict=True)
        pixels = torch.stack([each.pixels for each in seen])
        found = None if masks is None else torch.stack([_mask(masks[n], s) for n, s in held])
        keys = tuple(pictures.sources[n][0] for n in numbers)
        digests = tuple(each.digest for each in seen)
        held.clear()
        return Batch(numbers, keys, pixels, digests, tuple(wanted[n] for n in numbers), found)

    for number, _, seen in numbered.prepared(partial(_see, classifier)):
        if held and (len(held) == size or held[0][1].pixels.shape != seen.pixels.shape):
            yield made()
        held.append((int(number), seen))
    if held:
        yield made()
    pictures.skipped.update({pictures.sources[int(n)][0]: why for n, why in numbered.skipped.items()})


def boxes_on_crop(boxes: Sequence[Box], crop: Box, size: tuple[int, int]) -> Tensor:
    """(H, W) bool of a crop's pixels whose middles lie in any of the boxes, given in pixels of the original picture.

    Args:
        crop: where the crop lies on the original. `size`: (H, W) of its pixels.
    """
    x, y = _middles(crop, size)
    inside = torch.zeros(size, dtype=torch.bool)
    for left, upper, right, lower in boxes:
        inside |= ((y >= upper) & (y < lower))[:, None] & ((x >= left) & (x < right))[None, :]
    return inside


def mask_on_crop(mask: NDArray[np.bool_], crop: Box, size: tuple[int, int]) -> Tensor:
    """(H, W) bool of a mask (height, width) of the original picture, read at the middles of the crop's pixels."""
    x, y = (axis.floor().long() for axis in _middles(crop, size))
    rows, columns = mask.shape
    there = ((y >= 0) & (y < rows))[:, None] & ((x >= 0) & (x < columns))[None, :]
    held = torch.from_numpy(np.ascontiguousarray(mask, dtype=np.bool_))
    return held[y.clamp(0, rows - 1)][:, x.clamp(0, columns - 1)] & there


def _middles(crop: Box, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(W,) and (H,), where the middles of a crop's pixels lie on the original."""
    left, upper, right, lower = crop
    rows, columns = size
    x = left + (torch.arange(columns, dtype=torch.float64) + 0.5) * (right - left) / columns
    y = upper + (torch.arange(rows, dtype=torch.float64) + 0.5) * (lower - upper) / rows
    return x, y


def _mask(mask: Mask, seen: _Seen) -> Tensor:
    size = (seen.pixels.shape[1], seen.pixels.shape[2])
    if mask is None:
        return torch.zeros(size, dtype=torch.bool)
    if not isinstance(mask, np.ndarray):
        return boxes_on_crop(mask, seen.crop, size)
    if mask.shape != seen.size[::-1]:
        raise ValueError(f"A mask of shape {mask.shape} does not lie on a picture of {seen.size} pixels.")
    return mask_on_crop(mask, seen.crop, size)


def _see(classifier: Classifier, picture: Image.Image) -> _Seen:
    view = classifier.transform.view(picture)
    pixels = view.pixels[0]
    return _Seen(pixels, view.crop, picture.size, hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest())


def _indices(classifier: Classifier, target: Target) -> tuple[int, ...]:
    if target is None:
        return ()
    several = [target] if isinstance(target, (str, int)) else target
    return tuple(classifier.class_index(each) for each in several)


def _name(image: PictureLike, number: int) -> str:
    return str(getattr(image, "name", image)) if isinstance(image, str) or hasattr(image, "name") else str(number)
