"""What the nuisances of one picture are read from: its file as it came, its pixels, and a small version of them."""

import io
import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from xaihub.images import FORMATS, open_picture, thumbnail

__all__ = ["FileFacts", "Sight", "jpeg_quality", "look", "small_file"]

LITTLE = 128  # pixels of the small version's sides: what is compared by place is compared there
MIDDLE = 1024  # pixels of the part that is looked at in full resolution, a multiple of 8 so that JPEG's grid is kept
THUMB = 160  # pixels of the longer side of what is kept to be shown
_SAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
# The mean of the JPEG standard's luminance table (ITU-T T.81, K.1): libjpeg's qualities scale the whole table.
_STANDARD_MEAN = 57.625


@dataclass(frozen=True)
class FileFacts:
    """What a picture's file says before anything is decoded.

    Attributes:
        format: as Pillow calls it; "none" of a picture that is in memory only.
        width, height: as stored, before EXIF turns it.
        quality: of a JPEG file, 1 to 100 by its quantisation tables; NaN of any other.
        sampling: of a JPEG file's colours, such as "4:2:0".
        exif, profile: whether it has EXIF, and a colour profile.
    """

    format: str
    width: int
    height: int
    quality: float = math.nan
    sampling: str = ""
    exif: bool = False
    profile: bool = False


@dataclass(frozen=True, eq=False)
class Sight:
    """A picture as nuisances look at it; what several of them need is made once.

    Attributes:
        picture: upright and RGB, in full resolution.
    """

    file: FileFacts
    picture: Image.Image

    @cached_property
    def grey(self) -> NDArray[np.float32]:
        """(h, w) luminance from 0 to 255 of the middle, at most 1024 pixels a side, in full resolution."""
        width, height = self.picture.size
        # the corner of the part lies on JPEG's grid
        left, top = (max(0, side - MIDDLE) // 16 * 8 for side in (width, height))
        part = self.picture.crop((left, top, min(width, left + MIDDLE), min(height, top + MIDDLE)))
        return np.asarray(part.convert("L"), dtype=np.float32)

    @cached_property
    def little(self) -> NDArray[np.float32]:
        """(128, 128, 3) from 0 to 1: the whole picture squeezed to a square, so that places can be compared."""
        small = self.picture.resize((LITTLE, LITTLE), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float32) / np.float32(255)


_CAMERA = (
    271,
    272,
    34665,
)  # a TIFF is made of tags itself; these, its maker, model and EXIF directory, a camera writes


def look(given: bytes | Path | Image.Image) -> Sight:
    """The sight of a picture that a stranger may have sent.

    Raises:
        PictureError: it is no picture, a broken one, or beyond the limits of `open_picture`.
    """
    picture = open_picture(given)  # first: what is no picture is refused there, header and all
    if isinstance(given, Image.Image):
        return Sight(FileFacts("none", given.width, given.height), picture)
    return Sight(_facts(given if isinstance(given, bytes) else given.read_bytes()), picture)


def _facts(data: bytes) -> FileFacts:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
    kind = "JPEG" if found.format == "MPO" else str(found.format)  # a JPEG file with a second picture behind the first
    tables = getattr(found, "quantization", None)
    jpeg = isinstance(found, JpegImagePlugin.JpegImageFile) and bool(tables)
    return FileFacts(
        kind,
        *found.size,
        quality=jpeg_quality(tables[min(tables)]) if jpeg and tables else math.nan,
        sampling=_SAMPLINGS.get(JpegImagePlugin.get_sampling(found), "other") if jpeg else "",
        exif="exif" in found.info or any(tag in getattr(found, "tag_v2", ()) for tag in _CAMERA),
        profile="icc_profile" in found.info,
    )


def jpeg_quality(table: list[int]) -> float:
    """The libjpeg quality, 1 to 100, whose luminance table is as coarse as this one.

    libjpeg scales the standard's table by 50 / q below 50, and by 2 - q / 50 from there on. Other programs write tables
    of their own; for these it is the libjpeg quality of the same mean.
    """
    scale = float(np.mean(table)) / _STANDARD_MEAN
    return round(min(100.0, max(1.0, 50 / scale if scale > 1 else 100 - 50 * scale)))


def small_file(picture: Image.Image) -> bytes:
    """A JPEG of some kilobytes: pictures to be shown are kept as files, which take a tenth of their pixels' room."""
    stream = io.BytesIO()
    thumbnail(picture, THUMB).save(stream, "JPEG", quality=82)
    return stream.getvalue()
