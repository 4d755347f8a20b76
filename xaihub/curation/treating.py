"""Pictures of a dataset one by one: opened, treated, and what is to be known of each noted down."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xaihub.curation.sources import Origin
from xaihub.datasets import Get
from xaihub.errors import PictureError
from xaihub.fairness import encoded, file_format, square
from xaihub.images import open_picture, perceptual_hash, pixel_digest
from xaihub.progress import Progress
from xaihub.same_content import small

__all__ = ["Picture", "Spool", "look_at", "treated"]


@dataclass(frozen=True)
class Looked:
    """What a picture is compared by: its middle square, so that a cropped dataset can be compared with a whole one."""

    pixels: str  # sha256
    small: NDArray[np.uint8]  # (16, 16, 3)


@dataclass(frozen=True)
class Picture:
    """A picture that is in the dataset if nothing speaks against it.

    Attributes:
        origin: which of the sources it is from, by place.
        place: (offset, length) of its file in the spool.
        file: "format", "width", "height", "bytes" of the file that is stored.
        row: the columns of its row but "image" and "label".
        middle: of what is compared.
    """

    key: str
    label: str
    origin: int
    place: tuple[int, int]
    file: dict[str, Any]
    row: dict[str, Any]
    middle: Looked


class Spool:
    """Files of pictures one after another in a nameless file, so that a dataset need not fit into memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.end = stream, 0

    def add(self, data: bytes) -> tuple[int, int]:
        """Where the data lies now: offset and length."""
        self.stream.write(data)
        self.end += len(data)
        return self.end - len(data), len(data)

    def read(self, place: tuple[int, int]) -> bytes:
        """The data that lies there."""
        self.stream.seek(place[0])
        return self.stream.read(place[1])


def look_at(picture: Image.Image) -> Looked:
    """What a picture is compared by."""
    middle = square(picture)
    return Looked(pixel_digest(middle), small(middle))


def treated(
    place: int, origin: Origin, spool: Spool, *, size: int | None, smallest: int, progress: Progress
) -> Iterator[Picture]:
    """The pictures of a source, their files in the spool; what is left out is found in `origin.pictures.skipped`.

    Args:
        place: of the source among all.
        size: of the square that each becomes; None to leave its file as it is.
        smallest: pixels; pictures with a shorter side are left out.
    """
    work = partial(_treat, size=size, smallest=smallest)
    total = max(1, len(origin.pictures))
    for done, (key, _, (data, file, row, middle)) in enumerate(origin.pictures.worked(work)):
        progress(done / total, f"Treating {origin.label} picture {done + 1:,} of {total:,}")
        row |= {
            "source": origin.name,
            "source_key": key,
            "generator": origin.generator,
            "generator_revision": origin.generator_revision,
        }
        yield Picture(f"{origin.label}/{key}", origin.label, place, spool.add(data), file, row, middle)


def _treat(get: Get, *, size: int | None, smallest: int) -> tuple[bytes, dict[str, Any], dict[str, Any], Looked]:
    given = get()
    picture, original = open_picture(given), _bytes(given)
    if min(picture.size) < smallest:
        raise PictureError(
            f"It is {picture.width} x {picture.height} pixels, smaller than {smallest} on its shorter side."
        )
    data = original if size is None else encoded(picture, size)
    stored = picture if size is None else open_picture(data)
    file = {"format": file_format(data), "width": stored.width, "height": stored.height, "bytes": len(data)}
    row = {
        "original_width": picture.width,
        "original_height": picture.height,
        "original_format": file_format(original),
        "original_sha256": hashlib.sha256(original).hexdigest(),
        "pixels_sha256": pixel_digest(stored),
        "perceptual_hash": f"{perceptual_hash(stored):016x}",
    }
    return data, file, row, look_at(stored)


def _bytes(given: bytes | Path | Image.Image) -> bytes:
    """The picture's file as it came; one that is in memory only is written as PNG."""
    if isinstance(given, bytes):
        return given
    if isinstance(given, Path):
        return given.read_bytes()
    stream = io.BytesIO()
    given.save(stream, "PNG")
    return stream.getvalue()
