"""Headers of safetensors files: which tensors a file holds, read and checked without the tensors themselves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xaihub.untrusted import damage, json_object, most_bytes

__all__ = ["Header", "header_length", "parsed_header", "read_header"]

_HEADER = "header.safetensors"  # the kind of JSON that it is
_MOST_DIMENSIONS = 16
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4,
    "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """Header of a safetensors file, of its tensors.

    Attributes:
        shapes: name -> shape.
    """

    shapes: Mapping[str, tuple[int, ...]]

    @property
    def parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes.values())


def header_length(start: bytes, size: int) -> int:
    """Return how many bytes of JSON follow the first eight.

    Args:
        start: of the file, eight bytes at least.
        size: of the whole file, in bytes.

    Raises:
        ValueError: it is no safetensors file, or too small for its header.
    """
    if trouble := damage(start, size):
        raise ValueError(trouble)
    if len(start) < 8:
        raise ValueError(f"has only {size} bytes")
    length = int.from_bytes(start[:8], "little")
    if not 0 < length <= most_bytes(_HEADER):
        raise ValueError(f"is no safetensors file: its safetensors header is too large ({length:,} bytes)")
    if length + 8 > size:
        raise ValueError(f"was cut short: it has {size:,} bytes, and its header alone {length + 8:,}")
    return length


def parsed_header(text: bytes, size: int) -> Header:
    """The header whose JSON this is.

    Args:
        size: of the whole file, in bytes.

    Raises:
        ValueError: it describes no tensors, or others than so many bytes can hold, each its own.
    """
    try:
        entries = json_object(text, _HEADER)
        tensors = {name: _tensor(name, entry) for name, entry in entries.items() if name != "__metadata__"}
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"has no header that can be read ({str(error)[:120]})") from error
    end = 0
    for start, stop in sorted(place for _, place in tensors.values()):
        if start != end:
            raise ValueError("has a header whose tensors overlap, or leave gaps")
        end = stop
    held = size - 8 - len(text)
    if end != held:
        trouble = "was cut short" if end > held else "is no safetensors file"
        raise ValueError(f"{trouble}: its header describes {end:,} bytes of tensors, and {held:,} follow")
    return Header({name: shape for name, (shape, _) in tensors.items()})


def read_header(file: Path) -> Header:
    """The header of a file on this machine.

    Raises:
        ValueError: as `header_length` and `parsed_header`.
        OSError: it cannot be read.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(1024)
        length = header_length(start, size)
        stream.seek(8)
        return parsed_header(stream.read(length), size)


def _tensor(name: str, entry: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, int]]:
    """The shape of a tensor, and where its bytes begin and end."""
    shape, (start, stop) = tuple(entry["shape"]), entry["data_offsets"]
    numbers = (*shape, start, stop)
    if len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"{name[:80]!r} has {len(shape):,} dimensions")
    if any(type(number) is not int or not 0 <= number < 2**48 for number in numbers):
        raise ValueError(f"the shape or place of {name[:80]!r} is no whole number")
    if math.prod(shape) * _BITS[entry["dtype"]] != 8 * (stop - start):
        raise ValueError(f"{name[:80]!r} of shape {list(shape)} has {stop - start:,} bytes")
    return shape, (start, stop)
