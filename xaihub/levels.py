"""Which values of an image are black and white, where they are not 0 and 255: as its file says, else as measured."""

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Levels", "levels_of", "significant_bits", "stated_levels", "to_eight_bits"]

DEPTHS = (8, 10, 12, 14, 16)  # bits a sample, of cameras, scanners and microscopes
DARKEST = 64.0  # fractions that do not reach it are not taken for 8-bit values: they are in a unit of their own


class Levels(NamedTuple):
    """The values that become 0 and 255, and a sentence on why, "" where nothing was assumed."""

    low: float
    high: float
    notice: str = ""


def levels_of(values: NDArray[Any], what: str, stated: tuple[float, float] | None = None, depth: int = 0) -> Levels:
    """The levels of an image's values, whatever type of number they are held in.

    What the file states counts. Else values in [0, 1] and in [-1, 1] are read on these scales, whole numbers and
    larger fractions from zero on by the smallest usual depth (8, 10, 12, 14 or 16 bits) that holds them, and
    everything else (negative values as in CT, lengths, temperatures) from the smallest to the largest.

    Args:
        values: of any shape, finite.
        what: the kind of image, such as "16-bit image", for the sentence.
        stated: the values of black and white that the file, or the caller, names.
        depth: bits a sample that the file states. Of 16 it says nothing but how the samples are stored.
    """
    if stated is not None:
        low, high = stated
        return Levels(low, high, f"This {what} is read with {low:g} as black and {high:g} as white, as stated.")
    low, high = float(values.min()), float(values.max())
    whole = values.dtype.kind in "iub" or bool((values == np.floor(values)).all())
    span = f"This {what} has values from {low:g} to {high:g}"
    if not whole and low >= -1 and high <= 1:
        floor = 0.0 if low >= 0 else -1.0
        return Levels(floor, 1.0, f"{span}: they are read on a scale from {floor:g} to 1.")
    if low >= 0 and (whole or high > DARKEST):
        if values.dtype.kind == "f" and high <= 1:  # a mask, or an image that is black or white
            return Levels(0.0, 1.0, f"{span}: they are read on a scale from 0 to 1.")
        bits = next((bits for bits in (depth % 16, *DEPTHS) if high < 2**bits and bits), 0)
        if bits and bits == depth:
            return Levels(0.0, 2.0**bits - 1)
        if bits:
            return Levels(
                0.0, 2.0**bits - 1, f"This {what} has {high:g} as its largest value: it is read as {bits}-bit."
            )
    high = high if high > low else low + 1
    return Levels(
        low, high, f"{span}: the smallest becomes black, the largest white, which differs from image to image."
    )


def to_eight_bits(values: NDArray[Any], levels: Levels) -> NDArray[np.uint8]:
    """The same shape, in 0 to 255; what lies beyond the levels is black or white."""
    scale = 255 / (levels.high - levels.low)
    scaled = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)  # doubles would be big
    scaled *= np.float32(scale)
    scaled -= np.float32(levels.low * scale)
    return np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8)


def stated_levels(tags: Mapping[int, Any]) -> tuple[float, float] | None:
    """Black and white as a TIFF states them: SMinSampleValue and SMaxSampleValue, or the same without the S."""
    for low, high in ((340, 341), (280, 281)):
        found = [next(iter(np.ravel(tags[tag])), None) for tag in (low, high) if tag in tags]
        numbers = [float(value) for value in found if isinstance(value, int | float | np.number)]
        if len(numbers) == 2 and np.isfinite(numbers).all() and numbers[0] < numbers[1]:
            return numbers[0], numbers[1]
    return None


def significant_bits(data: bytes) -> int:
    """Of a grey PNG: the bits that its sBIT chunk says are used; 0 where it says nothing."""
    place = 8
    while data[:8] == b"\x89PNG\r\n\x1a\n" and place + 9 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        if kind in (b"IDAT", b"sBIT"):
            return data[place + 8] if kind == b"sBIT" and length == 1 else 0
        place += 12 + length
    return 0
